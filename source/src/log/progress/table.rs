//! What progress says of a table.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tributary_postgres::catalog::{CatalogTable, LeafState, Storage};

use super::ranges::TableSnapshot;

/// So many TRUNCATEs of a table are remembered: where more come between two looks at the catalog, the table is read again.
const TRUNCATES: usize = 16;

/// What must not change about a table as long as its topic lives, and how far its rows are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableProgress {
    /// `schema.table` as Postgres has it.
    pub(crate) table: String,
    /// The table's OID.
    pub(crate) oid: u32,
    /// Partitions that keys are spread over, whatever the topic grows to.
    pub(crate) partitions: i32,
    /// The registry's id of the key schema, which is part of every key's bytes; none without a key.
    pub(crate) key_schema_id: Option<u32>,
    /// The topic's id: another one is another topic, of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) topic_id: Option<String>,
    /// What the catalog said of it when its topic began, or was read again.
    #[serde(default)]
    pub(crate) followed: Followed,
    /// Its rows on their way into the log; `None` when they all are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) snapshot: Option<TableSnapshot>,
}

/// What is remembered of a table to see what the stream does not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Followed {
    /// The names of the key's columns, in key order.
    pub(crate) key: Vec<String>,
    /// [`Members::place`](tributary_postgres::publication::Members::place)
    #[serde(alias = "member")]
    pub(crate) place: u64,
    /// [`CatalogTable::leaves`]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) leaves: BTreeMap<u32, LeafState>,
    /// Of a partitioned table: the newest transactions that truncated it as a whole, which the stream has told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) truncates: Vec<u32>,
    /// Of the array columns with several dimensions how many, by name. A Relation message does not say, nor does the
    /// catalog of a column that was renamed or dropped since.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) dimensions: BTreeMap<String, usize>,
    /// [`CatalogTable::storage`]; none in a record of an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) storage: Option<Storage>,
    /// The key, or the type of a column, was another one once: the value schemas from before are no measure for later ones.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) rekeyed: bool,
    /// The table is gone, renamed, or not selected any more: its changes since are not in the topic.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) absent: bool,
}

impl TableProgress {
    /// Whether its rows cannot be told apart: its records have no keys.
    pub(crate) const fn is_keyless(&self) -> bool {
        self.key_schema_id.is_none()
    }

    /// The table is not followed any more: what its topic holds is brought up to date when it is back.
    pub(crate) fn leave(&mut self) {
        self.followed.leave();
        self.snapshot = None;
    }

    /// The rows that its topic had are gone from the log, and those that it has now are read: without the rest of them the
    /// topic would lack rows, whoever asked for this.
    pub(crate) const fn begin_bag(&mut self) {
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.on_request = false;
        }
    }

    /// Ends its snapshot, if all rows are read, and returns it: those in the log that are not among them are gone, as its
    /// `below` says.
    pub(crate) fn take_complete(&mut self) -> Option<TableSnapshot> {
        self.snapshot.take_if(|snapshot| snapshot.is_complete())
    }
}

impl Followed {
    /// Takes over where a table is in the catalog.
    pub(crate) fn place(&mut self, place: u64, table: &CatalogTable) {
        self.place = place;
        self.leaves.clone_from(&table.leaves);
        self.store(table);
    }

    /// The table is not followed any more. What is only compared with the catalog is forgotten.
    pub(crate) fn leave(&mut self) {
        self.absent = true;
        self.leaves.clear();
        self.truncates.clear();
        self.storage = None;
    }

    /// The stream tells that a transaction truncated the table as a whole.
    pub(crate) fn truncated(&mut self, xid: u32) {
        if self.leaves.is_empty() || self.truncates.last() == Some(&xid) {
            return;
        }
        self.truncates.push(xid);
        let old = self.truncates.len().saturating_sub(TRUNCATES);
        self.truncates.drain(..old);
    }

    /// Takes over the files that those transactions gave the partitions.
    pub(crate) fn take_over_truncates(&mut self, table: &CatalogTable) {
        if !self.truncates.is_empty() {
            self.leaves = table.leaves_behind_truncates(&self.leaves, &self.truncates);
        }
    }

    /// Takes over how a table's rows are stored.
    pub(crate) fn store(&mut self, table: &CatalogTable) {
        match &mut self.storage {
            Some(storage) => storage.follow(&table.storage),
            None => self.storage = Some(table.storage.clone()),
        }
    }
}
