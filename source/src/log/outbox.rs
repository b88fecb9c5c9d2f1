//! One Kafka transaction's worth of records, complete before the transaction begins.

use std::ops::Range;
use std::sync::Arc;

/// A bound on the bytes of one transaction; a single change may exceed it.
pub(crate) const MAX_BYTES: usize = 2 << 20;
/// A bound on the records of one transaction.
pub(crate) const MAX_RECORDS: usize = 10_000;

/// Bytes of a batch that holds one record, beside its key, value and headers: 61 of the batch, and no more than 40
/// of lengths and deltas (KIP-98).
const BATCH_OVERHEAD: usize = 101;
/// Bytes that each header adds to its name and value: two lengths.
const HEADER_OVERHEAD: usize = 10;
/// The header that every record has: name and eight bytes.
const SEQ_HEADER: usize = tributary_schemas::header::SEQ.len() + 8 + HEADER_OVERHEAD;

/// Records in order, their bytes in one buffer.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) bytes: Vec<u8>,
    pub(crate) records: Vec<Record>,
}

/// A record of an [`Outbox`].
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) key: Option<Range<usize>>,
    /// `None` is a tombstone.
    pub(crate) value: Option<Range<usize>>,
    pub(crate) seq: u64,
    /// The topic's `max.message.bytes`, which is a bound on batches.
    pub(crate) max_batch_bytes: usize,
    /// Headers beyond `tributary.seq`.
    pub(crate) headers: Vec<(&'static str, Vec<u8>)>,
}

impl Record {
    /// The length of the key; 0 without one.
    pub(crate) fn key_bytes(&self) -> usize {
        self.key.as_ref().map_or(0, ExactSizeIterator::len)
    }

    /// The bytes of a batch with this record alone, at most.
    pub(crate) fn batch_bytes(&self) -> usize {
        let value_bytes = self.value.as_ref().map_or(0, ExactSizeIterator::len);
        record_bytes(self.key_bytes() + value_bytes, &self.headers)
    }
}

impl Outbox {
    /// Whether it should be published before more is added.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.len() >= MAX_BYTES || self.records.len() >= MAX_RECORDS
    }

    /// Appends bytes. Where they are.
    pub(crate) fn extend(&mut self, more: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(more);
        start..self.bytes.len()
    }

    /// The bytes of a range of this outbox.
    pub(crate) fn slice(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }

    /// Empties it; the buffers stay, unless one huge row had grown them.
    pub(crate) fn clear(&mut self) {
        self.records.clear();
        self.bytes.clear();
        self.bytes.shrink_to(2 * MAX_BYTES);
    }
}

/// The bytes of a batch with this record alone, at most.
pub(crate) fn record_bytes(key_and_value: usize, headers: &[(&'static str, Vec<u8>)]) -> usize {
    let headers: usize = headers
        .iter()
        .map(|(name, value)| name.len() + value.len() + HEADER_OVERHEAD)
        .sum();
    BATCH_OVERHEAD + SEQ_HEADER + key_and_value + headers
}
