//! Postgres counts microseconds since 2000-01-01, everybody else since 1970-01-01.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds from 1970-01-01 to 2000-01-01.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// Microseconds since 1970 of a time on the wire.
#[inline]
pub(crate) const fn unix_us(postgres_us: i64) -> i64 {
    postgres_us.saturating_add(POSTGRES_EPOCH_US)
}

/// Now, as the wire wants it.
pub(super) fn postgres_now_us() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX) - POSTGRES_EPOCH_US
}

#[cfg(test)]
mod tests {
    use super::{POSTGRES_EPOCH_US, postgres_now_us, unix_us};

    #[test]
    fn the_epochs_are_thirty_years_apart() {
        let days = 30 * 365 + 7; // leap years 1972 to 1996
        assert_eq!(POSTGRES_EPOCH_US, days * 86_400 * 1_000_000);
        assert_eq!(unix_us(i64::MAX), i64::MAX);
        assert!(unix_us(postgres_now_us()) > 1_700_000_000_000_000);
    }
}
