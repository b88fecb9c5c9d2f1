//! A batch of one partition's records, coalesced per key.

use tributary_schemas::record::{Origin, RecordType, Row};

use crate::sink::{TableName, TopicPartition};

/// Records of one partition, newest per key, decoded on demand from the bytes that the batch owns.
#[derive(Debug)]
pub struct Batch {
    partition: TopicPartition,
    table: TableName,
    below: Option<u64>,
    next_offset: i64,
}

impl Batch {
    /// The partition that the records come from.
    pub const fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// The table that the topic carries.
    pub const fn table(&self) -> &TableName {
        &self.table
    }

    /// Where the batch ends: one past its last record, control records included.
    pub const fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Where set: rows of the target with a lower `seq` are gone. Comes before all [`Batch::changes`],
    /// none of which has a lower `seq`.
    pub const fn below(&self) -> Option<u64> {
        self.below
    }

    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.changes().count()
    }

    /// Whether there are no changes ([`Batch::below`] may be set all the same).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The changes, decoded one by one.
    pub fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        std::iter::empty()
    }
}

/// One change to apply; at most one per key and batch (the newest), in offset order.
#[derive(Debug)]
pub struct Change<'a> {
    /// The record's offset.
    pub offset: i64,
    /// The row's version: the record's `tributary.seq`, or its offset + 1 on a foreign topic.
    pub seq: u64,
    /// The key's columns; `None` for a table without a key (then the action is [`Action::Append`]).
    pub key: Option<KeyRow<'a>>,
    /// What to do.
    pub action: Action<'a>,
}

/// A decoded key.
#[derive(Debug)]
pub struct KeyRow<'a> {
    /// The key's columns.
    pub key_type: &'a RecordType,
    /// Their values.
    pub row: Row<'a>,
}

/// What to do with a row.
#[derive(Debug)]
pub enum Action<'a> {
    /// The row is now this, whether or not the target has it.
    Upsert(ValueRow<'a>),
    /// A further row of a table without a key. The offset identifies it.
    Append(ValueRow<'a>),
    /// The row is gone.
    Delete,
}

/// A decoded row.
#[derive(Debug)]
pub struct ValueRow<'a> {
    /// The table's columns.
    pub row_type: &'a RecordType,
    /// Their values.
    pub row: Row<'a>,
    /// Where the change comes from.
    pub origin: Origin<'a>,
}
