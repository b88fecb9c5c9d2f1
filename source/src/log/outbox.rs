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

    /// Moves the records from this one on, with their bytes, behind those of another outbox.
    pub(crate) fn move_tail(&mut self, first: usize, to: &mut Self) {
        // Records that share a key or a value are neighbours.
        let mut last: [Option<(Range<usize>, Range<usize>)>; 2] = [None, None];
        for mut record in self.records.drain(first.min(self.records.len())..) {
            let parts = [record.key.as_mut(), record.value.as_mut()];
            for (part, last) in parts.into_iter().zip(&mut last) {
                let Some(part) = part else { continue };
                let moved = match last {
                    Some((from, moved)) if from == part => moved.clone(),
                    _ => {
                        let bytes = self.bytes.get(part.clone()).unwrap_or_default();
                        to.extend(bytes)
                    }
                };
                *last = Some((std::mem::replace(part, moved.clone()), moved));
            }
            to.records.push(record);
        }
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

#[cfg(test)]
mod tests {
    use super::{Outbox, Record};

    fn record(outbox: &mut Outbox, key: &str, value: Option<&str>) -> Record {
        Record {
            topic: "t".into(),
            partition: 0,
            key: Some(outbox.extend(key.as_bytes())),
            value: value.map(|value| outbox.extend(value.as_bytes())),
            seq: 0,
            max_batch_bytes: usize::MAX,
            headers: Vec::new(),
        }
    }

    fn told(outbox: &Outbox) -> Vec<(&[u8], Option<&[u8]>)> {
        let records = outbox.records.iter();
        records
            .map(|record| {
                let key = record.key.as_ref().map(|range| outbox.slice(range));
                let value = record.value.as_ref().map(|range| outbox.slice(range));
                (key.unwrap_or_default(), value)
            })
            .collect()
    }

    #[test]
    fn a_tail_moves_with_its_bytes_and_what_it_shares() {
        let (mut outbox, mut next) = (Outbox::default(), Outbox::default());
        for (key, value) in [("a", Some("one")), ("b", None), ("c", Some("three"))] {
            let record = record(&mut outbox, key, value);
            outbox.records.push(record);
        }
        for _ in 0..3 {
            let last = &outbox.records[2];
            let again = Record {
                topic: "t".into(),
                key: last.key.clone(),
                value: last.value.clone(),
                headers: Vec::new(),
                ..*last
            };
            outbox.records.push(again);
        }
        outbox.move_tail(1, &mut next);
        assert_eq!(told(&outbox), [(&b"a"[..], Some(&b"one"[..]))]);
        let shared = (&b"c"[..], Some(&b"three"[..]));
        assert_eq!(
            told(&next),
            [(&b"b"[..], None), shared, shared, shared, shared]
        );
        assert_eq!(next.bytes, b"bcthree", "what is shared is there once");
    }
}
