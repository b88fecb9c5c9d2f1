//! How fast rows are read, over all that read.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// `snapshot.max_rows_per_second`: rows are spent when they were read, and a reader waits until they are paid.
#[derive(Debug)]
pub(crate) struct Throttle {
    /// Seconds that one row costs; zero without a limit.
    seconds_per_row: f64,
    /// When all rows that were spent are paid.
    paid_at: Mutex<Option<Instant>>,
}

impl Throttle {
    pub(crate) fn new(max_rows_per_second: Option<u64>) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let seconds_per_row = max_rows_per_second.map_or(0.0, |rate| 1.0 / rate.max(1) as f64);
        Self {
            seconds_per_row,
            paid_at: Mutex::default(),
        }
    }

    /// Rows were read. Returns whether the next ones have to wait.
    pub(crate) fn spend(&self, rows: u64) -> bool {
        self.spend_at(rows, Instant::now())
    }

    /// How many rows may be read in a second; no bound without a limit.
    pub(crate) fn rows_per_second(&self) -> usize {
        if self.seconds_per_row <= 0.0 {
            return usize::MAX;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive number, saturating"
        )]
        let rows = (1.0 / self.seconds_per_row) as usize;
        rows.max(1)
    }

    /// How many pages hold no more rows than may be read in a second, at the least one; no bound without a limit.
    pub(crate) fn pages_in_a_second(&self) -> u32 {
        /// `MaxHeapTuplesPerPage` of pages of 8 KiB.
        const MOST_ROWS_IN_A_PAGE: usize = 291;
        let pages = self.rows_per_second() / MOST_ROWS_IN_A_PAGE;
        u32::try_from(pages).unwrap_or(u32::MAX).max(1)
    }

    /// Waits until more rows may be read. Cancel safe.
    pub(crate) async fn settled(&self) {
        let paid_at = *self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = paid_at {
            tokio::time::sleep_until(at.into()).await;
        }
    }

    fn spend_at(&self, rows: u64, now: Instant) -> bool {
        if self.seconds_per_row <= 0.0 {
            return false;
        }
        #[expect(clippy::cast_precision_loss, reason = "a time")]
        let cost = Duration::try_from_secs_f64(rows as f64 * self.seconds_per_row);
        let mut paid_at = self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
        // Time in which nothing was read is not saved up.
        let from = paid_at.map_or(now, |at| at.max(now));
        let until = from + cost.unwrap_or(Duration::MAX).min(Duration::from_secs(3600));
        *paid_at = Some(until);
        until > now
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Throttle;

    #[test]
    fn rows_of_all_readers_add_up() {
        let throttle = Throttle::new(Some(100));
        let start = Instant::now();
        assert!(throttle.spend_at(50, start));
        assert!(throttle.spend_at(50, start));
        assert_eq!(
            throttle.paid_at.lock().unwrap().unwrap(),
            start + Duration::from_secs(1)
        );
        let later = start + Duration::from_secs(60);
        assert!(throttle.spend_at(10, later));
        assert_eq!(
            throttle.paid_at.lock().unwrap().unwrap(),
            later + Duration::from_millis(100)
        );
        assert!(!Throttle::new(None).spend_at(u64::MAX, start));
    }

    #[test]
    fn a_second_has_a_page_at_the_least() {
        let pages = |limit| Throttle::new(limit).pages_in_a_second();
        assert_eq!([pages(Some(1)), pages(Some(29_100))], [1, 100]);
        assert_eq!(pages(None), u32::MAX);
    }

    #[tokio::test]
    async fn a_reader_waits_until_rows_are_paid() {
        let throttle = Throttle::new(Some(1000));
        let start = Instant::now();
        throttle.spend(100);
        throttle.settled().await;
        assert!(start.elapsed() >= Duration::from_millis(100));
        Throttle::new(None).settled().await;
    }
}
