//! The output plug-ins of a slot.

use serde::Deserialize;

/// The output plug-in of the slot. A slot keeps the one that it was created with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Plugin {
    /// Postgres' own.
    #[default]
    Pgoutput,
    /// For servers where pgoutput cannot be had; what it cannot carry stands in docs/plugins.md.
    Wal2json,
}

impl Plugin {
    /// Its name, as Postgres has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pgoutput => "pgoutput",
            Self::Wal2json => "wal2json",
        }
    }
}
