//! The keys of letters, and what the log has newest of each. A letter without a key is a row of its own, told by where it was.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ahash::AHashMap;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use tributary_runtime::kafka::{self, Headed};
use tributary_runtime::{Error, Result};
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
    /// Those without a key, by where they were.
    places: AHashMap<i64, usize>,
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

/// What tells the row of a letter.
#[derive(Debug)]
enum Identity {
    Key(Arc<[u8]>),
    /// Its offset does. Of a topic that was deleted and made again, another record may have it: this is of the value.
    Place(u64),
}

#[derive(Debug)]
struct Lettered {
    identity: Identity,
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
    /// Where letters without a key were whose records the log has no more.
    pub(crate) lost: Vec<i64>,
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
            places: AHashMap::new(),
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

    /// Adds a letter that stands at `letter` and was at `offset`; false where it has no room.
    pub(crate) fn add_letter(
        &mut self,
        (key, value): (Option<&[u8]>, Option<&[u8]>),
        letter: (i32, i64),
        offset: i64,
    ) -> bool {
        match key {
            Some(key) => self.add(key, letter, offset),
            None => self.add_keyless(value, letter, offset),
        }
    }

    fn add(&mut self, key: &[u8], letter: (i32, i64), offset: i64) -> bool {
        if let Some(&known) = self.index.get(key) {
            let known = &mut self.keys[known];
            known.offset = known.offset.max(offset);
            self.from = self.from.min(offset);
            return true;
        }
        let schema = wire::parse(key).map(|(id, _)| id);
        let key: Arc<[u8]> = key.into();
        let known = self.keys.len();
        let has_room = self.insert(Identity::Key(Arc::clone(&key)), letter, offset);
        if has_room {
            self.index.insert(key, known);
            self.key_schemas.extend(schema);
        }
        has_room
    }

    fn add_keyless(&mut self, value: Option<&[u8]>, letter: (i32, i64), offset: i64) -> bool {
        let identity = Identity::Place(digest(value));
        if let Some(&known) = self.places.get(&offset) {
            // Of a topic that was made again: what is in the log now has the newest letter, if any.
            self.keys[known].identity = identity;
            return true;
        }
        let known = self.keys.len();
        let has_room = self.insert(identity, letter, offset);
        if has_room {
            self.places.insert(offset, known);
        }
        has_room
    }

    fn insert(&mut self, identity: Identity, letter: (i32, i64), offset: i64) -> bool {
        let cost = identity.bytes();
        let is_full = self.held + cost > self.bytes_max / 2 || self.keys.len() >= self.keys_max;
        if is_full && !self.keys.is_empty() {
            return false;
        }
        self.held += cost;
        self.from = self.from.min(offset);
        self.keys.push(Lettered {
            identity,
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
            self.take_keyless(message);
            if self.takes_keyless && !has_version && message.payload().is_some() {
                let before = self.keyless.bytes();
                self.keyless.push(message);
                self.held += self.keyless.bytes() - before;
                self.make_room();
            }
            return;
        };
        let schema = wire::parse(key).map(|(id, _)| id);
        let is_another = schema.is_some_and(|id| !self.key_schemas.contains(&id));
        if is_another && !has_version && !self.index.is_empty() {
            self.is_mixed = true;
        }
        let Some(&known) = self.index.get(key) else {
            return;
        };
        self.keep(known, message);
    }

    /// What has no key is the letter itself, or has nothing to do with it.
    fn take_keyless(&mut self, message: &impl Headed) {
        let Some(&known) = self.places.get(&message.offset()) else {
            return;
        };
        let value = digest(message.payload());
        if matches!(self.keys[known].identity, Identity::Place(of_letter) if of_letter == value) {
            self.keep(known, message);
        }
    }

    /// The higher version wins: a record may come a second time, behind newer ones.
    fn keep(&mut self, known: usize, message: &impl Headed) {
        let lettered = &mut self.keys[known];
        let newest = lettered.newest.as_ref();
        let newest = newest.and_then(|newest| seq_of(newest, header::SEQ));
        if newest > seq_of(message, header::SEQ) {
            return;
        }
        #[cfg(test)]
        if crate::outside::given::has(crate::outside::given::Flaw::OldLetter)
            && lettered.newest.is_some()
        {
            return;
        }
        self.held -= lettered.newest.as_ref().map_or(0, bytes_of);
        let newest = owned(message);
        self.held += bytes_of(&newest);
        lettered.newest = Some(newest);
        self.make_room();
    }

    /// Whether more is held than may be, although only one key is left.
    fn is_overfull(&self) -> bool {
        let record = self.keys.first().and_then(|key| key.newest.as_ref());
        // One record may be larger than all.
        self.held - record.map_or(0, bytes_of) > self.bytes_max
    }

    /// Ends a pass that holds more than it may.
    ///
    /// # Errors
    /// Stop, with the remedy.
    pub(crate) fn check_room(&self) -> Result<()> {
        if !self.is_overfull() {
            return Ok(());
        }
        Err(Error::stop_msg(
            "behind the letters there are more records without a key than have room, and each may say that the table was emptied",
        )
        .remedy("raise batch.bytes, and batch.buffer_bytes to four times that, for the time of the replay"))
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
                if key.offset < until && matches!(key.identity, Identity::Place(_)) {
                    pass.lost.push(key.offset);
                }
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
            match &last.identity {
                Identity::Key(key) => self.index.remove(key),
                Identity::Place(_) => self.places.remove(&last.offset),
            };
            self.held -= last.identity.bytes();
            self.held -= last.newest.as_ref().map_or(0, bytes_of);
            self.leave(last.letter);
        }
    }
}

impl Identity {
    fn bytes(&self) -> usize {
        let key = match self {
            Self::Key(key) => key.len(),
            Self::Place(_) => 0,
        };
        OVERHEAD_BYTES + 2 * key
    }
}

/// To tell values apart.
fn digest(value: Option<&[u8]>) -> u64 {
    ahash::RandomState::with_seeds(1, 2, 3, 4).hash_one(value)
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
mod tests;
