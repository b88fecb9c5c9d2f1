//! A table for tests, as its records are on the wire: `id`, `number`, `text`.

use rdkafka::Timestamp;
use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};
use tributary_schemas::{header, wire};

use crate::topics::TopicPartition;

/// The schema ids.
pub(crate) const KEY_ID: u32 = 1;
pub(crate) const TRUNCATE_ID: u32 = 2;
pub(crate) const VALUE_ID: u32 = 3;

pub(crate) const KEY_SCHEMA: &str =
    r#"{"type":"record","name":"test.Key","fields":[{"name":"id","type":"long"}]}"#;
pub(crate) const TRUNCATE_SCHEMA: &str = r#"{"type":"record","name":"test.TruncateKey","fields":[
    {"name":"source","type":"string"},{"name":"schema","type":"string"},{"name":"table","type":"string"}]}"#;
pub(crate) const VALUE_SCHEMA: &str = r#"{"type":"record","name":"test.Envelope","fields":[
    {"name":"before","type":["null",{"type":"record","name":"test.Value","fields":[
        {"name":"id","type":"long"},{"name":"number","type":"long"},{"name":"text","type":"string"}]}]},
    {"name":"after","type":["null","test.Value"]},
    {"name":"source","type":{"type":"record","name":"test.Source","fields":[{"name":"ts_us","type":"long"}]}},
    {"name":"op","type":"string"}]}"#;

/// What a record does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(test), expect(dead_code, reason = "the simulation has them all"))]
pub(crate) enum Deed {
    Upsert { id: i64, number: i64 },
    Append { id: i64, number: i64 },
    Delete { id: i64 },
    Tombstone { id: i64 },
    Below(u64),
    Junk,
}

#[cfg(test)]
impl Deed {
    /// The row that it is about.
    pub(crate) const fn id(self) -> Option<i64> {
        match self {
            Self::Upsert { id, .. }
            | Self::Append { id, .. }
            | Self::Delete { id }
            | Self::Tombstone { id } => Some(id),
            Self::Below(_) | Self::Junk => None,
        }
    }
}

/// A record; without a version as other sources write it.
pub(crate) fn message(
    at: &TopicPartition,
    offset: i64,
    seq: Option<u64>,
    deed: Deed,
    text: &str,
) -> OwnedMessage {
    let (mut key, value) = bytes(deed, text);
    if seq.is_none() && matches!(deed, Deed::Below(_)) {
        // As Debezium writes it.
        key = None;
    }
    let mut headers = OwnedHeaders::new();
    if let Some(seq) = seq {
        headers = with(headers, header::SEQ, seq);
        if let Deed::Below(below) = deed {
            headers = with(headers, header::BELOW, below);
        }
    }
    OwnedMessage::new(
        value,
        key,
        at.topic.clone(),
        Timestamp::NotAvailable,
        at.partition,
        offset,
        Some(headers),
    )
}

fn with(headers: OwnedHeaders, key: &str, seq: u64) -> OwnedHeaders {
    let value = seq.to_be_bytes();
    headers.insert(Header {
        key,
        value: Some(&value),
    })
}

/// Key and value, in Avro.
fn bytes(deed: Deed, text: &str) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let key = |id: i64| {
        let mut key = wire::prefix(KEY_ID).to_vec();
        long(&mut key, id);
        Some(key)
    };
    match deed {
        Deed::Upsert { id, number } => (key(id), Some(value(b'u', Some((id, number, text))))),
        Deed::Append { id, number } => (None, Some(value(b'c', Some((id, number, text))))),
        Deed::Delete { id } => (key(id), Some(value(b'd', None))),
        Deed::Tombstone { id } => (key(id), None),
        Deed::Below(_) => {
            let key = [&wire::prefix(TRUNCATE_ID)[..], b"\x02s\x02s\x02t"];
            (Some(key.concat()), Some(value(b't', None)))
        }
        Deed::Junk => (None, Some(b"junk".to_vec())),
    }
}

fn value(op: u8, row: Option<(i64, i64, &str)>) -> Vec<u8> {
    let mut out = wire::prefix(VALUE_ID).to_vec();
    // No `before`.
    long(&mut out, 0);
    match row {
        None => long(&mut out, 0),
        Some((id, number, text)) => {
            long(&mut out, 1);
            long(&mut out, id);
            long(&mut out, number);
            long(&mut out, i64::try_from(text.len()).unwrap_or(i64::MAX));
            out.extend_from_slice(text.as_bytes());
        }
    }
    long(&mut out, 1_700_000_000_000_000);
    long(&mut out, 1);
    out.push(op);
    out
}

/// Avro's form of a long.
fn long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    out.push(rest.to_le_bytes()[0]);
}
