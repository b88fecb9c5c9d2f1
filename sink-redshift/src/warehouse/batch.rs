//! What a transaction needs of a batch.

use tributary_engine::{Batch, Change};
use tributary_schemas::record::RecordType;

/// What a transaction needs of a batch; the tests bring their own.
pub(crate) trait Changes: Send + Sync {
    /// The partition that they come from.
    fn partition(&self) -> i32;
    /// One past the last record, control records included.
    fn next_offset(&self) -> i64;
    /// Rows with a lower `seq` are gone.
    fn below(&self) -> Option<u64>;
    /// Whether its rows were all read or inserted at the source.
    fn inserts_only(&self) -> bool;
    /// The changes in offset order, at most one per key.
    fn changes(&self) -> impl Iterator<Item = Change<'_>> + Send;
    /// Whether rows among them may lack values, for which the table's are kept.
    fn lacks_values(&self) -> bool {
        false
    }
    /// They stand below what the ledger covers, and are written all the same.
    fn is_replay(&self) -> bool {
        false
    }
}

impl Changes for Batch {
    fn partition(&self) -> i32 {
        Self::partition(self).partition
    }

    fn next_offset(&self) -> i64 {
        Self::next_offset(self)
    }

    fn below(&self) -> Option<u64> {
        Self::below(self)
    }

    fn inserts_only(&self) -> bool {
        Self::inserts_only(self)
    }

    fn changes(&self) -> impl Iterator<Item = Change<'_>> + Send {
        Self::changes(self)
    }

    fn lacks_values(&self) -> bool {
        Self::lacks_values(self)
    }

    fn is_replay(&self) -> bool {
        Self::is_replay(self)
    }
}

/// The partitions of batches.
pub(crate) fn partitions(batches: &[impl Changes]) -> Vec<i32> {
    batches.iter().map(Changes::partition).collect()
}

/// The topic's partitions that batches come from, as a message names them.
pub(crate) fn name_of(topic: &str, batches: &[impl Changes]) -> String {
    let numbers: Vec<_> = batches
        .iter()
        .map(|batch| batch.partition().to_string())
        .collect();
    format!("{topic}[{}]", numbers.join(","))
}

/// The types of a change's key and value.
pub(crate) const fn record_types<'a>(
    change: &Change<'a>,
) -> (Option<&'a RecordType>, Option<&'a RecordType>) {
    let key_type = match &change.key {
        Some(key) => Some(key.key_type),
        None => None,
    };
    let row_type = match change.row() {
        Some(value) => Some(value.row_type),
        None => None,
    };
    (key_type, row_type)
}

/// Whether records of these types become rows in the same way.
pub(crate) fn same_types(
    known: (Option<&RecordType>, Option<&RecordType>),
    other: (Option<&RecordType>, Option<&RecordType>),
) -> bool {
    same(known.0, other.0) && same(known.1, other.1)
}

fn same(known: Option<&RecordType>, other: Option<&RecordType>) -> bool {
    match (known, other) {
        (Some(known), Some(other)) => std::ptr::eq(known, other) || known == other,
        (None, None) => true,
        _ => false,
    }
}
