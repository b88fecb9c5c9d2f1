//! All that happens to a search sink and its tables, known before it begins.

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::property::table::Table;
use crate::property::workload::{RandomWorkload, Transaction};

/// Connections that change rows at the same time.
const WORKERS: usize = 2;
/// Each table has as many; so many numbers say how far back each is set.
const PARTITIONS: usize = 3;

/// What a seed makes.
#[derive(Debug)]
pub(super) struct History {
    pub(super) tables: Vec<Table>,
    pub(super) fill: Transaction,
    /// The index of the first table has a field that refuses some of its column's values.
    pub(super) refuses: bool,
    pub(super) episodes: Vec<Episode>,
}

/// Changes and events beside them, between two comparisons.
#[derive(Debug)]
pub(super) struct Episode {
    /// What each connection does: how long it waits, in milliseconds, and then this.
    pub(super) workers: Vec<Vec<(u64, Transaction)>>,
    /// One after the other, each behind as many milliseconds.
    pub(super) events: Vec<(u64, Incident)>,
}

/// What happens beside the changes.
#[derive(Debug, Clone)]
pub(super) enum Incident {
    /// SIGKILL, and a start.
    KillSink,
    /// SIGTERM, and a start.
    RestartSink,
    KillSource,
    /// One topic, or all, is not written for so many milliseconds.
    Pause {
        table: Option<usize>,
        ms: u64,
    },
    /// While no sink runs, each partition's offset is set to so many thousandths of itself.
    SetBack(Vec<i64>),
    /// While no sink runs, its group is deleted: it reads from the beginning.
    ForgetGroup,
    /// A second instance joins, and leaves after so many milliseconds.
    Second {
        ms: u64,
        is_killed: bool,
    },
    /// The source reads a table again, and all that is not there any more is swept.
    Snapshot {
        table: usize,
        sweeps: bool,
    },
    /// Letters are written again, where the sink has any.
    Replay,
    /// Begins, and goes on beside the events that follow.
    Reindex {
        table: usize,
        fate: Fate,
    },
}

/// How a reindex ends.
#[derive(Debug, Clone)]
pub(super) enum Fate {
    Done,
    /// Killed at each of these, and run again.
    Killed(Vec<Moment>),
    /// Killed, and given up.
    Abandoned(Moment),
}

/// When a reindex is killed.
#[derive(Debug, Clone)]
pub(super) enum Moment {
    Failpoint(&'static str),
    AfterMs(u64),
}

impl Incident {
    /// What it is called where events are counted.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::KillSink => "sink killed",
            Self::RestartSink => "sink restarted",
            Self::KillSource => "source killed",
            Self::Pause { .. } => "sink paused",
            Self::SetBack(_) => "offsets set back",
            Self::ForgetGroup => "group deleted",
            Self::Second { .. } => "second instance",
            Self::Snapshot { .. } => "table read again",
            Self::Replay => "letters replayed",
            Self::Reindex { fate, .. } => match fate {
                Fate::Done => "reindex",
                Fate::Killed(_) => "reindex killed",
                Fate::Abandoned(_) => "reindex abandoned",
            },
        }
    }
}

impl History {
    /// The same for the same seed. A short one has fewer episodes, and no reindex that is killed.
    pub(super) fn of(seed: u64, is_short: bool) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let rng = &mut rng;
        let tables = tables();
        let mut workload = RandomWorkload::default();
        let fill = workload.fill(rng, &tables);
        let refuses = !is_short && rng.random_bool(0.4);
        let count = if is_short { 1 } else { rng.random_range(2..=4) };
        let episodes = (0..count).map(|_| Episode::generate(rng, &mut workload, &tables, is_short));
        Self {
            episodes: episodes.collect(),
            fill,
            refuses,
            tables,
        }
    }
}

/// The column of the first table of which an index may refuse values, and those that it takes.
pub(super) const REFUSED: (&str, &str) = ("count", "BETWEEN -128 AND 127");

/// A simple key, a key of two columns, and values that are stored out of line.
fn tables() -> Vec<Table> {
    let plain = [
        ("id", "integer", true),
        ("name", "varchar(40)", false),
        ("price", "numeric(10,2)", false),
        ("there", "boolean", false),
        ("count", "smallint", false),
    ];
    let paired = [
        ("note", "char(9)", false),
        ("region", "varchar(40)", true),
        ("number", "bigint", true),
        ("stock", "integer", false),
    ];
    let large = [
        ("id", "smallint", true),
        ("body", "text", false),
        ("more", "text", false),
        ("count", "integer", false),
    ];
    vec![
        Table::of("s", "plain", &plain),
        Table::of("s", "paired", &paired),
        Table::of("s", "large", &large),
    ]
}

impl Episode {
    fn generate(
        rng: &mut SmallRng,
        workload: &mut RandomWorkload,
        tables: &[Table],
        is_short: bool,
    ) -> Self {
        let mut events = Vec::new();
        let mut reindexed = Vec::new();
        for _ in 0..rng.random_range(2..=5) {
            let event = any_event(rng, tables.len(), is_short);
            if let Incident::Reindex { table, .. } = event {
                // A second one of an index is refused while the first runs.
                if reindexed.contains(&table) {
                    continue;
                }
                reindexed.push(table);
            }
            events.push((rng.random_range(0..600), event));
        }
        // Rows change for about as long as the events take.
        let pause = if reindexed.is_empty() { 200 } else { 500 };
        let mut transaction = || {
            (
                rng.random_range(0..pause),
                workload.transaction(rng, tables),
            )
        };
        let count = if is_short { 8 } else { 15 };
        Self {
            workers: (0..WORKERS)
                .map(|_| (0..count).map(|_| transaction()).collect())
                .collect(),
            events,
        }
    }
}

fn any_event(rng: &mut SmallRng, tables: usize, is_short: bool) -> Incident {
    let table = rng.random_range(0..tables);
    match rng.random_range(0..21) {
        0..3 => Incident::KillSink,
        3 => Incident::RestartSink,
        4 | 5 => Incident::KillSource,
        6 | 7 => Incident::Pause {
            table: rng.random_bool(0.5).then_some(table),
            ms: rng.random_range(50..1_500),
        },
        8 | 9 => Incident::SetBack(
            (0..tables * PARTITIONS)
                .map(|_| rng.random_range(0..=1_000))
                .collect(),
        ),
        10 => Incident::ForgetGroup,
        11 | 12 => Incident::Second {
            ms: rng.random_range(0..3_000),
            is_killed: rng.random_bool(0.3),
        },
        13 => Incident::Snapshot {
            table,
            sweeps: rng.random_bool(0.5),
        },
        14 => Incident::Replay,
        _ => Incident::Reindex {
            table,
            fate: fate(rng, is_short),
        },
    }
}

fn fate(rng: &mut SmallRng, is_short: bool) -> Fate {
    match rng.random_range(0..10) {
        _ if is_short => Fate::Done,
        0..5 => Fate::Done,
        5..8 => Fate::Killed((0..rng.random_range(1..=2)).map(|_| moment(rng)).collect()),
        _ => Fate::Abandoned(moment(rng)),
    }
}

fn moment(rng: &mut SmallRng) -> Moment {
    // One between any two of its steps: see docs/adr/0013-reindex.md.
    let failpoints = [
        "reindex-created",
        "reindex-reading",
        "reindex-blocked",
        "reindex-swapped",
        "reindex-deleted",
    ];
    match failpoints.choose(rng) {
        Some(name) if rng.random_bool(0.6) => Moment::Failpoint(name),
        _ => Moment::AfterMs(rng.random_range(0..3_000)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::History;

    #[test]
    fn a_seed_draws_the_same_history_again() {
        let drawn = |seed| format!("{:?}", History::of(seed, false));
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
    }

    #[test]
    fn every_event_is_drawn() {
        let histories = (0..12).map(|seed| History::of(seed, false));
        let episodes = histories.flat_map(|history| history.episodes);
        let events = episodes.flat_map(|episode| episode.events);
        let names: BTreeSet<_> = events.map(|(_, event)| event.name()).collect();
        assert_eq!(names.len(), 12, "{names:?}");
    }
}
