//! From when on the stream carries all changes of a table: what a transaction did before the table came into its publication
//! is not in the stream, and becomes visible only when it ends.

use std::collections::{BTreeSet, HashMap};

/// Which tables the stream carries, and whose end the others wait for.
pub(super) struct Settling {
    /// Tables all of whose changes behind some moment are in the stream, with their place (`Members::place`).
    settled: HashMap<u32, u64>,
    /// Of the others: the place, and the transactions that wrote to the table before.
    writers: HashMap<u32, (u64, BTreeSet<String>)>,
}

impl Settling {
    pub(super) fn new(settled: HashMap<u32, u64>) -> Self {
        Self {
            settled,
            writers: HashMap::new(),
        }
    }

    pub(super) fn is_settled(&self, oid: u32, place: u64) -> bool {
        self.settled.get(&oid) == Some(&place)
    }

    /// Takes over which transactions write to a table. Returns whether all have ended that did when it came to this place.
    pub(super) fn settle(&mut self, oid: u32, place: u64, now: BTreeSet<String>) -> bool {
        let left = match self.writers.remove(&oid) {
            Some((before, writers)) if before == place => {
                writers.intersection(&now).cloned().collect()
            }
            _ => now,
        };
        if left.is_empty() {
            self.settled.insert(oid, place);
            return true;
        }
        self.writers.insert(oid, (place, left));
        false
    }

    /// Forgets the writers to tables that are not there any more.
    pub(super) fn keep(&mut self, is_there: impl Fn(u32) -> bool) {
        self.writers.retain(|oid, _| is_there(*oid));
    }

    /// Whether the end of some transaction is awaited.
    pub(super) fn awaits(&self) -> bool {
        !self.writers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use super::Settling;

    fn writers(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn those_who_wrote_before_are_awaited_and_nobody_else() {
        let mut settling = Settling::new(HashMap::from([(1, 7)]));
        assert!(
            settling.is_settled(1, 7) && !settling.is_settled(1, 8) && !settling.is_settled(2, 7)
        );
        assert!(!settling.settle(2, 7, writers(&["a", "b"])));
        assert!(
            !settling.settle(2, 7, writers(&["b", "c"])),
            "b is still there"
        );
        assert!(settling.awaits() && !settling.is_settled(2, 7));
        assert!(
            settling.settle(2, 7, writers(&["a", "c"])),
            "a is another one of this name by now"
        );
        assert!(settling.is_settled(2, 7) && !settling.awaits());
        assert!(settling.settle(3, 7, writers(&[])), "nobody writes");
    }

    #[test]
    fn another_place_begins_anew() {
        let mut settling = Settling::new(HashMap::new());
        assert!(!settling.settle(1, 7, writers(&["a"])));
        assert!(
            !settling.settle(1, 8, writers(&["b"])),
            "b wrote before it came there"
        );
        settling.keep(|oid| oid == 1);
        assert!(settling.awaits());
        settling.keep(|_| false);
        assert!(!settling.awaits(), "the table is gone");
        assert!(!settling.settle(1, 8, writers(&["c"])), "and is back");
    }
}
