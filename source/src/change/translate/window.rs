//! What the stream changes while a chunk is read beside it.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// How many streamed transactions are remembered until a snapshot of the server was seen to see them.
const MAX_STREAMED: usize = 1 << 16;
/// Keys that a window holds before a new snapshot, with an empty window, is asked for.
const MAX_KEYS: usize = 100_000;
/// Keys that a window holds at the most: of a transaction that changes more, nobody could keep them all.
const MOST_KEYS: usize = 2 * MAX_KEYS;

/// The time between a low watermark and the high ones behind it, as the stream tells it.
#[derive(Debug)]
pub(super) struct Window {
    pub(super) topic: Arc<str>,
    keys: HashSet<Box<[u8]>, ahash::RandomState>,
    spoiled: bool,
    /// How many transactions had been streamed before the low watermark.
    pub(super) streamed_before: u64,
}

impl Window {
    pub(super) fn open(topic: Arc<str>, streamed_before: u64) -> Self {
        Self {
            topic,
            keys: HashSet::default(),
            spoiled: false,
            streamed_before,
        }
    }

    /// The stream has a change of this key.
    pub(super) fn changed(&mut self, topic: &str, key: &[u8]) {
        if self.spoiled || *self.topic != *topic || self.keys.contains(key) {
            return;
        }
        if self.keys.len() < MOST_KEYS {
            self.keys.insert(key.into());
        } else {
            self.spoiled = true;
            self.keys = HashSet::default();
        }
    }

    /// The table was truncated: what was read is gone, or comes through the stream.
    pub(super) fn truncated(&mut self, topic: &str) {
        self.spoiled |= *self.topic == *topic;
    }

    /// The table has another shape now.
    pub(super) fn changed_shape(&mut self, topic: &str) {
        self.spoiled |= *self.topic == *topic;
    }

    /// Whether rows that were read in it cannot be used.
    pub(super) const fn is_spoiled(&self) -> bool {
        self.spoiled
    }

    /// Whether it holds so many keys that a new one should be opened.
    pub(super) fn is_full(&self) -> bool {
        self.keys.len() >= MAX_KEYS
    }

    /// Whether the stream has had the row with this key.
    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.keys.contains(key)
    }
}

/// The transactions that were streamed last: a commit is in the WAL, and streamed, before a snapshot of the
/// server has to see it.
#[derive(Debug, Default)]
pub(super) struct Streamed {
    xids: VecDeque<u32>,
    /// How many there were in all.
    count: u64,
}

impl Streamed {
    pub(super) fn push(&mut self, xid: u32) {
        if self.xids.len() == MAX_STREAMED {
            self.xids.pop_front();
        }
        self.xids.push_back(xid);
        self.count += 1;
    }

    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// Whether `sees` holds for all of the first `count` transactions. Those for which it does are forgotten:
    /// later snapshots see them too.
    pub(super) fn all_seen(&mut self, count: u64, sees: impl Fn(u32) -> bool) -> bool {
        let first = self.count - self.xids.len() as u64;
        let before = usize::try_from(count.saturating_sub(first)).unwrap_or(usize::MAX);
        let before = before.min(self.xids.len());
        if !self.xids.iter().take(before).all(|xid| sees(*xid)) {
            return false;
        }
        self.xids.drain(..before);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_KEYS, MAX_STREAMED, MOST_KEYS, Streamed, Window};

    #[test]
    fn a_transaction_streamed_before_must_be_seen() {
        let mut streamed = Streamed::default();
        for xid in 1..=5 {
            streamed.push(xid);
        }
        assert!(!streamed.all_seen(5, |xid| xid != 4));
        assert!(streamed.all_seen(3, |xid| xid != 4), "4 came behind");
        assert!(!streamed.all_seen(5, |xid| xid != 4));
        assert!(streamed.all_seen(5, |_| true));
        assert!(streamed.all_seen(5, |_| false), "they are forgotten");
        streamed.push(6);
        assert!(!streamed.all_seen(6, |xid| xid != 6));
    }

    #[test]
    fn old_transactions_make_room() {
        let mut streamed = Streamed::default();
        for _ in 0..=MAX_STREAMED {
            streamed.push(1);
        }
        assert_eq!(streamed.count(), MAX_STREAMED as u64 + 1);
        assert!(
            streamed.all_seen(1, |_| false),
            "the first one is forgotten"
        );
        assert!(!streamed.all_seen(2, |_| false));
    }

    #[test]
    fn keys_beyond_the_bound_are_not_kept() {
        let mut window = Window::open("t".into(), 0);
        let key = |at: usize| u32::try_from(at).unwrap().to_be_bytes();
        for at in 0..MOST_KEYS {
            window.changed("t", &key(at));
            assert_eq!(window.is_full(), at + 1 >= MAX_KEYS);
        }
        window.changed("t", &key(0));
        window.changed("other", &key(MOST_KEYS));
        assert!(!window.is_spoiled());
        for at in MOST_KEYS..MOST_KEYS + 9 {
            window.changed("t", &key(at));
        }
        assert!(window.is_spoiled(), "which keys came is not known");
        assert_eq!(window.keys.capacity(), 0);
    }

    #[test]
    fn a_window_is_of_one_topic() {
        let mut window = Window::open("t".into(), 0);
        window.changed("t", b"1");
        window.changed("other", b"2");
        window.truncated("other");
        assert!(window.has(b"1") && !window.has(b"2") && !window.is_spoiled());
        window.changed_shape("t");
        assert!(window.is_spoiled());
    }
}
