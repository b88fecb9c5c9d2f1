//! What wal2json's records lack: OIDs, modifiers, generated and TOASTed columns, the identity. The catalog knows.

use tributary_schemas::Lsn;

use crate::pgoutput::ReplicaIdentity;

/// The catalog's word on one table.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// It covers all that was committed up to here, and may cover more.
    pub(crate) read_at: Lsn,
    /// Zero for a table that the catalog does not have any more, and that we never knew.
    pub(crate) oid: u32,
    pub(crate) identity: ReplicaIdentity,
    /// An ordinary table: not partitioned, no partition, not unlogged.
    pub(crate) ordinary: bool,
    /// Empty if the table is gone.
    pub(crate) columns: Vec<ColumnFacts>,
    pub(crate) has_generated: bool,
}

/// The catalog's word on one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ColumnFacts {
    pub(crate) name: String,
    pub(crate) attnum: i16,
    pub(crate) type_oid: u32,
    pub(crate) type_modifier: i32,
    /// As `format_type` prints it.
    pub(crate) type_name: String,
    /// Of variable length: an update may leave it out.
    pub(crate) toastable: bool,
    /// Computed: pgoutput does not send it.
    pub(crate) generated: bool,
    /// Part of what identifies a row.
    pub(crate) key: bool,
}

impl Facts {
    pub(crate) fn column(&self, name: &[u8]) -> Option<&ColumnFacts> {
        self.columns
            .iter()
            .find(|column| column.name.as_bytes() == name)
    }

    pub(crate) fn is_generated(&self, name: &[u8]) -> bool {
        self.has_generated && self.column(name).is_some_and(|column| column.generated)
    }
}
