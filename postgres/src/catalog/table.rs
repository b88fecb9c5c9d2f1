//! A table, as the catalog has it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tributary_runtime::Problem;
use tributary_schemas::table::Table;

use super::storage::Storage;

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
    /// The transactions that wrote the leaves' rows of `pg_class` (`xmin`), by leaf. TRUNCATE does, as ALTER TABLE.
    pub leaf_writers: BTreeMap<u32, u32>,
    /// How its rows are stored.
    pub storage: Storage,
    /// The numbers of the columns whose values rows lack, and have from the catalog (`atthasmissing`, in any partition).
    pub defaulted: BTreeSet<i16>,
}

/// What a table without a key lacks in its topic. Its publication has inserts and truncates only, so what else happens
/// to it is not sent, and cannot be counted.
pub fn without_key(table: &str) -> String {
    format!(
        "table {table} has no key that identifies a row: its INSERT and TRUNCATE are published, its UPDATE and DELETE are \
         not, and how many they are the source does not learn"
    )
}

/// What to do about a table without a key.
pub const KEY_REMEDY: &str = "nothing, if its rows are only ever inserted; or give it a primary key, or a unique index over NOT NULL columns \
     and ALTER TABLE … REPLICA IDENTITY USING INDEX …; REPLICA IDENTITY FULL is none: it logs whole rows, and equal ones \
     cannot be told apart. If its topic exists, rename the table in the same transaction: that begins a topic with keys";

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
        self.table.is_keyless()
    }

    /// Why old rows have values by now that no event tells of; `None` if they have not.
    #[must_use]
    pub fn given_since(&self, before: &Storage) -> Option<&'static str> {
        self.storage.given_since(before, &self.defaulted)
    }

    /// Whether the WAL may lack rows that it has by now: SET UNLOGGED and SET LOGGED each write a table anew, and leave no other
    /// trace. So does every ALTER TABLE that rewrites; it makes a new TOAST table, which VACUUM FULL, CLUSTER, SET TABLESPACE and
    /// TRUNCATE do not. Of a table without one these cannot be told apart.
    #[must_use]
    pub fn may_have_been_unlogged(&self, before: &Storage) -> bool {
        self.storage.may_have_been_unlogged(before)
    }

    /// The leaves that are `known`, with the files of now where one of these transactions gave them: each truncated the
    /// whole table, which the stream tells. Of a leaf that was altered later it is not certain that nothing else gave it
    /// another file.
    #[must_use]
    pub fn leaves_behind_truncates(
        &self,
        known: &BTreeMap<u32, LeafState>,
        truncates: &[u32],
    ) -> BTreeMap<u32, LeafState> {
        let mut leaves = known.clone();
        for (oid, state) in &mut leaves {
            let writer = self.leaf_writers.get(oid);
            let is_truncated = writer.is_some_and(|writer| truncates.contains(writer));
            if let Some(now) = self.leaves.get(oid).filter(|_| is_truncated) {
                state.filenode = now.filenode;
            }
        }
        leaves
    }

    /// `schema.table`, for messages.
    pub fn display_name(&self) -> String {
        format!("{}.{}", self.table.schema, self.table.name)
    }

    /// What somebody should know of a table whose rows cannot be told apart.
    pub fn note(&self) -> Option<Problem> {
        self.is_keyless().then(|| {
            let full = if self.full_identity {
                "; its REPLICA IDENTITY FULL changes nothing about that"
            } else {
                ""
            };
            Problem::note(format!("{}{full}", without_key(&self.display_name()))).remedy(KEY_REMEDY)
        })
    }

    /// The names of the key's columns, in key order.
    pub fn key(&self) -> Vec<String> {
        self.table.key()
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
