//! `[snapshot]`: how existing rows are read.

use serde::Deserialize;

/// How existing rows are read.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotConfig {
    /// Whether and when existing rows are read.
    pub mode: SnapshotMode,
    /// Connections that read at the same time.
    pub workers: usize,
    /// Size of one ctid chunk, in pages of 8 KiB.
    pub chunk_pages: u32,
    /// The most rows that are read in a second, by all connections together; no limit without it.
    pub max_rows_per_second: Option<u64>,
}

/// Whether and when existing rows are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotMode {
    /// At the first start.
    #[default]
    Initial,
    /// Not at all: the topics hold what changes from the first start on. A snapshot may still be asked for.
    Never,
    /// At the first start, and then the source ends and removes its slot.
    Only,
    /// At the first start, and again, sweeping, whenever changes are missing.
    WhenNeeded,
}

impl Default for SnapshotConfig {
    fn default() -> Self {
        Self {
            mode: SnapshotMode::Initial,
            workers: 2,
            chunk_pages: 2048,
            max_rows_per_second: None,
        }
    }
}
