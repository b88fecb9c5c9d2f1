//! What a signal changes in the progress record. Pure: the record is written in the Kafka transaction that also moves
//! the signals' offset, so each signal counts exactly once.

use super::inbox::Received;
use super::signal::{Action, Request, Signal};
use crate::log::progress::Progress;
use crate::log::progress::{SnapshotRequest, TableSnapshot};
use crate::telemetry;
use tributary_postgres::catalog::TablePattern;

/// What became of a signal.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Topics of tables whose reading is begun anew, or ended.
    pub(crate) abandoned: Vec<String>,
    /// For the log, what is done.
    pub(crate) done: Vec<String>,
    /// For the log, what is not done, and why.
    pub(crate) refused: Vec<String>,
}

impl Outcome {
    fn refuse(reason: impl Into<String>) -> Self {
        Self {
            refused: vec![reason.into()],
            ..Self::default()
        }
    }
}

/// Applies a signal and says so; `None` if it is for another source.
pub(crate) fn obey(received: &Received, source: &str, progress: &mut Progress) -> Option<Outcome> {
    let offset = received.offset;
    let applied = apply(received, source, progress);
    let outcome = match &applied {
        None => "other",
        Some(applied) if applied.refused.is_empty() => "applied",
        Some(_) => "refused",
    };
    metrics::counter!(telemetry::SIGNALS, "outcome" => outcome).increment(1);
    for done in applied.iter().flat_map(|applied| &applied.done) {
        tracing::info!(offset, "signal: {done}");
    }
    for reason in applied.iter().flat_map(|applied| &applied.refused) {
        tracing::warn!(offset, reason, "a signal is passed over");
    }
    applied
}

/// Applies a record of the signals topic. `progress.position` is where the stream stands; `None` if the signal is
/// for another source.
fn apply(received: &Received, source: &str, progress: &mut Progress) -> Option<Outcome> {
    progress.signals_offset = Some(received.offset + 1);
    let action = match &received.signal {
        Err(reason) => return Some(Outcome::refuse(reason)),
        Ok(signal) if !signal.is_for(source) => return None,
        Ok(Signal { action, .. }) => action,
    };
    Some(match action {
        Action::Snapshot(requests) => {
            let mut applied = Outcome::default();
            for request in requests {
                snapshot(request, progress, &mut applied);
            }
            applied
        }
        Action::Pause => {
            progress.snapshots_paused = true;
            let unread = progress.tables.iter().filter(|(_, t)| t.snapshot.is_some());
            Outcome {
                abandoned: unread.map(|(topic, _)| topic.clone()).collect(),
                done: vec!["snapshots pause".to_owned()],
                refused: Vec::new(),
            }
        }
        Action::Resume => {
            progress.snapshots_paused = false;
            Outcome {
                done: vec!["snapshots go on".to_owned()],
                ..Outcome::default()
            }
        }
        Action::Cancel(tables) => cancel(tables.as_deref(), progress),
    })
}

fn snapshot(request: &Request, progress: &mut Progress, applied: &mut Outcome) {
    for pattern in &request.tables {
        let topics = matching(pattern, progress);
        if topics.is_empty() {
            applied
                .refused
                .push(format!("no table of this source is {pattern}"));
        }
        for (topic, table) in topics {
            let known = progress
                .tables
                .get(&topic)
                .and_then(|t| t.snapshot.as_ref());
            match agreed(known, request) {
                Err(reason) => applied.refused.push(format!("table {table}: {reason}")),
                Ok(None) => applied
                    .done
                    .push(format!("table {table} is being read already")),
                Ok(Some((wanted, on_request))) => {
                    progress.request_snapshot(&topic, wanted);
                    let asked = progress.tables.get_mut(&topic);
                    if let Some(snapshot) = asked.and_then(|t| t.snapshot.as_mut()) {
                        snapshot.on_request = on_request;
                    }
                    applied.done.push(format!("table {table} is read again"));
                    applied.abandoned.push(topic);
                }
            }
        }
    }
}

/// What is asked for, given what is under way, and whether the topic is whole without it. Rows that the topic lacks
/// are read whatever is asked for.
fn agreed(
    known: Option<&TableSnapshot>,
    request: &Request,
) -> Result<Option<(SnapshotRequest, bool)>, &'static str> {
    let wanted = SnapshotRequest {
        sweep: request.sweep,
        filter: request.filter.clone(),
    };
    match known.filter(|known| !known.on_request) {
        None => Ok(Some((wanted, true))),
        Some(_) if request.filter.is_some() => Err(
            "rows that its topic lacks are being read, which comes first: ask again when that is done",
        ),
        // Of a condition of our own only the rows of some partitions are read.
        Some(known) if known.filter.is_some() || (request.sweep && known.below.is_none()) => {
            Ok(Some((wanted, false)))
        }
        Some(_) => Ok(None),
    }
}

fn cancel(tables: Option<&[TablePattern]>, progress: &mut Progress) -> Outcome {
    let mut applied = Outcome::default();
    for (topic, table) in progress.tables.iter_mut() {
        let Some(snapshot) = &table.snapshot else {
            continue;
        };
        let meant =
            tables.is_none_or(|patterns| patterns.iter().any(|pattern| is(pattern, &table.table)));
        if !meant {
            continue;
        }
        if snapshot.on_request {
            table.snapshot = None;
            applied.abandoned.push(topic.clone());
            applied.done.push(format!(
                "the snapshot of table {} is cancelled",
                table.table
            ));
        } else {
            applied.refused.push(format!(
                "table {}: without this snapshot its topic lacks rows; pause it instead",
                table.table
            ));
        }
    }
    if applied == Outcome::default() {
        applied
            .done
            .push("there is no snapshot to cancel".to_owned());
    }
    applied
}

/// Whether the pattern matches `schema.table` as progress has it: names unquoted, so that a dot in one of them is
/// tried as the one between the two as well.
fn is(pattern: &TablePattern, name: &str) -> bool {
    name.match_indices('.').any(|(dot, _)| {
        let (schema, table) = name.split_at(dot);
        pattern.matches(schema, table.get(1..).unwrap_or_default())
    })
}

/// Topic and name of the tables that match and are there: the rows of one that is gone, or not selected any more,
/// cannot be read.
fn matching(pattern: &TablePattern, progress: &Progress) -> Vec<(String, String)> {
    let tables = progress.tables.iter();
    tables
        .filter(|(_, table)| !table.followed.absent && is(pattern, &table.table))
        .map(|(topic, table)| (topic.clone(), table.table.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use tributary_schemas::Lsn;

    use super::{Outcome, apply};
    use crate::log::progress::{Position, Progress, TableProgress};
    use crate::log::progress::{SnapshotRequest, TableSnapshot};
    use crate::run::signals::{Received, Signal};

    fn progress() -> Progress {
        let position = Position::at_consistent_point(Lsn(5), 70);
        let mut progress = Progress::new("1".to_owned(), 1, position);
        for name in ["s.t", "s.u", "a.b"] {
            let table = TableProgress {
                table: name.to_owned(),
                oid: 9,
                partitions: 1,
                key_schema_id: Some(4),
                topic_id: None,
                followed: crate::log::progress::Followed::default(),
                snapshot: None,
            };
            progress.tables.insert(format!("p.{name}"), table);
        }
        progress
    }

    fn signal(progress: &mut Progress, text: &str) -> Option<Outcome> {
        let offset = progress.signals_offset.unwrap_or_default();
        let signal = Signal::parse(Some(text.as_bytes()));
        let applied = apply(&Received { offset, signal }, "shop", progress);
        assert_eq!(progress.signals_offset, Some(offset + 1), "whatever it is");
        applied
    }

    fn of<'a>(progress: &'a Progress, name: &str) -> Option<&'a TableSnapshot> {
        progress.tables[&format!("p.{name}")].snapshot.as_ref()
    }

    #[test]
    fn a_snapshot_is_asked_for_replaced_and_cancelled() {
        let mut progress = progress();
        let text = r#"{"type":"snapshot","tables":["s.*"],"sweep":true}"#;
        let applied = signal(&mut progress, text).unwrap();
        assert_eq!(applied.abandoned, ["p.s.t", "p.s.u"]);
        assert_eq!(of(&progress, "s.t").unwrap().below, Some(71));
        assert!(of(&progress, "s.u").unwrap().on_request && of(&progress, "a.b").is_none());
        let text = r#"{"type":"snapshot","tables":["s.t"],"where":"id > 7"}"#;
        signal(&mut progress, text).unwrap();
        assert_eq!(
            of(&progress, "s.t").unwrap().filter.as_deref(),
            Some("id > 7")
        );
        let text = r#"{"type":"cancel","tables":["s.t"]}"#;
        assert_eq!(signal(&mut progress, text).unwrap().abandoned, ["p.s.t"]);
        assert!(of(&progress, "s.t").is_none() && of(&progress, "s.u").is_some());
        assert_eq!(
            signal(&mut progress, r#"{"type":"cancel"}"#)
                .unwrap()
                .abandoned,
            ["p.s.u"]
        );
    }

    #[test]
    fn rows_that_the_topic_lacks_are_read_whatever_is_asked_for() {
        let mut progress = progress();
        assert!(progress.request_snapshot("p.s.t", SnapshotRequest::default()));
        let refused = |progress: &mut Progress, text| {
            let applied = signal(progress, text).unwrap();
            assert!(
                applied.abandoned.is_empty() && applied.refused.len() == 1,
                "{applied:?}"
            );
            assert!(of(progress, "s.t").is_some_and(|one| one.filter.is_none()));
        };
        refused(&mut progress, r#"{"type":"cancel"}"#);
        refused(
            &mut progress,
            r#"{"type":"snapshot","tables":["s.t"],"where":"id > 7"}"#,
        );
        let text = r#"{"type":"snapshot","tables":["s.t"]}"#;
        assert!(signal(&mut progress, text).unwrap().abandoned.is_empty());
        let text = r#"{"type":"snapshot","tables":["s.t"],"sweep":true}"#;
        assert_eq!(signal(&mut progress, text).unwrap().abandoned, ["p.s.t"]);
        let snapshot = of(&progress, "s.t").unwrap();
        assert!(snapshot.below.is_some() && !snapshot.on_request);
    }

    #[test]
    fn a_bag_that_is_begun_is_not_cancelled() {
        let mut progress = progress();
        signal(
            &mut progress,
            r#"{"type":"snapshot","tables":["s.t","s.u"]}"#,
        )
        .unwrap();
        progress.tables.get_mut("p.s.t").unwrap().begin_bag();
        let applied = signal(&mut progress, r#"{"type":"cancel"}"#).unwrap();
        assert_eq!(applied.abandoned, ["p.s.u"]);
        assert!(
            applied.refused[0].contains("table s.t: without this snapshot its topic lacks rows")
        );
        assert!(of(&progress, "s.t").is_some());
    }

    #[test]
    fn a_table_of_which_partitions_are_read_is_not_being_read_already() {
        let mut progress = progress();
        let partitions = SnapshotRequest {
            sweep: false,
            filter: Some("tableoid IN (7)".to_owned()),
        };
        assert!(progress.request_snapshot("p.s.t", partitions));
        let narrower = r#"{"type":"snapshot","tables":["s.t"],"where":"id > 7"}"#;
        assert_eq!(signal(&mut progress, narrower).unwrap().refused.len(), 1);
        assert!(of(&progress, "s.t").unwrap().filter.is_some());
        let text = r#"{"type":"snapshot","tables":["s.t"]}"#;
        assert_eq!(signal(&mut progress, text).unwrap().abandoned, ["p.s.t"]);
        let all = of(&progress, "s.t").unwrap();
        assert!(
            all.filter.is_none() && !all.on_request,
            "it cannot be cancelled"
        );
        let applied = signal(&mut progress, text).unwrap();
        assert_eq!(applied.done, ["table s.t is being read already"]);
    }

    #[test]
    fn a_table_that_is_gone_is_not_read() {
        let mut progress = progress();
        let gone = progress.tables.get_mut("p.s.t").unwrap();
        gone.followed.absent = true;
        let applied = signal(&mut progress, r#"{"type":"snapshot","tables":["s.t"]}"#).unwrap();
        assert_eq!((applied.refused.len(), applied.done.len()), (1, 0));
        let applied = signal(&mut progress, r#"{"type":"snapshot","tables":["s.*"]}"#).unwrap();
        assert_eq!(applied.abandoned, ["p.s.u"]);
        assert!(of(&progress, "s.t").is_none());
    }

    #[test]
    fn pause_outlives_what_it_interrupts() {
        let mut progress = progress();
        progress.request_snapshot("p.s.t", SnapshotRequest::default());
        let applied = signal(&mut progress, r#"{"type":"pause"}"#).unwrap();
        assert_eq!(applied.abandoned, ["p.s.t"]);
        assert!(progress.snapshots_paused);
        signal(&mut progress, r#"{"type":"resume","source":"shop"}"#).unwrap();
        assert!(!progress.snapshots_paused && of(&progress, "s.t").is_some());
    }

    #[test]
    fn what_is_wrong_or_for_others_moves_the_offset_and_nothing_else() {
        let mut progress = progress();
        assert_eq!(
            signal(&mut progress, r#"{"type":"pause","source":"other"}"#),
            None
        );
        for wrong in ["x", r#"{"type":"snapshot","tables":["s.x"]}"#] {
            let applied = signal(&mut progress, wrong).unwrap();
            assert_eq!((applied.refused.len(), applied.done.len()), (1, 0));
        }
        assert!(!progress.snapshots_paused);
        assert_eq!(progress.signals_offset, Some(3));
    }
}
