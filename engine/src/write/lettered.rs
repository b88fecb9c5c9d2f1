//! The keys of letters, and what the log has newest of each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ahash::AHashMap;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use tributary_runtime::kafka::{self, Headed};
use tributary_schemas::{header, wire};

use crate::flow::records::Records;
use crate::write::replay::Counts;
use crate::write::scan::Ranges;

/// What a key costs beside its bytes and those of its record.
const OVERHEAD_BYTES: usize = 256;

/// The keys of one pass over a partition's letters. What it holds has a bound: keys for which there is no room are left to the next pass.
#[derive(Debug)]
pub(crate) struct LetteredKeys {
    bytes_max: usize,
    keys_max: usize,
    /// In the order of their letters.
    keys: Vec<Lettered>,
    index: AHashMap<Arc<[u8]>, usize>,
    held: usize,
    /// The lowest offset of a letter.
    from: i64,
    /// A letter says that the partition's records have versions, which it lacks.
    is_versioned: bool,
    /// The schemas of the letters' keys.
    key_schemas: BTreeSet<u32>,
    /// A record without a version has a key of another schema.
    is_mixed: bool,
    /// Rows with a lower version are gone.
    below: Option<u64>,
    has_versions: bool,
    /// Records without key and version: one of them may say that the table was emptied.
    keyless: Records,
    takes_keyless: bool,
    /// Where letters are that had no room.
    rest: BTreeMap<i32, i64>,
}

#[derive(Debug)]
struct Lettered {
    key: Arc<[u8]>,
    /// The place of its first letter.
    letter: (i32, i64),
    /// The offset of its newest one.
    offset: i64,
    newest: Option<OwnedMessage>,
}

/// What a pass has found.
#[derive(Debug, Default)]
pub(crate) struct Pass {
    /// In offset order, one per key; and whether it is the letter itself.
    newest: Vec<(OwnedMessage, bool)>,
    pub(crate) counts: Counts,
    /// The letters that are left to the next pass.
    pub(crate) rest: Ranges,
    pub(crate) is_versioned: bool,
    pub(crate) has_versions: bool,
    pub(crate) is_mixed: bool,
    pub(crate) keyless: Records,
}

impl LetteredKeys {
    pub(crate) fn new(bytes_max: usize, keys_max: usize, takes_keyless: bool) -> Self {
        Self {
            bytes_max,
            keys_max,
            keys: Vec::new(),
            index: AHashMap::new(),
            held: 0,
            from: i64::MAX,
            is_versioned: false,
            key_schemas: BTreeSet::new(),
            is_mixed: false,
            below: None,
            has_versions: false,
            keyless: Records::default(),
            takes_keyless,
            rest: BTreeMap::new(),
        }
    }

    /// Adds the key of a letter that stands at `letter` and was at `offset`; false where it has no room.
    pub(crate) fn add(&mut self, key: &[u8], letter: (i32, i64), offset: i64) -> bool {
        if let Some(&known) = self.index.get(key) {
            let known = &mut self.keys[known];
            known.offset = known.offset.max(offset);
            self.from = self.from.min(offset);
            return true;
        }
        let cost = OVERHEAD_BYTES + 2 * key.len();
        let is_full = self.held + cost > self.bytes_max / 2 || self.keys.len() >= self.keys_max;
        if is_full && !self.keys.is_empty() {
            return false;
        }
        self.held += cost;
        self.from = self.from.min(offset);
        self.key_schemas.extend(wire::parse(key).map(|(id, _)| id));
        let key: Arc<[u8]> = key.into();
        self.index.insert(Arc::clone(&key), self.keys.len());
        self.keys.push(Lettered {
            key,
            letter,
            offset,
            newest: None,
        });
        true
    }

    /// A letter says that the partition's records have versions, which it lacks.
    pub(crate) const fn note_versioned(&mut self) {
        self.is_versioned = true;
    }

    /// Letters from here on are left to the next pass.
    pub(crate) fn leave(&mut self, (partition, offset): (i32, i64)) {
        let left = self.rest.entry(partition).or_insert(offset);
        *left = offset.min(*left);
    }

    /// Where the log is to be read from; `None` where no key is asked for.
    pub(crate) fn from(&self) -> Option<i64> {
        (!self.keys.is_empty()).then_some(self.from)
    }

    /// Takes the next record of the partition.
    pub(crate) fn take(&mut self, message: &impl Headed) {
        let versions = seq_of(message, header::SEQ);
        let has_version = versions.is_some();
        self.has_versions |= has_version;
        if let Some(below) = seq_of(message, header::BELOW) {
            self.below = self.below.max(Some(below));
        }
        let Some(key) = message.key() else {
            if self.takes_keyless && !has_version && message.payload().is_some() {
                let before = self.keyless.bytes();
                self.keyless.push(message);
                self.held += self.keyless.bytes() - before;
                self.make_room();
            }
            return;
        };
        let schema = wire::parse(key).map(|(id, _)| id);
        if !has_version && schema.is_some_and(|id| !self.key_schemas.contains(&id)) {
            self.is_mixed = true;
        }
        let Some(&known) = self.index.get(key) else {
            return;
        };
        let lettered = &mut self.keys[known];
        self.held -= lettered.newest.as_ref().map_or(0, bytes_of);
        let newest = owned(message);
        self.held += bytes_of(&newest);
        lettered.newest = Some(newest);
        self.make_room();
    }

    /// Whether more is held than may be, although only one key is left.
    pub(crate) fn is_overfull(&self) -> bool {
        let record = self.keys.first().and_then(|key| key.newest.as_ref());
        // One record may be larger than all.
        self.held - record.map_or(0, bytes_of) > self.bytes_max
    }

    /// What was found in the log, of which all below `until` was read. The letters stood in `letters`.
    pub(crate) fn finish(self, letters: &Ranges, until: i64) -> Pass {
        let mut pass = Pass {
            is_versioned: self.is_versioned,
            has_versions: self.has_versions,
            is_mixed: self.is_mixed,
            keyless: self.keyless,
            ..Pass::default()
        };
        for (&partition, &(_, end)) in letters {
            if let Some(&begin) = self.rest.get(&partition)
                && begin < end
            {
                pass.rest.insert(partition, (begin, end));
            }
        }
        for key in self.keys {
            let Some(newest) = key.newest else {
                // What stands behind is read again anyway.
                let count = match key.offset < until {
                    true => &mut pass.counts.gone,
                    false => &mut pass.counts.superseded,
                };
                *count += 1;
                continue;
            };
            let is_below = |below: u64| seq_of(&newest, header::SEQ).is_some_and(|seq| seq < below);
            if self.below.is_some_and(is_below) {
                pass.counts.superseded += 1;
                continue;
            }
            let is_letter = newest.offset() <= key.offset;
            pass.newest.push((newest, is_letter));
        }
        pass.newest
            .sort_unstable_by_key(|(newest, _)| newest.offset());
        pass
    }

    /// Leaves keys to the next pass, the last ones first, until what is held is within its bound.
    fn make_room(&mut self) {
        while self.held > self.bytes_max && self.keys.len() > 1 {
            let Some(last) = self.keys.pop() else { return };
            self.index.remove(&last.key);
            self.held -= OVERHEAD_BYTES + 2 * last.key.len();
            self.held -= last.newest.as_ref().map_or(0, bytes_of);
            self.leave(last.letter);
        }
    }
}

impl Pass {
    /// The records, and of each whether it is the letter itself; those below `emptied_at` are gone, for there the table was emptied.
    pub(crate) fn records(&mut self, emptied_at: Option<i64>) -> (Records, BTreeMap<i64, bool>) {
        let (mut records, mut are_letters) = (Records::default(), BTreeMap::new());
        for (newest, is_letter) in std::mem::take(&mut self.newest) {
            if emptied_at.is_some_and(|at| newest.offset() < at) {
                self.counts.superseded += 1;
                continue;
            }
            records.push(&newest);
            are_letters.insert(newest.offset(), is_letter);
        }
        (records, are_letters)
    }
}

/// The eight-byte header of this name, where it has that form.
fn seq_of(message: &impl Headed, name: &str) -> Option<u64> {
    let (_, value) = kafka::headers(message).find(|(found, _)| found == name)?;
    header::parse_seq(value?)
}

fn owned(message: &impl Headed) -> OwnedMessage {
    let headers = message.headers().map(|_| {
        kafka::headers(message).fold(OwnedHeaders::new(), |all, (key, value)| {
            all.insert(Header { key: &key, value })
        })
    });
    OwnedMessage::new(
        message.payload().map(<[u8]>::to_vec),
        message.key().map(<[u8]>::to_vec),
        message.topic().to_owned(),
        message.timestamp(),
        message.partition(),
        message.offset(),
        headers,
    )
}

/// Twice what it has: the records are copied once more.
fn bytes_of(message: &OwnedMessage) -> usize {
    let part = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
    let headers = message.headers().map_or(0, |headers| {
        let bytes = |header: Header<'_, &[u8]>| header.key.len() + part(header.value);
        headers.iter().map(bytes).sum()
    });
    2 * (part(message.key()) + part(message.payload()) + headers)
}

#[cfg(test)]
mod tests {
    use tributary_schemas::header;

    use super::LetteredKeys;
    use crate::flow::records::tests::message;
    use crate::write::replay::Counts;
    use crate::write::scan::Ranges;

    fn letters() -> Ranges {
        Ranges::from([(0, (0, 100))])
    }

    fn keys(bytes_max: usize, letters: &[(&[u8], i64)]) -> LetteredKeys {
        let mut keys = LetteredKeys::new(bytes_max, 1_000, true);
        for (at, (key, offset)) in (0..).zip(letters) {
            assert!(keys.add(key, (0, at), *offset));
        }
        keys
    }

    #[test]
    fn the_newest_record_of_each_key_counts() {
        let mut keys = keys(1 << 20, &[(b"a", 5), (b"b", 7), (b"c", 9), (b"a", 11)]);
        assert_eq!(keys.from(), Some(5));
        for (offset, key) in [(5, b"a"), (6, b"x"), (7, b"b"), (11, b"a"), (12, b"b")] {
            keys.take(&message(offset, Some(key), Some(b"v"), &[]));
        }
        let mut pass = keys.finish(&letters(), 100);
        assert!(pass.rest.is_empty() && !pass.has_versions);
        assert_eq!((pass.counts.gone, pass.counts.superseded), (1, 0));
        let (records, are_letters) = pass.records(None);
        let offsets: Vec<_> = records.iter().map(|record| record.offset).collect();
        assert_eq!(offsets, [11, 12]);
        assert!(are_letters[&11] && !are_letters[&12]);
    }

    #[test]
    fn what_has_no_room_is_left_to_the_next_pass() {
        let mut keys = keys(20_000, &[(b"a", 5), (b"b", 6), (b"c", 7), (b"d", 8)]);
        let large = vec![b'v'; 4_000];
        for (offset, key) in [(5, b"a"), (6, b"b"), (7, b"c"), (8, b"d")] {
            keys.take(&message(offset, Some(key), Some(&large), &[]));
        }
        let mut pass = keys.finish(&letters(), 100);
        assert_eq!(pass.rest, Ranges::from([(0, (2, 100))]));
        assert_eq!(pass.records(None).0.len(), 2);

        // One record may be larger than all, so that there is an end.
        let mut keys = self::keys(1_000, &[(b"a", 5)]);
        keys.take(&message(5, Some(b"a"), Some(&large), &[]));
        assert!(!keys.is_overfull());
        assert!(!keys.add(b"b", (0, 1), 6));
    }

    #[test]
    fn what_is_gone_below_and_where_a_table_was_emptied_is_superseded() {
        let seq = |seq: u64| seq.to_be_bytes();
        let mut keys = keys(1 << 20, &[(b"a", 5), (b"b", 6)]);
        keys.take(&message(5, Some(b"a"), None, &[(header::SEQ, &seq(50))]));
        keys.take(&message(6, Some(b"b"), None, &[(header::SEQ, &seq(60))]));
        let below = [(header::SEQ, &seq(70)[..]), (header::BELOW, &seq(60)[..])];
        keys.take(&message(7, Some(b"t"), None, &below));
        let mut pass = keys.finish(&letters(), 100);
        assert!(pass.has_versions && !pass.is_mixed);
        let superseded = |superseded| Counts {
            superseded,
            ..Counts::default()
        };
        assert_eq!(pass.counts, superseded(1));
        assert!(pass.records(Some(7)).0.len() == 0);
        assert_eq!(pass.counts, superseded(2));
    }

    #[test]
    fn a_key_of_another_schema_is_told_where_records_have_no_version() {
        let (one, two): (&[u8], &[u8]) = (b"\0\0\0\0\x01k", b"\0\0\0\0\x02k");
        for (headers, is_mixed) in [
            (&[][..], true),
            (&[(header::SEQ, &8_u64.to_be_bytes()[..])][..], false),
        ] {
            let mut keys = keys(1 << 20, &[(one, 5)]);
            keys.take(&message(5, Some(one), None, headers));
            assert!(!keys.is_mixed);
            keys.take(&message(6, Some(two), None, headers));
            assert_eq!(keys.finish(&letters(), 100).is_mixed, is_mixed);
        }
    }
}
