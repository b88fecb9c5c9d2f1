//! Commit times, as `timestamptz_to_str` prints them in UTC.

/// Microseconds since 1970 of `2026-11-21 11:45:03.123456+00`; `None` for any other form or zone.
pub(super) fn unix_us(text: &[u8]) -> Option<i64> {
    let text = text.strip_suffix(b"+00")?;
    let (date, clock) = text.split_at_checked(text.iter().position(|byte| *byte == b' ')?)?;
    let mut date = date.split(|byte| *byte == b'-').map(number);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, fraction) = match clock.iter().position(|byte| *byte == b'.') {
        Some(point) => (&clock[1..point], &clock[point + 1..]),
        None => (&clock[1..], &b""[..]),
    };
    let mut clock = clock.split(|byte| *byte == b':').map(number);
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if date.next().is_some() || clock.next().is_some() || fraction.len() > 6 {
        return None;
    }
    let in_range = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !in_range {
        return None;
    }
    let mut micros = 0;
    for place in 0..6 {
        let digit = fraction.get(place).copied().unwrap_or(b'0');
        micros = micros * 10 + i64::from(char::from(digit).to_digit(10)?);
    }
    let seconds = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    Some(seconds * 1_000_000 + micros)
}

fn number(digits: &[u8]) -> Option<i64> {
    if digits.is_empty() || digits.len() > 4 {
        return None;
    }
    digits.iter().try_fold(0, |number, byte| {
        Some(number * 10 + i64::from(char::from(*byte).to_digit(10)?))
    })
}

/// Days since 1970-01-01 of the proleptic Gregorian calendar, with years that begin in March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::unix_us;

    #[test]
    fn commit_times_are_read() {
        assert_eq!(unix_us(b"1970-01-01 00:00:00+00"), Some(0));
        assert_eq!(
            unix_us(b"2000-02-29 12:00:00.5+00"),
            Some(951_825_600_500_000)
        );
        assert_eq!(
            unix_us(b"2026-11-21 11:45:03.123456+00"),
            Some(1_795_261_503_123_456)
        );
        assert_eq!(
            unix_us(b"2100-03-01 00:00:00.000001+00"),
            Some(4_107_542_400_000_001)
        );
    }

    #[test]
    fn other_forms_are_refused() {
        for text in [
            "2026-11-21 11:45:03+01",
            "2026-11-21 11:45:03",
            "2026-11-21",
            "infinity",
            "2026-13-21 11:45:03+00",
            "2026-11-21 11:45:03.1234567+00",
            "2026-11-21 11:45:0x+00",
            "0044-03-15 00:00:00+00 BC",
            "+00",
            " +00",
        ] {
            assert_eq!(unix_us(text.as_bytes()), None, "{text}");
        }
    }
}
