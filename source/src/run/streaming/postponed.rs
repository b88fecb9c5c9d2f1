//! Tables whose rows could not be read, and when that is tried again: meanwhile the others go on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The pause behind the first failure; each one behind it is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// By topic.
#[derive(Default)]
pub(super) struct Postponed(BTreeMap<String, Failures>);

struct Failures {
    count: u32,
    again: Instant,
}

impl Postponed {
    /// Counts a failure. Returns for how long the table is left alone.
    pub(super) fn failed(&mut self, topic: &str, now: Instant) -> Duration {
        let count = self.0.get(topic).map_or(0, |failures| failures.count);
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(count));
        let pause = pause.min(LONGEST_PAUSE);
        let failures = Failures {
            count: count.saturating_add(1),
            again: now + pause,
        };
        self.0.insert(topic.to_owned(), failures);
        pause
    }

    /// Whether a table may be tried.
    pub(super) fn allows(&self, topic: &str, now: Instant) -> bool {
        let failures = self.0.get(topic);
        failures.is_none_or(|failures| failures.again <= now)
    }

    /// Whether one of them may be tried again.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.0.values().any(|failures| failures.again <= now)
    }

    pub(super) fn forget(&mut self, topic: &str) {
        self.0.remove(topic);
    }

    /// Forgets all but these.
    pub(super) fn keep(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.0.retain(|topic, _| is_kept(topic));
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, Instant, LONGEST_PAUSE, Postponed};

    #[test]
    fn pauses_grow_to_a_limit_and_are_forgotten() {
        let mut postponed = Postponed::default();
        let now = Instant::now();
        let pauses: Vec<Duration> = (0..8).map(|_| postponed.failed("t", now)).collect();
        assert_eq!(pauses[..3], [1, 2, 4].map(Duration::from_secs));
        assert_eq!(pauses[7], LONGEST_PAUSE);
        assert!(!postponed.allows("t", now) && postponed.allows("u", now));
        assert!(!postponed.is_due(now) && postponed.is_due(now + LONGEST_PAUSE));
        postponed.keep(|topic| topic == "t");
        assert!(!postponed.allows("t", now) && postponed.allows("t", now + LONGEST_PAUSE));
        postponed.forget("t");
        assert!(postponed.allows("t", now));
        assert_eq!(postponed.failed("t", now), Duration::from_secs(1));
    }
}
