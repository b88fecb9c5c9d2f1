//! What loading a target took.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use super::drain::{count, median};
use crate::usage::Machine;

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
    /// CPU seconds of the whole machine for a million rows, servers included; of raw loads and of ours.
    pub machine_seconds_per_million: Vec<f64>,
    /// The share of the machine's processors that had nothing to do meanwhile, from 0 to 1.
    pub idle: Vec<f64>,
}

/// Times a load, and sees what the machine does meanwhile.
#[derive(Debug)]
pub(super) struct Meter {
    began: Instant,
    machine: Machine,
}

/// What a [`Meter`] saw.
#[derive(Debug)]
pub(super) struct Measured {
    seconds: f64,
    /// CPU seconds of the whole machine.
    busy: f64,
    /// The share of the processors that had nothing to do.
    idle: f64,
}

impl Meter {
    pub(super) fn start() -> Result<Self> {
        let machine = Machine::now()?;
        let began = Instant::now();
        Ok(Self { began, machine })
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) fn stop(&self) -> Result<Measured> {
        let seconds = self.began.elapsed().as_secs_f64();
        let now = Machine::now()?;
        let busy = now.busy - self.machine.busy;
        let idle = now.idle - self.machine.idle;
        Ok(Measured {
            seconds,
            busy,
            idle: idle / (busy + idle),
        })
    }
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
            machine_seconds_per_million: Vec::new(),
            idle: Vec::new(),
        }
    }

    /// Rows a second, of the median time.
    pub(super) fn rate(&self) -> f64 {
        count(self.rows) / median(&self.seconds)
    }

    /// Notes how long one run took, and what the machine did meanwhile.
    pub(super) fn measured(&mut self, measured: &Measured) {
        self.seconds.push(measured.seconds);
        self.machine_seconds_per_million
            .push(measured.busy / count(self.rows) * 1e6);
        self.idle.push(measured.idle);
    }

    /// Notes what one run took: its time, and of the process CPU seconds and peak size.
    pub(super) fn add(&mut self, seconds: f64, cpu_seconds: f64, peak: u64) {
        self.seconds.push(seconds);
        self.used(cpu_seconds, peak);
    }

    /// Notes what the process of one run used: CPU seconds and peak size.
    pub(super) fn used(&mut self, cpu_seconds: f64, peak: u64) {
        self.cpu_seconds_per_million
            .push(cpu_seconds / count(self.rows) * 1e6);
        self.peak_resident_bytes.push(peak);
    }

    /// Its median CPU seconds for a million rows; `None` for a load that has no process of its own.
    pub(super) fn cpu(&self) -> Option<f64> {
        Some(median(&self.cpu_seconds_per_million)).filter(|cpu| !cpu.is_nan())
    }
}
