//! `[slot]`: how much the slot may hold on the server.

use serde::Deserialize;
use tributary_runtime::Problem;

use super::snapshot::SnapshotMode;

/// How much the slot may hold on the server, and from when on somebody is to know.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SlotConfig {
    /// A lag beyond this is a warning, in bytes of WAL.
    pub warn_lag_bytes: u64,
    /// A lag beyond this is a warning, in seconds.
    pub warn_lag_seconds: f64,
    /// The most WAL that the slot may make the server keep, in bytes; no limit without it.
    pub max_retained_bytes: Option<u64>,
    /// What to do beyond that.
    pub on_limit: OnLimit,
}

/// What to do when the slot holds more than `max_retained_bytes`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnLimit {
    /// Say so in the log, in the metrics and in `/health`.
    #[default]
    Alert,
    /// Drop the slot, so that the server lives, and read all tables again behind a new one.
    DropAndResnapshot,
}

impl Default for SlotConfig {
    fn default() -> Self {
        Self {
            warn_lag_bytes: 1 << 30,
            warn_lag_seconds: 300.0,
            max_retained_bytes: None,
            on_limit: OnLimit::Alert,
        }
    }
}

impl SlotConfig {
    pub(super) fn problems(&self, mode: SnapshotMode) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.warn_lag_seconds.is_nan() || self.warn_lag_seconds < 0.0 {
            problems.push(
                Problem::new("`slot.warn_lag_seconds` is out of range")
                    .remedy("write a number of seconds, 0 or more"),
            );
        }
        if self.on_limit == OnLimit::DropAndResnapshot && self.max_retained_bytes.is_none() {
            problems.push(
                Problem::new("`slot.on_limit` is \"drop-and-resnapshot\", but there is no limit")
                    .remedy("set slot.max_retained_bytes"),
            );
        }
        if self.on_limit == OnLimit::DropAndResnapshot && mode == SnapshotMode::Never {
            let what = "`snapshot.mode` is \"never\", but `slot.on_limit` wants snapshots";
            problems.push(Problem::new(what).remedy("change one of them"));
        }
        problems
    }
}
