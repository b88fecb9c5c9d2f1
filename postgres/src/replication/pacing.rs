//! When to wait a moment before the next read.
//!
//! The walsender sends each message on its own, so that a reader who always waits for more is woken, and
//! costs the server a system call, for every row. While much is coming, a pause lets many messages gather
//! for one read: it halves the walsender's CPU, which is what bounds catching up.

use std::time::Duration;

use tokio::time::Instant;

/// The pause. The runtime's clock ticks in milliseconds, so it comes to about one; 0.2 to 2 ms were found
/// good, 5 ms worse.
const PAUSE: Duration = Duration::from_micros(100);
/// Over how long the rate is measured before pauses begin: a flood is recognised soon.
const ENTER_WINDOW: Duration = Duration::from_millis(2);
/// Over how long before they end: a walsender that just lost its CPU for a while is still catching up.
const LEAVE_WINDOW: Duration = Duration::from_millis(32);
/// From this rate on we are catching up; below it, every read waits without a pause, for latency's sake.
const BEHIND_BYTES_PER_MS: u128 = 2 << 10;
/// After a read of this size there is more to read already.
const LARGE_READ_BYTES: usize = 64 << 10;

/// Decides on pauses by what the last reads brought.
#[derive(Debug)]
pub(super) struct Pacing {
    window_start: Instant,
    window_bytes: usize,
    behind: bool,
    resume_at: Option<Instant>,
}

impl Pacing {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            window_start: now,
            window_bytes: 0,
            behind: false,
            resume_at: None,
        }
    }

    /// When the next read is due, if there is a pause before it.
    pub(super) const fn resume_at(&self) -> Option<Instant> {
        self.resume_at
    }

    /// Takes note of a read.
    pub(super) fn after_read(&mut self, bytes: usize, now: Instant) {
        self.window_bytes += bytes;
        let window = now.duration_since(self.window_start);
        let enough = if self.behind {
            LEAVE_WINDOW
        } else {
            ENTER_WINDOW
        };
        if window >= enough {
            let bytes = self.window_bytes as u128;
            self.behind = bytes * 1000 >= BEHIND_BYTES_PER_MS * window.as_micros();
            self.window_start = now;
            self.window_bytes = 0;
        }
        let pause = self.behind && bytes < LARGE_READ_BYTES;
        self.resume_at = pause.then(|| now + PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{LARGE_READ_BYTES, Pacing};

    /// Feeds reads of `bytes` every `gap_us` and says after how many of them a pause followed.
    fn pauses(
        pacing: &mut Pacing,
        now: &mut Instant,
        reads: u32,
        bytes: usize,
        gap_us: u64,
    ) -> u32 {
        let mut pauses = 0;
        for _ in 0..reads {
            *now += Duration::from_micros(gap_us);
            pacing.after_read(bytes, *now);
            pauses += u32::from(pacing.resume_at().is_some());
        }
        pauses
    }

    #[test]
    fn small_reads_in_a_flood_are_paced() {
        let mut now = Instant::now();
        let mut pacing = Pacing::new(now);
        let paced = pauses(&mut pacing, &mut now, 10_000, 120, 8);
        assert!(paced > 9_000, "{paced}");
    }

    #[test]
    fn a_trickle_is_not_paced_even_right_after_a_flood() {
        let mut now = Instant::now();
        let mut pacing = Pacing::new(now);
        assert!(pauses(&mut pacing, &mut now, 1_000, 120, 8) > 0);
        // A thousand small transactions a second.
        assert!(pauses(&mut pacing, &mut now, 100, 700, 1_000) <= 64);
        assert_eq!(pauses(&mut pacing, &mut now, 1_000, 700, 1_000), 0);
    }

    #[test]
    fn the_first_read_after_idling_is_not_paced() {
        let mut now = Instant::now();
        let mut pacing = Pacing::new(now);
        assert!(pauses(&mut pacing, &mut now, 1_000, 120, 8) > 0);
        assert_eq!(pauses(&mut pacing, &mut now, 1, 5_000, 50_000), 0);
    }

    #[test]
    fn large_reads_are_not_paced() {
        let mut now = Instant::now();
        let mut pacing = Pacing::new(now);
        assert_eq!(
            pauses(&mut pacing, &mut now, 100, LARGE_READ_BYTES, 1_000),
            0
        );
    }
}
