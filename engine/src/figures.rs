//! What is counted and measured of a topic: for `status`, and at the same place for the metrics.

mod recent;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::lock::lock;
use crate::metrics::{
    CHANGES, COALESCED, COMMIT_TO_LOG, DEAD_LETTERS, FRESHNESS, LOG_TO_ACCEPTED, LOG_TO_DURABLE,
    WRITE_SECONDS,
};
use recent::{Rate, Recent};

/// A stretch of a change's way, of which the time is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stretch {
    /// From the commit in the source until the record is in the log.
    CommitToLog,
    /// From there until the target has accepted it.
    LogToAccepted,
    /// From there until it is durable in the target.
    LogToDurable,
    /// All of it.
    CommitToDurable,
}

/// The figures of one topic since the service's start. Written once a batch, never once a record.
#[derive(Debug, Default)]
pub(crate) struct Figures(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    records: u64,
    changes: u64,
    coalesced: u64,
    diverted: u64,
    /// What the present lane has passed over, and those before it.
    passed_over: u64,
    passed_over_before: u64,
    rate: Rate,
    stretches: [Recent; 4],
    writes: usize,
    /// Since when a write is under way and none has ended.
    writing_since: Option<Instant>,
    sweeping_since: Option<Instant>,
}

/// A write that is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Writing(Arc<Figures>, Instant);

impl Figures {
    /// The topic has a lane, a new one.
    pub(crate) fn begin(&self) {
        let mut state = self.state();
        state.passed_over_before += std::mem::take(&mut state.passed_over);
    }

    /// Records are done with: written, replaced by newer ones, or put aside.
    pub(crate) fn done(&self, records: usize) {
        let mut state = self.state();
        state.records += records as u64;
        state.rate.add(records as u64);
    }

    /// Records are not written because newer ones of the same batch replace them.
    pub(crate) fn coalesced(&self, records: usize) {
        metrics::counter!(COALESCED).increment(records as u64);
        self.state().coalesced += records as u64;
    }

    /// A record was put aside.
    pub(crate) fn diverted(&self) {
        metrics::counter!(DEAD_LETTERS).increment(1);
        self.state().diverted += 1;
    }

    /// The target has passed over so many changes since the lane began.
    pub(crate) fn passed_over(&self, changes: u64) {
        let mut state = self.state();
        state.passed_over = state.passed_over.max(changes);
    }

    /// A write begins.
    pub(crate) fn write(self: &Arc<Self>) -> Writing {
        let now = Instant::now();
        let mut state = self.state();
        if state.writes == 0 {
            state.writing_since = Some(now);
        }
        state.writes += 1;
        Writing(Arc::clone(self), now)
    }

    /// Times that a stretch has taken, in seconds.
    pub(crate) fn took(&self, stretch: Stretch, seconds: impl IntoIterator<Item = f64>) {
        let histogram = match stretch {
            Stretch::CommitToLog => metrics::histogram!(COMMIT_TO_LOG),
            Stretch::LogToAccepted => metrics::histogram!(LOG_TO_ACCEPTED),
            Stretch::LogToDurable => metrics::histogram!(LOG_TO_DURABLE),
            Stretch::CommitToDurable => metrics::histogram!(FRESHNESS),
        };
        let mut state = self.state();
        let recent = &mut state.stretches[stretch as usize];
        for seconds in seconds {
            // Two clocks: what seems to come from the future is fresh.
            let seconds = seconds.max(0.0);
            histogram.record(seconds);
            recent.add(seconds);
        }
    }

    /// Whether rows below a boundary are being deleted.
    pub(crate) fn sweeps(&self, is_sweeping: bool) {
        let mut state = self.state();
        let since = state.sweeping_since;
        state.sweeping_since = is_sweeping.then(|| since.unwrap_or_else(Instant::now));
    }

    /// How long they are by now.
    pub(crate) fn sweeping_for(&self) -> Option<Duration> {
        self.state().sweeping_since.map(|since| since.elapsed())
    }

    /// How long a write is under way by now and none has ended.
    pub(crate) fn writing_for(&self) -> Option<Duration> {
        self.state().writing_since.map(|since| since.elapsed())
    }

    /// As a part of `status`.
    pub(crate) fn report(&self) -> Value {
        let state = self.state();
        let stretch = |stretch: Stretch| state.stretches[stretch as usize].report();
        json!({
            "records_per_second": state.rate.per_second(),
            "records": state.records,
            "replaced_by_newer": state.coalesced,
            "accepted": state.changes,
            "skipped_as_older": state.passed_over_before + state.passed_over,
            "diverted": state.diverted,
            "commit_to_log_ms": stretch(Stretch::CommitToLog),
            "log_to_accepted_ms": stretch(Stretch::LogToAccepted),
            "log_to_durable_ms": stretch(Stretch::LogToDurable),
            "commit_to_durable_ms": stretch(Stretch::CommitToDurable),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

impl Writing {
    /// The target has accepted so many changes.
    pub(crate) fn accepted(self, changes: usize) {
        metrics::histogram!(WRITE_SECONDS).record(self.1.elapsed());
        metrics::counter!(CHANGES).increment(changes as u64);
        self.0.state().changes += changes as u64;
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.writes -= 1;
        state.writing_since = (state.writes > 0).then(Instant::now);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::{Figures, Stretch};

    #[tokio::test(start_paused = true)]
    async fn what_a_topic_has_done() {
        let figures = Arc::new(Figures::default());
        figures.begin();
        let writing = figures.write();
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(figures.writing_for(), Some(Duration::from_secs(7)));
        writing.accepted(80);
        assert_eq!(figures.writing_for(), None);
        figures.done(100);
        figures.coalesced(19);
        figures.diverted();
        figures.passed_over(30);
        // Another lane counts from nothing.
        figures.begin();
        figures.passed_over(1);
        figures.took(Stretch::LogToDurable, [0.010, -1.0]);
        let report = figures.report();
        for (key, expected) in [
            ("records", 100),
            ("accepted", 80),
            ("replaced_by_newer", 19),
            ("skipped_as_older", 31),
            ("diverted", 1),
        ] {
            assert_eq!(report[key], expected, "{key}");
        }
        assert_eq!(report["log_to_durable_ms"]["p99"], 10.0);
        assert!(report["commit_to_log_ms"].is_null());
        // A write that nobody waits for any more.
        drop(figures.write());
        assert_eq!(figures.writing_for(), None);
    }
}
