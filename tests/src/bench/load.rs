//! What loading a target took.

use serde::Serialize;

use super::drain::{count, median};

/// The table that is loaded.
pub(super) const TABLE: &str = "s.t";
/// As pgbench's accounts.
pub(super) const COLUMNS: &str = "id int PRIMARY KEY, bid int, balance int, filler char(84)";
/// The target of the warehouse sink.
pub(super) const WAREHOUSE: &str = "warehouse";
/// The target of the search sink.
pub(super) const SEARCH: &str = "search";
/// This build's sinks.
pub(super) const OURS: [&str; 2] = ["sink-redshift", "sink-elastic"];

/// What one peer took to load all rows, in the order of the rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Load {
    /// Where the rows went.
    pub target: &'static str,
    /// Who loaded them.
    pub peer: &'static str,
    /// How many rows they are.
    pub rows: u64,
    /// From exec, from the first byte, or for a sink of Kafka Connect from its first row, to the last row.
    pub seconds: Vec<f64>,
    /// CPU seconds of the process for a million rows; of Kafka Connect only those behind its first row.
    pub cpu_seconds_per_million: Vec<f64>,
    /// The peak resident size of the process.
    pub peak_resident_bytes: Vec<u64>,
}

impl Load {
    pub(super) const fn new(target: &'static str, peer: &'static str, rows: u64) -> Self {
        Self {
            target,
            peer,
            rows,
            seconds: Vec::new(),
            cpu_seconds_per_million: Vec::new(),
            peak_resident_bytes: Vec::new(),
        }
    }

    /// Rows a second, of the median time.
    pub(super) fn rate(&self) -> f64 {
        count(self.rows) / median(&self.seconds)
    }

    /// Notes what one run took: its time, and of the process CPU seconds and peak size.
    pub(super) fn add(&mut self, seconds: f64, cpu_seconds: f64, peak: u64) {
        self.seconds.push(seconds);
        self.cpu_seconds_per_million
            .push(cpu_seconds / count(self.rows) * 1e6);
        self.peak_resident_bytes.push(peak);
    }

    /// Its median CPU seconds for a million rows; `None` for a load that has no process of its own.
    pub(super) fn cpu(&self) -> Option<f64> {
        Some(median(&self.cpu_seconds_per_million)).filter(|cpu| !cpu.is_nan())
    }
}
