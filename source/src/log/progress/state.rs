//! What progress says as a whole.

use std::collections::HashMap;

use tributary_schemas::Lsn;

use super::position::Position;
use super::ranges::{SnapshotRequest, TableSnapshot};
use super::tables::Tables;

/// What is known of a source behind its last committed transaction.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    /// The server's system identifier.
    pub(crate) system_id: String,
    /// The server's timeline.
    pub(crate) timeline: u32,
    pub(crate) position: Position,
    /// The entries of `postgres.tables` by which the server chooses what is counted in the position; none where it
    /// chooses otherwise. Kept while the position is amid a transaction.
    pub(crate) selection: Option<Vec<String>>,
    /// Where the signals begin that are not applied yet; `None` before the first look at their topic.
    pub(crate) signals_offset: Option<i64>,
    /// Snapshots wait until somebody lets them go on.
    pub(crate) snapshots_paused: bool,
    pub(crate) tables: Tables,
}

impl Progress {
    /// Nothing is in the log, and no slot is created yet.
    pub(crate) fn new(system_id: String, timeline: u32, position: Position) -> Self {
        Self {
            system_id,
            timeline,
            position,
            selection: None,
            signals_offset: None,
            snapshots_paused: false,
            tables: Tables::default(),
        }
    }

    /// Whether the slot's consistent point is known: before that nothing is in the log.
    pub(crate) fn has_begun(&self) -> bool {
        self.position.confirm() > Lsn::ZERO
    }

    /// Whether all rows of all tables are in the log.
    pub(crate) fn is_read(&self) -> bool {
        self.tables.values().all(|table| table.snapshot.is_none())
    }

    /// The tables' OIDs, by name (`schema.table`).
    pub(crate) fn oids(&self) -> HashMap<String, u32> {
        let tables = self.tables.values();
        tables.map(|one| (one.table.clone(), one.oid)).collect()
    }

    /// Asks for all rows of a table; a request before is replaced. Returns whether there is such a topic.
    pub(crate) fn request_snapshot(&mut self, topic: &str, request: SnapshotRequest) -> bool {
        let next_seq = self.position.seq() + 1;
        let Some(table) = self.tables.get_mut(topic) else {
            return false;
        };
        table.snapshot = Some(TableSnapshot::requested(request, next_seq));
        true
    }

    /// Whether rows of an earlier slot or server are to be swept.
    pub(crate) fn sweeps(&self) -> bool {
        let mut snapshots = self
            .tables
            .values()
            .filter_map(|table| table.snapshot.as_ref());
        snapshots.any(|snapshot| snapshot.below.is_some())
    }
}
