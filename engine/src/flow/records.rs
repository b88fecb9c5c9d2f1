//! Records as they came, copied into one buffer.

use std::fmt;

use tributary_runtime::kafka::{self, Headed};
use tributary_schemas::header;

use crate::flow::times::Times;

/// What a record costs beside its own bytes: its place in the lists of [`Records`] and of a batch.
const OVERHEAD_BYTES: usize = 128;

/// A buffer grows by at least this much, and at most by a quarter: doubling would double the memory.
const GROWTH_BYTES: usize = 64 * 1024;

/// Consecutive records of one partition. All bytes stand in one arena.
#[derive(Default)]
pub(crate) struct Records {
    arena: Vec<u8>,
    places: Vec<Place>,
    times: Times,
}

struct Place {
    offset: i64,
    /// Where the key begins; the value and the headers follow it.
    begin: usize,
    key: Option<u32>,
    value: Option<u32>,
    end: usize,
}

/// One record, borrowed from [`Records`].
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) offset: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    headers: &'a [u8],
}

impl Records {
    /// Copies a record into the buffer.
    pub(crate) fn push(&mut self, message: &impl Headed) {
        let (key, value) = (message.key(), message.payload());
        let begin = self.arena.len();
        self.reserve(key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len));
        self.arena.extend_from_slice(key.unwrap_or_default());
        self.arena.extend_from_slice(value.unwrap_or_default());
        for (name, value) in kafka::headers(message) {
            push_header(&mut self.arena, &name, value);
        }
        self.times
            .note(self.places.len(), || message.timestamp().to_millis());
        self.places.push(Place {
            offset: message.offset(),
            begin,
            key: key.map(length),
            value: value.map(length),
            end: self.arena.len(),
        });
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Bytes that the records take, with what they cost beside their own.
    pub(crate) fn bytes(&self) -> usize {
        self.arena.len() + self.places.len() * OVERHEAD_BYTES
    }

    /// One past the last record.
    pub(crate) fn next_offset(&self) -> Option<i64> {
        self.places.last().map(|place| place.offset + 1)
    }

    /// When some of the records were written to the log.
    pub(crate) const fn times(&self) -> &Times {
        &self.times
    }

    pub(crate) fn get(&self, index: usize) -> Option<Record<'_>> {
        self.places.get(index).map(|place| self.record(place))
    }

    pub(crate) fn find(&self, offset: i64) -> Option<Record<'_>> {
        let index = self
            .places
            .binary_search_by_key(&offset, |place| place.offset)
            .ok()?;
        self.get(index)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        self.places.iter().map(|place| self.record(place))
    }

    fn record(&self, place: &Place) -> Record<'_> {
        let value_begin = place.begin + place.key.unwrap_or(0) as usize;
        let value_end = value_begin + place.value.unwrap_or(0) as usize;
        Record {
            offset: place.offset,
            key: place.key.map(|_| &self.arena[place.begin..value_begin]),
            value: place.value.map(|_| &self.arena[value_begin..value_end]),
            headers: &self.arena[value_end..place.end],
        }
    }

    fn reserve(&mut self, bytes: usize) {
        if self.arena.capacity() - self.arena.len() < bytes {
            let growth = bytes.max(GROWTH_BYTES).max(self.arena.len() / 4);
            self.arena.reserve_exact(growth);
        }
    }
}

/// Without the records' bytes, which are row values.
impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records")
            .field("len", &self.len())
            .field("bytes", &self.bytes())
            .finish()
    }
}

impl<'a> Record<'a> {
    /// The headers, in order.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + use<'a> {
        let mut rest = self.headers;
        std::iter::from_fn(move || pop_header(&mut rest))
    }

    /// The eight-byte header of this name: `None` if it is absent, an error if it has another form.
    pub(crate) fn seq_header(&self, name: &str) -> Result<Option<u64>, MalformedHeader> {
        let Some((_, value)) = self.headers().find(|(key, _)| *key == name) else {
            return Ok(None);
        };
        value
            .and_then(header::parse_seq)
            .map(Some)
            .ok_or(MalformedHeader)
    }
}

/// A header that should be a version and is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MalformedHeader;

/// Kafka's own lengths are 32 bits.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn push_header(arena: &mut Vec<u8>, name: &str, value: Option<&[u8]>) {
    arena.extend_from_slice(&length(name.as_bytes()).to_ne_bytes());
    arena.extend_from_slice(name.as_bytes());
    arena.push(u8::from(value.is_some()));
    let value = value.unwrap_or_default();
    arena.extend_from_slice(&length(value).to_ne_bytes());
    arena.extend_from_slice(value);
}

fn pop_header<'a>(rest: &mut &'a [u8]) -> Option<(&'a str, Option<&'a [u8]>)> {
    let name = std::str::from_utf8(pop_bytes(rest)?).ok()?;
    let (is_some, after) = rest.split_first()?;
    *rest = after;
    let value = pop_bytes(rest)?;
    Some((name, (*is_some == 1).then_some(value)))
}

fn pop_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (bytes, after) = after.split_at_checked(u32::from_ne_bytes(*length) as usize)?;
    *rest = after;
    Some(bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use rdkafka::Timestamp;
    use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};
    use tributary_schemas::header;

    use super::{MalformedHeader, Records};

    /// A record with headers, at an offset.
    pub(crate) fn message(
        offset: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, &[u8])],
    ) -> OwnedMessage {
        let headers = headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header {
                    key,
                    value: Some(*value),
                })
            });
        OwnedMessage::new(
            value.map(<[u8]>::to_vec),
            key.map(<[u8]>::to_vec),
            "topic".to_owned(),
            Timestamp::NotAvailable,
            0,
            offset,
            Some(headers),
        )
    }

    #[test]
    fn records_come_back_as_they_went_in() {
        let mut records = Records::default();
        let headers: [(&str, &[u8]); 2] = [("a", b"1"), (header::SEQ, &7_i64.to_be_bytes())];
        records.push(&message(4, Some(b"key"), Some(b"value"), &headers));
        records.push(&message(6, Some(b"gone"), None, &[]));
        records.push(&message(7, None, Some(b""), &[(header::SEQ, b"7")]));

        let all: Vec<_> = records.iter().collect();
        assert_eq!(
            (all[0].key, all[0].value),
            (Some(&b"key"[..]), Some(&b"value"[..]))
        );
        assert_eq!(all[0].headers().next(), Some(("a", Some(&b"1"[..]))));
        assert_eq!(all[0].seq_header(header::SEQ), Ok(Some(7)));
        assert_eq!((all[1].key, all[1].value), (Some(&b"gone"[..]), None));
        assert_eq!(all[1].seq_header(header::SEQ), Ok(None));
        assert_eq!((all[2].key, all[2].value), (None, Some(&b""[..])));
        assert_eq!(all[2].seq_header(header::SEQ), Err(MalformedHeader));
        assert_eq!(records.next_offset(), Some(8));
        assert_eq!(
            records.find(6).map(|record| record.key),
            Some(Some(&b"gone"[..]))
        );
        assert!(records.find(5).is_none());
    }
}
