//! The events of the open transaction, counted for its metadata.

use std::collections::BTreeMap;

use tributary_schemas::encode::{TransactionBlock, TransactionId};

/// Counts from the transaction's first event on, also of those that the log has already: the END says how many
/// there are in all, wherever the source was restarted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    total: i64,
    /// By `schema.table`.
    tables: BTreeMap<String, i64>,
}

impl Tally {
    /// Counts an event of a table: its place in the transaction.
    pub(super) fn count(&mut self, table: &str, id: TransactionId) -> TransactionBlock {
        self.total += 1;
        let of_table = match self.tables.get_mut(table) {
            Some(count) => {
                *count += 1;
                *count
            }
            None => {
                self.tables.insert(table.to_owned(), 1);
                1
            }
        };
        TransactionBlock {
            id,
            total_order: self.total,
            data_collection_order: of_table,
        }
    }

    /// Whether nothing was counted.
    pub(super) const fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// The number of events of each table.
    pub(super) fn tables(&self) -> impl ExactSizeIterator<Item = (&str, i64)> + Clone {
        self.tables
            .iter()
            .map(|(table, count)| (table.as_str(), *count))
    }
}
