//! When inserts are copied straight into the table.

use std::sync::atomic::{AtomicU32, Ordering};

/// The most batches of inserts that go by a temporary table before the straight way is tried again.
const LONGEST: u32 = 1024;

/// Whether the straight way is worth another try: a table that has the rows refuses it, and what was copied by then stays
/// dead in the table until a vacuum. So each refusal doubles the number of batches that do not try it.
#[derive(Debug, Default)]
pub(super) struct Straight {
    /// Batches still to pass.
    left: AtomicU32,
    /// Batches that pass after the next refusal.
    pause: AtomicU32,
}

impl Straight {
    /// Asked for each batch of inserts.
    pub(super) fn is_tried(&self) -> bool {
        let passed = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
        passed.is_err()
    }

    /// The table has one of the rows.
    pub(super) fn was_refused(&self) {
        let pause = self.pause.load(Ordering::Relaxed).clamp(1, LONGEST);
        self.left.store(pause, Ordering::Relaxed);
        self.pause.store(pause * 2, Ordering::Relaxed);
    }

    /// It has taken them.
    pub(super) fn was_taken(&self) {
        let pause = self.pause.load(Ordering::Relaxed);
        self.pause.store(pause / 2, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, Straight};

    #[test]
    fn each_refusal_makes_the_pause_longer_up_to_a_bound() {
        let straight = Straight::default();
        let mut pauses = Vec::new();
        for _ in 0..13 {
            let passed = (0..).take_while(|_| !straight.is_tried()).count();
            pauses.push(passed);
            straight.was_refused();
        }
        assert_eq!(pauses[..5], [0, 1, 2, 4, 8]);
        assert_eq!(pauses[12], LONGEST as usize);
        for _ in 0..12 {
            straight.was_taken();
        }
        straight.left.store(0, std::sync::atomic::Ordering::Relaxed);
        straight.was_refused();
        assert!(!straight.is_tried() && straight.is_tried());
    }
}
