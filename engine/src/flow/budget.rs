//! The bytes that all lanes hold together.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A lane may hold this many times what is free, and goes on once it holds no more than what is free. So one slow lane takes
/// at most four fifths, and whatever lanes are slow, something is left for one that is not. (Dynamic thresholds, as switches
/// share their buffers: Choudhury and Hahne, 1998.)
const SHARE: usize = 4;

/// Bytes of records that wait or are being written, over all partitions.
///
/// `held <= limit + one record`: nothing is taken while it is spent. A replay of letters comes on top: it takes its part at once,
/// for it cannot wait for lanes that may stand still, and they wait until they fit beside it.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    held: AtomicUsize,
}

impl Budget {
    pub(crate) const fn new(limit: usize) -> Self {
        Self {
            limit,
            held: AtomicUsize::new(0),
        }
    }

    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    pub(crate) fn take(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether a lane that holds so many bytes may take more.
    pub(crate) fn admits(&self, lane: usize) -> bool {
        lane < self.free().saturating_mul(SHARE)
    }

    /// Whether a lane that was stopped may go on: far enough below where it stops, or the bytes that Kafka sends ahead are
    /// fetched again and again.
    pub(crate) fn has_room(&self, lane: usize) -> bool {
        lane <= self.free()
    }

    /// Whether nobody may take more.
    pub(crate) fn is_spent(&self) -> bool {
        self.free() == 0
    }

    fn free(&self) -> usize {
        #[cfg(test)]
        if crate::outside::given::has(crate::outside::given::Flaw::NoBudget) {
            return usize::MAX;
        }
        self.limit.saturating_sub(self.held())
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[test]
    fn slow_lanes_leave_something_for_the_next_one() {
        let budget = Budget::new(1_000_000);
        let mut held = Vec::new();
        for _ in 0..4 {
            let mut lane = 0;
            while budget.admits(lane) {
                lane += 1_000;
                budget.take(1_000);
            }
            held.push(lane);
        }
        assert_eq!(held, [800_000, 160_000, 32_000, 7_000]);
        assert!(!budget.is_spent() && budget.admits(0));
        // The first goes on when it holds no more than is free.
        budget.give_back(300_000);
        assert!(!budget.has_room(held[0] - 300_000));
        budget.give_back(100_000);
        assert!(budget.has_room(held[0] - 400_000));
    }

    #[test]
    fn one_record_may_be_larger_than_all() {
        let budget = Budget::new(10);
        assert!(budget.admits(0));
        budget.take(100);
        assert!(budget.is_spent() && !budget.admits(0) && !budget.has_room(1));
        budget.give_back(100);
        assert!(!budget.is_spent() && budget.has_room(1));
    }
}
