//! Lag in seconds, from what the server's WAL end was when.

use std::collections::VecDeque;
use std::time::Instant;

use tributary_schemas::Lsn;

/// More samples are thinned out; at a poll every two seconds these are half an hour.
const MAX_SAMPLES: usize = 1000;

/// When the server's WAL ended where.
#[derive(Debug, Default)]
pub(super) struct LagClock {
    seen: VecDeque<(Instant, Lsn)>,
}

impl LagClock {
    /// For how long the server has had WAL that is not confirmed, in seconds: as far back as this process has
    /// watched. WAL of other databases counts too, until the heartbeat confirms it.
    pub(super) fn lag_seconds(&mut self, wal_end: Lsn, confirmed: Lsn, now: Instant) -> f64 {
        // A restored or promoted server counts anew.
        if self
            .seen
            .back()
            .is_some_and(|(_, before)| *before > wal_end)
        {
            self.seen.clear();
        }
        while self.seen.front().is_some_and(|(_, end)| *end <= confirmed) {
            self.seen.pop_front();
        }
        if self.seen.back().is_none_or(|(_, before)| *before < wal_end) && wal_end > confirmed {
            self.seen.push_back((now, wal_end));
        }
        if self.seen.len() > MAX_SAMPLES {
            let mut keep = false;
            self.seen.retain(|_| {
                keep = !keep;
                keep
            });
        }
        let first = self.seen.front();
        first.map_or(0.0, |(since, _)| now.duration_since(*since).as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tributary_schemas::Lsn;

    use super::{LagClock, MAX_SAMPLES};

    #[test]
    fn lag_is_the_age_of_the_oldest_unconfirmed_wal() {
        let start = Instant::now();
        let mut clock = LagClock::default();
        let mut lag = |second: u64, end: u64, confirmed: u64| {
            let now = start + Duration::from_secs(second);
            clock.lag_seconds(Lsn(end), Lsn(confirmed), now)
        };
        assert_eq!(lag(0, 100, 100), 0.0);
        assert_eq!(lag(10, 200, 100), 0.0, "it came up to now");
        assert_eq!(lag(20, 300, 100), 10.0);
        assert_eq!(
            lag(30, 300, 100),
            20.0,
            "nothing new, but the old is waiting"
        );
        assert_eq!(lag(40, 400, 200), 20.0, "what came at 20 waits");
        assert_eq!(lag(50, 400, 400), 0.0);
        assert_eq!(lag(1000, 500, 400), 0.0, "an idle time is no lag");
        assert_eq!(lag(1010, 90, 80), 0.0, "another server");
        for second in 1020..4000 {
            lag(second, second, 80);
        }
        assert_eq!(lag(4000, 4000, 80), 2990.0);
        assert!(clock.seen.len() <= MAX_SAMPLES);
    }
}
