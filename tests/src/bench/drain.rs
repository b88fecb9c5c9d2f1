//! Who drains a backlog, and what that took.

use anyhow::Result;
use futures::future::BoxFuture;
use serde::Serialize;

use super::backlog::Backlog;
use super::setting::Bench;

/// Something that reads a database's changes. Another one is measured beside the others by an entry in
/// [`super::run`].
pub trait Peer {
    /// Its name in the report.
    fn name(&self) -> &'static str;

    /// Brings it to the point where all that is committed from now on is its backlog, and stops it there. What
    /// reading all `rows` took, if it reads rows.
    fn prepare<'a>(
        &'a mut self,
        bench: &'a Bench<'_>,
        rows: u64,
    ) -> BoxFuture<'a, Result<Option<Drain>>>;

    /// Starts it, and stops it when it has drained the backlog.
    fn drain<'a>(
        &'a mut self,
        bench: &'a Bench<'_>,
        backlog: &'a Backlog,
    ) -> BoxFuture<'a, Result<Drain>>;
}

/// What draining one backlog, or reading all rows, took.
#[derive(Debug, Clone, Serialize)]
pub struct Drain {
    /// The peer's name.
    pub peer: &'static str,
    /// What it says of itself.
    pub version: String,
    /// From its start, or where it says so itself from the start of its stream, to the last change.
    pub seconds: f64,
    /// Changes, or rows, per second.
    pub events_per_second: f64,
    /// That rate as a part of the reference's, for the same backlog.
    pub of_reference: Option<f64>,
    /// CPU seconds of its process, from its start on, for a million of them.
    pub cpu_seconds_per_million: Option<f64>,
    /// The peak resident size of its process.
    pub peak_resident_bytes: Option<u64>,
}

impl Drain {
    /// A drain of which only the time is known.
    pub(super) fn timed(peer: &'static str, version: String, seconds: f64, events: u64) -> Self {
        Self {
            peer,
            version,
            seconds,
            events_per_second: count(events) / seconds,
            of_reference: None,
            cpu_seconds_per_million: None,
            peak_resident_bytes: None,
        }
    }
}

/// A number of changes in a calculation.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(super) fn count(events: u64) -> f64 {
    events as f64
}

/// The middle one; of two the higher. NaN of none.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
