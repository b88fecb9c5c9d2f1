//! How much of a snapshot is read, and how long the rest takes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Serialize;

/// The usual size of a page; another one shifts bytes, not percentages.
const PAGE_BYTES: u64 = 8192;
/// The pace is that of the last minute: a table of wide rows follows one of narrow rows.
const WINDOW: Duration = Duration::from_secs(60);

/// How much of one or several tables is read. Rows are counted; bytes are pages of the tables' files, as planned when
/// the reading began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Extent {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) bytes_left: u64,
    /// 0 to 100.
    pub(crate) percent: f64,
}

impl Extent {
    pub(crate) fn new(rows: u64, pages: u64, pages_left: u64) -> Self {
        let bytes_left = pages_left.min(pages) * PAGE_BYTES;
        Self::of(rows, pages * PAGE_BYTES - bytes_left, bytes_left)
    }

    fn of(rows: u64, bytes: u64, bytes_left: u64) -> Self {
        let all = bytes + bytes_left;
        // In tenths, so that it prints well. Nothing planned yet is nothing read.
        let tenths = (bytes * 1000).checked_div(all).unwrap_or(0);
        #[expect(clippy::cast_precision_loss, reason = "at most 1000")]
        let percent = tenths as f64 / 10.0;
        Self {
            rows,
            bytes,
            bytes_left,
            percent,
        }
    }
}

impl std::iter::Sum for Extent {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| {
            Self::of(
                sum.rows + one.rows,
                sum.bytes + one.bytes,
                sum.bytes_left + one.bytes_left,
            )
        })
    }
}

/// How fast what is left becomes less.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// What was left when, over the last minute.
    seen: VecDeque<(Instant, u64)>,
}

impl Pace {
    /// So much is left now.
    pub(crate) fn observe(&mut self, bytes_left: u64, now: Instant) {
        // Another table was asked for: what was seen says nothing of the pace.
        if self
            .seen
            .back()
            .is_some_and(|(_, before)| *before < bytes_left)
        {
            self.seen.clear();
        }
        let old = |at: Instant| now.duration_since(at) > WINDOW;
        while self.seen.len() > 2 && self.seen.get(1).is_some_and(|(at, _)| old(*at)) {
            self.seen.pop_front();
        }
        self.seen.push_back((now, bytes_left));
    }

    /// How long the rest takes at this pace; `None` before there is one.
    pub(crate) fn seconds_left(&self, bytes_left: u64) -> Option<u64> {
        let ((began, before), (now, after)) = (self.seen.front()?, self.seen.back()?);
        let read = u128::from(before.checked_sub(*after).filter(|read| *read > 0)?);
        let took = now.duration_since(*began).as_millis();
        u64::try_from(u128::from(bytes_left) * took / read / 1000).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Extent, Pace};

    #[test]
    fn tables_add_up() {
        let all: Extent = [Extent::new(10, 100, 25), Extent::new(5, 100, 100)]
            .into_iter()
            .sum();
        assert_eq!((all.rows, all.percent), (15, 37.5));
        assert_eq!((all.bytes, all.bytes_left), (75 * 8192, 125 * 8192));
        assert_eq!(Extent::new(0, 0, 0).percent, 0.0);
        // A relation that has grown since it was planned.
        assert_eq!(Extent::new(1, 4, 9).bytes, 0);
    }

    #[test]
    fn the_rest_takes_as_long_as_the_pace_says() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pace = Pace::default();
        pace.observe(1000, at(0));
        assert_eq!(pace.seconds_left(1000), None);
        pace.observe(900, at(10));
        assert_eq!(pace.seconds_left(900), Some(90));
        for second in 11..100 {
            pace.observe(900 - (second - 10) * 5, at(second));
        }
        assert_eq!(pace.seconds_left(455), Some(91), "five a second by now");
        assert!(pace.seen.len() < 70);
        pace.observe(5000, at(101));
        assert_eq!(pace.seconds_left(5000), None, "another table was asked for");
    }
}
