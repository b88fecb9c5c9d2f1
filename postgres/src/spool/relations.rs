//! The announcements of relations.

use std::collections::HashMap;

/// In which order relations were announced on the wire, which is not the order of commits.
///
/// The server takes a relation for known once it has sent it outside of a block, or in one of a transaction that
/// was committed. Replaying an older announcement must not cover a newer one.
#[derive(Debug, Default)]
pub(super) struct Relations {
    /// How many announcements came in.
    pub(super) count: u64,
    /// By OID the newest one, with its number, of those made while a streamed transaction was open.
    pub(super) newest: HashMap<u32, (u64, Vec<u8>)>,
}

impl Relations {
    pub(super) fn announced(&mut self, message: &[u8], keep: bool) -> u64 {
        self.count += 1;
        if keep {
            self.remember(self.count, message);
        }
        self.count
    }

    pub(super) fn remember(&mut self, number: u64, message: &[u8]) {
        if let Some(oid) = relation_oid(message) {
            let newest = self.newest.entry(oid).or_default();
            if newest.0 < number {
                *newest = (number, message.to_vec());
            }
        }
    }
}

/// The OID in a Relation message of version 1.
pub(super) fn relation_oid(message: &[u8]) -> Option<u32> {
    match message.split_first_chunk::<5>() {
        Some(([b'R', oid @ ..], _)) => Some(u32::from_be_bytes(*oid)),
        _ => None,
    }
}
