//! How far a partition has come, as its writer tells the poll thread.

use std::sync::atomic::{AtomicI64, Ordering};

const UNKNOWN: i64 = -1;

/// Offsets of one assignment of a partition. `start <= durable` once both are known.
#[derive(Debug)]
pub(crate) struct Position {
    start: AtomicI64,
    durable: AtomicI64,
}

impl Position {
    pub(crate) const fn new() -> Self {
        Self {
            start: AtomicI64::new(UNKNOWN),
            durable: AtomicI64::new(UNKNOWN),
        }
    }

    /// The target is open and everything below `offset` is in it.
    pub(crate) fn open_at(&self, offset: i64) {
        self.durable.store(offset, Ordering::Release);
        self.start.store(offset, Ordering::Release);
    }

    /// Everything below `offset` is in the target for good.
    pub(crate) fn advance(&self, offset: i64) {
        self.durable.fetch_max(offset, Ordering::AcqRel);
    }

    /// Where reading begins, once known.
    pub(crate) fn start(&self) -> Option<i64> {
        known(self.start.load(Ordering::Acquire))
    }

    /// What may be committed, once known.
    pub(crate) fn durable(&self) -> Option<i64> {
        known(self.durable.load(Ordering::Acquire))
    }
}

fn known(offset: i64) -> Option<i64> {
    (offset != UNKNOWN).then_some(offset)
}
