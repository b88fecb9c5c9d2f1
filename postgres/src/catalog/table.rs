//! A table, as the catalog has it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tributary_schemas::table::Table;

/// A table together with what the source must know to publish it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogTable {
    /// Its columns on the wire. Those of the key have a place in it only if the identity of every row is
    /// logged: see [`CatalogTable::is_keyless`].
    pub table: Table,
    /// Replica identity FULL: updates and deletes carry the whole old row.
    pub full_identity: bool,
    /// A partitioned table, published under its own name.
    pub partitioned: bool,
    /// Of a partitioned table: the relations that hold its rows. Empty for any other.
    pub leaves: BTreeMap<u32, LeafState>,
}

/// What tells a partition that stayed from one that was rewritten, or was taken out and put back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeafState {
    /// `pg_relation_filenode`
    pub(super) filenode: u32,
    /// The transactions that attached it, and the partitions above it (`pg_inherits.xmin`).
    pub(super) attached: String,
}

impl CatalogTable {
    /// Whether its rows cannot be told apart: they are only ever appended, and Postgres would refuse the
    /// application's UPDATE and DELETE in a publication of these.
    pub fn is_keyless(&self) -> bool {
        self.table
            .columns
            .iter()
            .all(|column| column.key_position.is_none())
    }

    /// `schema.table`, for messages.
    pub fn display_name(&self) -> String {
        format!("{}.{}", self.table.schema, self.table.name)
    }

    /// The names of the key's columns, in key order.
    pub fn key(&self) -> Vec<String> {
        let columns = &self.table.columns;
        let key = self.table.key_columns().into_iter();
        key.map(|index| columns[index].name.clone()).collect()
    }
}

/// A table before its columns are read.
pub(super) struct TableHead {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) partitioned: bool,
    pub(super) identity: String,
}
