//! Figures of the last while.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

/// So many times are kept.
const KEPT: usize = 128;
/// A rate is that of the last one or two of these.
const SPAN: Duration = Duration::from_secs(10);

/// The last times that something took. The oldest makes room.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<f32>);

impl Recent {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "seven digits are enough for people"
    )]
    pub(super) fn add(&mut self, seconds: f64) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(seconds as f32);
    }

    /// Half, and nearly all, took no longer, in milliseconds; null where nothing was measured.
    pub(super) fn report(&self) -> Value {
        let mut sorted: Vec<f32> = self.0.iter().copied().collect();
        sorted.sort_unstable_by(f32::total_cmp);
        let Some(last) = sorted.len().checked_sub(1) else {
            return Value::Null;
        };
        let at = |percent: usize| {
            let millis = f64::from(sorted[(last * percent).div_ceil(100)]) * 1e3;
            (millis * 10.0).round() / 10.0
        };
        json!({ "p50": at(50), "p99": at(99) })
    }
}

/// How much of something comes in a second.
#[derive(Debug, Default)]
pub(super) struct Rate {
    before: Option<Span>,
    now: Option<Span>,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    begun: Instant,
    count: u64,
}

impl Rate {
    pub(super) fn add(&mut self, count: u64) {
        let now = Instant::now();
        self.turn(now);
        let span = self.now.get_or_insert(Span {
            begun: now,
            count: 0,
        });
        span.count += count;
    }

    /// Over the time since the span before the present one began.
    pub(super) fn per_second(&self) -> f64 {
        let now = Instant::now();
        let mut rate = Self { ..*self };
        rate.turn(now);
        let spans = rate.before.iter().chain(&rate.now);
        let begun = spans.clone().map(|span| span.begun).min();
        let count: u64 = spans.map(|span| span.count).sum();
        let Some(begun) = begun else {
            return 0.0;
        };
        // What has only just begun says little.
        let seconds = (now - begun).max(Duration::from_secs(1)).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "2^53 records are out of reach")]
        let rate = count as f64 / seconds;
        (rate * 10.0).round() / 10.0
    }

    fn turn(&mut self, now: Instant) {
        if self.now.is_some_and(|span| now - span.begun >= SPAN) {
            self.before = self.now.take();
        }
        if self.before.is_some_and(|span| now - span.begun >= SPAN * 2) {
            self.before = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Rate, Recent};

    #[test]
    fn the_middle_and_the_end_of_the_last_times() {
        let mut recent = Recent::default();
        assert!(recent.report().is_null());
        for seconds in 0..1_000 {
            recent.add(f64::from(seconds));
        }
        let report = recent.report();
        assert_eq!(report["p50"], 936_000.0);
        assert_eq!(report["p99"], 998_000.0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_that_of_the_last_seconds() {
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(), 0.0);
        for _ in 0..30 {
            rate.add(100);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let steady = rate.per_second();
        assert!((90.0..=110.0).contains(&steady), "{steady}");
        tokio::time::advance(Duration::from_secs(15)).await;
        assert!(rate.per_second() < 80.0);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(rate.per_second(), 0.0);
    }
}
