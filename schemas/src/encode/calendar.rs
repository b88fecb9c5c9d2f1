//! Dates and times: Postgres' ISO text to numbers since 1970, and to ISO 8601.
//!
//! All dates are proleptic Gregorian, as Postgres' are; the year 1 BC is the year 0 of ISO 8601.

use super::misfit::Misfit;
use crate::sentinel;

const NO_DATE: Misfit = Misfit::text("it is not a date or time in ISO form");
const TOO_FAR: Misfit = Misfit::value("it is past the range of 64-bit microseconds since 1970");
const IS_SENTINEL: Misfit = Misfit::value("it equals the number that stands for infinity");
const TOO_FINE: Misfit = Misfit::value("it is finer than a millisecond");

const SECOND_US: i64 = 1_000_000;
const DAY_US: i64 = 86_400 * SECOND_US;

/// A date or a point in time.
enum Moment {
    Infinity,
    NegativeInfinity,
    /// Days since 1970-01-01, and microseconds of the day.
    At {
        days: i64,
        us: i64,
    },
}

/// Days since 1970-01-01; the infinities are [`sentinel::DATE_INFINITY`] and
/// [`sentinel::DATE_NEGATIVE_INFINITY`].
pub(super) fn date(text: &[u8]) -> Result<i32, Misfit> {
    match moment(text, false, false)? {
        Moment::Infinity => Ok(sentinel::DATE_INFINITY),
        Moment::NegativeInfinity => Ok(sentinel::DATE_NEGATIVE_INFINITY),
        Moment::At { days, .. } => match i32::try_from(days) {
            Ok(sentinel::DATE_INFINITY | sentinel::DATE_NEGATIVE_INFINITY) => Err(IS_SENTINEL),
            Ok(days) => Ok(days),
            Err(_) => Err(Misfit::value(
                "it is past the range of 32-bit days since 1970",
            )),
        },
    }
}

/// Microseconds since midnight; 24:00:00 is a day's worth of them.
pub(super) fn time_micros(text: &[u8]) -> Result<i64, Misfit> {
    let mut rest = text;
    let us = clock(&mut rest)?;
    if rest.is_empty() {
        Ok(us)
    } else {
        Err(NO_DATE)
    }
}

/// Milliseconds since midnight.
pub(super) fn time_millis(text: &[u8]) -> Result<i64, Misfit> {
    millis(time_micros(text)?)
}

/// Microseconds since 1970; the infinities are [`sentinel::MICRO_TIMESTAMP_INFINITY`] and
/// [`sentinel::MICRO_TIMESTAMP_NEGATIVE_INFINITY`].
pub(super) fn timestamp_micros(text: &[u8]) -> Result<i64, Misfit> {
    let infinities = [
        sentinel::MICRO_TIMESTAMP_INFINITY,
        sentinel::MICRO_TIMESTAMP_NEGATIVE_INFINITY,
    ];
    timestamp(text, infinities, |days, us| {
        days.checked_mul(DAY_US)
            .and_then(|day| day.checked_add(us))
            .ok_or(TOO_FAR)
    })
}

/// Milliseconds since 1970; the infinities are [`sentinel::TIMESTAMP_INFINITY`] and
/// [`sentinel::TIMESTAMP_NEGATIVE_INFINITY`].
pub(super) fn timestamp_millis(text: &[u8]) -> Result<i64, Misfit> {
    let infinities = [
        sentinel::TIMESTAMP_INFINITY,
        sentinel::TIMESTAMP_NEGATIVE_INFINITY,
    ];
    timestamp(text, infinities, |days, us| {
        let ms = millis(us)?;
        days.checked_mul(DAY_US / 1000)
            .and_then(|day| day.checked_add(ms))
            .ok_or(TOO_FAR)
    })
}

/// Appends the instant in UTC as `2020-01-01T00:00:00.123400Z`, always with six digits behind the
/// point, as Debezium prints a `timestamptz`; years past 9999 with a plus sign, years before 1 BC
/// with a minus sign; infinities as [`sentinel::TEXT_INFINITY`] and [`sentinel::TEXT_NEGATIVE_INFINITY`].
pub(super) fn zoned_timestamp(text: &[u8], out: &mut Vec<u8>) -> Result<(), Misfit> {
    let (days, us) = match moment(text, true, true)? {
        Moment::Infinity => {
            out.extend_from_slice(sentinel::TEXT_INFINITY.as_bytes());
            return Ok(());
        }
        Moment::NegativeInfinity => {
            out.extend_from_slice(sentinel::TEXT_NEGATIVE_INFINITY.as_bytes());
            return Ok(());
        }
        Moment::At { days, us } => (days + us.div_euclid(DAY_US), us.rem_euclid(DAY_US)),
    };
    let (year, month, day) = civil_from_days(days);
    match year {
        ..0 => out.push(b'-'),
        0..10_000 => {}
        _ => out.push(b'+'),
    }
    let mut digits = itoa::Buffer::new();
    let year = digits.format(year.unsigned_abs()).as_bytes();
    out.extend_from_slice(&b"0000"[year.len().min(4)..]);
    out.extend_from_slice(year);
    let second = us / SECOND_US;
    for (separator, value) in [
        (b'-', month),
        (b'-', day),
        (b'T', second / 3600),
        (b':', second / 60 % 60),
        (b':', second % 60),
    ] {
        out.push(separator);
        push_two(value, out);
    }
    let fraction = us % SECOND_US;
    out.push(b'.');
    push_two(fraction / 10_000, out);
    push_two(fraction / 100 % 100, out);
    push_two(fraction % 100, out);
    out.push(b'Z');
    Ok(())
}

/// Appends a `timetz` as `12:34:56.789+02:00`: its own offset kept, `Z` for none.
pub(super) fn zoned_time(text: &[u8], out: &mut Vec<u8>) -> Result<(), Misfit> {
    let mut rest = text;
    clock(&mut rest)?;
    // Postgres drops the zeros at the fraction's end, as ISO 8601 printers of Java do.
    out.extend_from_slice(&text[..text.len() - rest.len()]);
    let offset = offset_seconds(&mut rest)?;
    if !rest.is_empty() {
        return Err(NO_DATE);
    }
    if offset == 0 {
        out.push(b'Z');
        return Ok(());
    }
    out.push(if offset < 0 { b'-' } else { b'+' });
    let offset = offset.abs();
    push_two(offset / 3600, out);
    out.push(b':');
    push_two(offset / 60 % 60, out);
    if offset % 60 != 0 {
        out.push(b':');
        push_two(offset % 60, out);
    }
    Ok(())
}

fn timestamp(
    text: &[u8],
    [infinity, negative_infinity]: [i64; 2],
    number: impl Fn(i64, i64) -> Result<i64, Misfit>,
) -> Result<i64, Misfit> {
    match moment(text, true, false)? {
        Moment::Infinity => Ok(infinity),
        Moment::NegativeInfinity => Ok(negative_infinity),
        Moment::At { days, us } => {
            let value = number(days, us)?;
            if value == infinity || value == negative_infinity {
                return Err(IS_SENTINEL);
            }
            Ok(value)
        }
    }
}

fn millis(us: i64) -> Result<i64, Misfit> {
    if us % 1000 == 0 {
        Ok(us / 1000)
    } else {
        Err(TOO_FINE)
    }
}

/// `YYYY-MM-DD`, then ` HH:MM:SS[.ffffff]` where `timed`, then an offset where `zoned`, then ` BC`
/// for years before Christ. Microseconds of the day are less the offset: they can leave the day.
fn moment(text: &[u8], timed: bool, zoned: bool) -> Result<Moment, Misfit> {
    match text {
        b"infinity" => return Ok(Moment::Infinity),
        b"-infinity" => return Ok(Moment::NegativeInfinity),
        _ => {}
    }
    let mut rest = text;
    let year = number(&mut rest, 4..=7)?;
    expect(&mut rest, b'-')?;
    let month = number(&mut rest, 2..=2)?;
    expect(&mut rest, b'-')?;
    let day = number(&mut rest, 2..=2)?;
    let mut us = 0;
    if timed {
        expect(&mut rest, b' ')?;
        us = clock(&mut rest)?;
    }
    if zoned {
        us -= offset_seconds(&mut rest)? * SECOND_US;
    }
    let year = match rest {
        b"" => year,
        b" BC" => 1 - year,
        _ => return Err(NO_DATE),
    };
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return Err(NO_DATE);
    }
    Ok(Moment::At {
        days: days_from_civil(year, month, day),
        us,
    })
}

/// `HH:MM:SS[.ffffff]`, in microseconds.
fn clock(rest: &mut &[u8]) -> Result<i64, Misfit> {
    let hour = number(rest, 2..=2)?;
    expect(rest, b':')?;
    let minute = number(rest, 2..=2)?;
    expect(rest, b':')?;
    let second = number(rest, 2..=2)?;
    let us = (hour * 3600 + minute * 60 + second) * SECOND_US + fraction(rest)?;
    if minute > 59 || second > 59 || us > DAY_US {
        return Err(NO_DATE);
    }
    Ok(us)
}

/// `.f` to `.ffffff`, or nothing, in microseconds.
fn fraction(rest: &mut &[u8]) -> Result<i64, Misfit> {
    let [b'.', digits @ ..] = *rest else {
        return Ok(0);
    };
    *rest = digits;
    let value = number(rest, 1..=6)?;
    let missing = 6 - (digits.len() - rest.len());
    Ok((0..missing).fold(value, |value, _| value * 10))
}

/// `+HH`, `+HH:MM` or `+HH:MM:SS`, or the same with a minus sign, in seconds.
fn offset_seconds(rest: &mut &[u8]) -> Result<i64, Misfit> {
    let sign = match *rest {
        [b'+', ..] => 1,
        [b'-', ..] => -1,
        _ => return Err(NO_DATE),
    };
    *rest = &rest[1..];
    let mut seconds = number(rest, 2..=2)? * 3600;
    for unit in [60, 1] {
        let [b':', digits @ ..] = *rest else { break };
        *rest = digits;
        let value = number(rest, 2..=2)?;
        if value > 59 {
            return Err(NO_DATE);
        }
        seconds += value * unit;
    }
    Ok(sign * seconds)
}

/// All digits that come next, if they are as many as asked for.
#[inline]
fn number(rest: &mut &[u8], digits: std::ops::RangeInclusive<usize>) -> Result<i64, Misfit> {
    let mut value = 0;
    let mut count = 0;
    while let Some(digit) = rest
        .get(count)
        .map(|byte| byte.wrapping_sub(b'0'))
        .filter(|&d| d <= 9)
    {
        if count == *digits.end() {
            return Err(NO_DATE);
        }
        value = value * 10 + i64::from(digit);
        count += 1;
    }
    if count < *digits.start() {
        return Err(NO_DATE);
    }
    *rest = &rest[count..];
    Ok(value)
}

#[inline]
fn expect(rest: &mut &[u8], byte: u8) -> Result<(), Misfit> {
    match *rest {
        [first, tail @ ..] if *first == byte => {
            *rest = tail;
            Ok(())
        }
        _ => Err(NO_DATE),
    }
}

/// Appends a number from 0 to 99 with two digits.
#[inline]
fn push_two(value: i64, out: &mut Vec<u8>) {
    let digit = |value: i64| b"0123456789"[usize::try_from(value % 10).unwrap_or(0)];
    out.extend_from_slice(&[digit(value / 10), digit(value)]);
}

/// Days since 1970-01-01 of a proleptic Gregorian date (Howard Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms"): years begin in March, eras have 400 of them.
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`].
const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

#[cfg(test)]
mod tests;
