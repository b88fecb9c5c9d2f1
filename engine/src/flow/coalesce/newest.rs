//! The newest change per key of some records.

use ahash::AHashMap;

use crate::flow::batch::{Entry, Lacking};

/// The newest change per key. Keys are compared as bytes: those are a row's identity.
pub(super) struct Newest<'a> {
    entries: Vec<Option<Entry>>,
    by_key: AHashMap<&'a [u8], usize>,
    pub(super) below: Option<u64>,
}

impl<'a> Newest<'a> {
    pub(super) fn with_capacity(records: usize) -> Self {
        Self {
            entries: Vec::with_capacity(records),
            by_key: AHashMap::with_capacity(records),
            below: None,
        }
    }

    /// The higher version wins, of equal ones (a snapshot's rows) the later.
    pub(super) fn add(&mut self, key: Option<&'a [u8]>, mut entry: Entry) {
        let index = self.entries.len();
        if let Some(key) = key {
            if let Some(&earlier) = self.by_key.get(key) {
                let is_older = self.entries[earlier]
                    .as_ref()
                    .is_some_and(|earlier| entry.seq < earlier.seq);
                if is_older {
                    return;
                }
                let before = self.entries[earlier].take();
                if let (Some(lacking), Some(before)) = (&mut entry.lacking, before) {
                    lacking.follow(before, self.below);
                }
            }
            self.by_key.insert(key, index);
        }
        self.entries.push(Some(entry));
    }

    pub(super) fn is_below(&mut self, below: u64) {
        self.below = self.below.max(Some(below));
    }

    /// What is not below the boundary, and what is.
    pub(super) fn finish(self) -> (Vec<Entry>, Vec<Entry>) {
        let below = self.below;
        let entries = self.entries.into_iter().flatten();
        entries.partition(|entry| below.is_none_or(|below| entry.seq >= below))
    }
}

impl Lacking {
    /// What a row lacks is looked for in the entry before, unless that is another row or ends one.
    fn follow(&mut self, before: Entry, below: Option<u64>) {
        if self.is_new {
            return;
        }
        let is_gone = below.is_some_and(|below| before.seq < below);
        match before.value {
            Some(plan) if !is_gone => {
                *self = before.lacking.unwrap_or_default();
                self.earlier.push((before.record, plan));
            }
            _ => self.is_new = true,
        }
    }
}
