//! How long changes take on their way, from the source's commit until they are durable.

use std::collections::VecDeque;

use crate::figures::{Figures, Stretch};
use crate::flow::batch::Batch;
use crate::outside::now_us;

/// Changes per batch whose commit is measured, spread evenly over it.
const SAMPLES: usize = 64;

/// Batches whose changes are remembered until they are durable; of more, the oldest are not measured.
const BATCHES: usize = 256;

/// Times of accepted batches.
#[derive(Debug, Default)]
pub(crate) struct Freshness {
    waiting: VecDeque<Accepted>,
}

/// A batch of which something is to be measured once it is durable.
#[derive(Debug)]
struct Accepted {
    next_offset: i64,
    /// Microseconds since 1970.
    commits_us: Vec<i64>,
    /// When records were written to the log, in order, in milliseconds since 1970.
    logged_ms: Vec<i64>,
}

impl Freshness {
    /// A batch was accepted.
    pub(crate) fn accepted(&mut self, batch: &Batch, figures: &Figures) {
        let step = batch.entries.len().div_ceil(SAMPLES).max(1);
        let commits = batch.entries.iter().step_by(step);
        let commits_us: Vec<_> = commits.filter_map(|entry| entry.commit_time_us).collect();
        let times = batch.records.times();
        let logged_ms: Vec<_> = times.iter().map(|(_, at_ms)| at_ms).collect();
        if commits_us.is_empty() && logged_ms.is_empty() {
            return;
        }
        let before_log = times.iter().filter_map(|(index, at_ms)| {
            let entries = &batch.entries;
            let entry = entries.binary_search_by_key(&index, |entry| entry.record);
            let commit_us = entries[entry.ok()?].commit_time_us?;
            Some(seconds(at_ms * 1_000 - commit_us))
        });
        figures.took(Stretch::CommitToLog, before_log);
        let now_us = now_us();
        let since_log = logged_ms
            .iter()
            .map(|at_ms| seconds(now_us - at_ms * 1_000));
        figures.took(Stretch::LogToAccepted, since_log);
        if self.waiting.len() == BATCHES {
            self.waiting.pop_front();
        }
        self.waiting.push_back(Accepted {
            next_offset: batch.next_offset(),
            commits_us,
            logged_ms,
        });
    }

    /// Everything below `offset` is durable. Returns the log's time of one of the newest of these records, where something was
    /// measured.
    pub(crate) fn durable(&mut self, offset: i64, figures: &Figures) -> Option<i64> {
        let now_us = now_us();
        let mut newest_ms = None;
        let is_durable = |accepted: &mut Accepted| accepted.next_offset <= offset;
        while let Some(accepted) = self.waiting.pop_front_if(is_durable) {
            let commits = accepted.commits_us.iter();
            let since_commit = commits.map(|commit_us| seconds(now_us - commit_us));
            figures.took(Stretch::CommitToDurable, since_commit);
            let logged = accepted.logged_ms.iter();
            let since_log = logged.map(|at_ms| seconds(now_us - at_ms * 1_000));
            figures.took(Stretch::LogToDurable, since_log);
            newest_ms = accepted.logged_ms.last().copied().max(newest_ms);
        }
        newest_ms
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds since 1970 fit 53 bits until 2255"
)]
fn seconds(time_us: i64) -> f64 {
    time_us as f64 / 1e6
}
