//! Commits what is durable, and says how far behind it is.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::group::holdings::{Holding, Holdings};
use crate::group::member::{Member, Reached};
use crate::topics::TopicPartition;

/// How often durable offsets are committed.
const COMMIT_INTERVAL: Duration = Duration::from_millis(500);

/// What is to be committed. A commit costs what has moved, however many partitions there are.
#[derive(Debug)]
pub(crate) struct Commits {
    moved: BTreeSet<TopicPartition>,
    /// More has become durable since the last survey.
    has_moved: bool,
    committed_at: Instant,
    surveyed_at: Instant,
    survey_interval: Duration,
}

impl Commits {
    /// All partitions are looked at so often.
    pub(crate) fn new(survey_interval: Duration) -> Self {
        Self {
            moved: BTreeSet::new(),
            has_moved: false,
            committed_at: Instant::now(),
            surveyed_at: Instant::now(),
            survey_interval,
        }
    }

    /// More of this partition is durable.
    pub(crate) fn note(&mut self, partition: &TopicPartition) {
        self.moved.insert(partition.clone());
        self.has_moved = true;
    }

    /// Commits in the background what is durable, from time to time; whether it did look.
    pub(crate) fn work(&mut self, member: &impl Member, holdings: &mut Holdings) -> bool {
        let is_due = self.committed_at.elapsed() >= COMMIT_INTERVAL;
        if !is_due && self.survey_interval >= COMMIT_INTERVAL {
            return false;
        }
        if is_due && member.take_commit_failed() {
            for holding in holdings.iter_mut() {
                holding.committed = None;
                self.moved.insert(holding.partition().clone());
            }
        }
        if self.surveyed_at.elapsed() >= self.survey_interval {
            self.surveyed_at = Instant::now();
            self.survey(member, holdings);
        }
        if !is_due {
            return false;
        }
        self.committed_at = Instant::now();
        self.begin_commit(member, holdings);
        true
    }

    fn survey(&mut self, member: &impl Member, holdings: &mut Holdings) {
        // Reading is where it was while all is written to the log's end; to ask for thousands of positions takes 15 ms (measured).
        let has_moved = std::mem::take(&mut self.has_moved);
        if has_moved || holdings.iter().any(|one| one.hold.behind() != Some(0)) {
            self.look_at_positions(member, holdings);
        }
        for holding in holdings.iter() {
            if let Some(done) = holding.committable() {
                holding.hold.reach(done);
            }
            holding.show_lag();
        }
    }

    fn look_at_positions(&mut self, member: &impl Member, holdings: &mut Holdings) {
        for (partition, position) in member.positions() {
            // Reading goes on while a partition is let go, and what is read then is not taken: it would be committed unwritten.
            let holding = holdings.get_mut(&partition);
            if let Some(holding) = holding.filter(|holding| !holding.is_leaving) {
                holding.position = position;
                if holding.uncommitted().is_some() {
                    self.moved.insert(partition);
                }
            }
        }
    }

    fn begin_commit(&mut self, member: &impl Member, holdings: &mut Holdings) {
        let moved = std::mem::take(&mut self.moved);
        let all: Vec<Reached<'_>> = moved
            .iter()
            .filter_map(|partition| {
                let holding = holdings.get(partition)?;
                Some(reached(partition, holding, holding.uncommitted()?))
            })
            .collect();
        if all.is_empty() {
            return;
        }
        match member.begin_commit(&all) {
            Ok(()) => note_committed(holdings, &all),
            Err(error) => {
                tracing::info!(%error, "could not commit offsets; commits them again");
                self.moved.extend(moved);
            }
        }
    }
}

/// Commits the durable offsets of partitions that are about to be let go, and waits for the answer.
pub(crate) fn synchronously(
    member: &impl Member,
    holdings: &mut Holdings,
    partitions: &[TopicPartition],
) {
    let all = unsaved(holdings, partitions);
    if all.is_empty() {
        return;
    }
    match member.commit(&all) {
        Ok(()) => note_committed(holdings, &all),
        Err(error) => {
            tracing::warn!(%error, "could not commit the last offsets: some records will be written again");
        }
    }
}

/// The same, without waiting: the partitions stay this instance's.
pub(crate) fn in_background(
    member: &impl Member,
    holdings: &Holdings,
    partitions: &[TopicPartition],
) {
    let all = unsaved(holdings, partitions);
    if !all.is_empty()
        && let Err(error) = member.begin_commit(&all)
    {
        tracing::info!(%error, "could not commit the last offsets: some records will be written again");
    }
}

fn unsaved<'a>(holdings: &Holdings, partitions: &'a [TopicPartition]) -> Vec<Reached<'a>> {
    let all = partitions.iter().filter_map(|partition| {
        let holding = holdings
            .get(partition)
            .filter(|holding| holding.is_fetched)?;
        let durable = holding.hold.durable()?;
        let is_new = holding.committed.is_none_or(|had| durable > had);
        is_new.then(|| reached(partition, holding, durable))
    });
    all.collect()
}

fn note_committed(holdings: &mut Holdings, all: &[Reached<'_>]) {
    for one in all {
        if let Some(holding) = holdings.get_mut(one.partition) {
            holding.committed = Some(one.offset);
        }
    }
}

/// How far a partition has come, to be committed.
pub(crate) fn reached<'a>(
    partition: &'a TopicPartition,
    holding: &Holding,
    offset: i64,
) -> Reached<'a> {
    Reached {
        partition,
        offset,
        generation: holding.hold.generation(),
    }
}
