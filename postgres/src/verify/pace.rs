//! How much of the server's time reading takes.

use std::time::Duration;

use tokio::time::Instant;

/// A longer pause is of no use to the server.
const LONGEST: Duration = Duration::from_secs(60);

/// Reading takes a share of one process' time on the server: each statement is followed by a pause, in which nothing is held.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    /// How long a pause is for each second of reading.
    rest: f64,
}

impl Pace {
    /// `percent` of 1 to 100.
    pub(super) fn new(percent: u8) -> Self {
        let share = f64::from(percent.clamp(1, 100)) / 100.0;
        Self {
            rest: 1.0 / share - 1.0,
        }
    }

    fn pause(&self, took: Duration) -> Duration {
        took.mul_f64(self.rest).min(LONGEST)
    }

    /// Waits for what was done since then.
    pub(super) async fn rest(&self, since: Instant) {
        let pause = self.pause(since.elapsed());
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{LONGEST, Pace};

    #[test]
    fn a_share_is_kept_by_pauses() {
        let second = Duration::from_secs(1);
        assert_eq!(Pace::new(20).pause(second), 4 * second);
        assert_eq!(Pace::new(100).pause(second), Duration::ZERO);
        assert_eq!(Pace::new(0).pause(second), LONGEST);
    }
}
