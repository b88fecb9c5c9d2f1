//! What a target keeps of the log that it was made from, so that both can be compared.

use std::collections::{BTreeMap, BTreeSet};

use crate::outside;

/// The mark of a target, kept in the target itself. It begins with the target and ends with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Which generation of the target this is: no two have the same.
    pub generation: String,
    /// The topic's id as Kafka prints it; `None` where the brokers know no ids. A topic that was deleted and made again has
    /// another one.
    pub topic_id: Option<String>,
    /// How many partitions the topic had when the generation began.
    pub partitions: i32,
    /// The rows' versions are offsets: the topic is another source's, and its partitions have no common order.
    pub versions_are_offsets: bool,
    /// The ids of the keys' schemas, where versions are offsets and the topic has more than one partition: a key that another one
    /// writes has other bytes, and stands in another partition.
    pub key_schemas: BTreeSet<u32>,
    /// The partitions of which reading has begun, and when each was last known to be read to its end (or has begun), in
    /// milliseconds since 1970.
    pub caught_up_ms: BTreeMap<i32, i64>,
}

/// What has become known of a target. Each note is added to what is there; a later time wins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// Reading of the partition has begun, or it was read to its end, at this time.
    CaughtUp {
        /// The partition.
        partition: i32,
        /// Milliseconds since 1970.
        at_ms: i64,
    },
    /// The rows' versions are offsets.
    VersionsAreOffsets,
    /// Keys have this schema.
    KeySchema(u32),
}

/// What a target knows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// There is no target yet.
    Nothing,
    /// It is one of ours.
    Marked(Mark),
    /// It cannot be gone on with, for this reason. It is whole again when it was discarded and built anew.
    Unfit {
        /// Which generation it is, as far as that can be told.
        generation: Option<String>,
        /// What is wrong, as a sentence without a full stop.
        reason: String,
    },
}

impl Mark {
    /// A generation that begins now.
    pub(crate) fn new(topic_id: Option<String>, partitions: i32) -> Self {
        let now_ms = outside::now_ms();
        Self {
            generation: format!("{now_ms}-{:08x}", outside::random()),
            topic_id,
            partitions,
            versions_are_offsets: false,
            key_schemas: BTreeSet::new(),
            caught_up_ms: BTreeMap::new(),
        }
    }

    /// A generation of which nobody has noted what it was made from.
    pub fn unknown() -> Self {
        Self::new(None, i32::MAX)
    }

    /// Adds a note.
    pub fn add(&mut self, note: &Note) {
        match *note {
            Note::CaughtUp { partition, at_ms } => {
                let known = self.caught_up_ms.entry(partition).or_insert(at_ms);
                *known = at_ms.max(*known);
            }
            Note::VersionsAreOffsets => self.versions_are_offsets = true,
            Note::KeySchema(id) => {
                self.key_schemas.insert(id);
            }
        }
    }
}
