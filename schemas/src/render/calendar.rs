//! Days and times of day, in the proleptic Gregorian calendar (as Postgres and ISO 8601 have it).

use std::ops::RangeInclusive;

use crate::sentinel;

/// Seconds of a day.
const DAY: i64 = 86_400;

/// A date, time or timestamp may be beyond all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finite<T> {
    At(T),
    Infinity,
    MinusInfinity,
}

impl<T> Finite<T> {
    /// As Postgres writes it.
    pub(super) const fn infinity_text(&self) -> Option<&'static str> {
        match self {
            Self::At(_) => None,
            Self::Infinity => Some("infinity"),
            Self::MinusInfinity => Some("-infinity"),
        }
    }
}

/// How a type counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Millis,
    Micros,
    Nanos,
}

impl Unit {
    const fn per_second(self) -> i64 {
        match self {
            Self::Millis => 1_000,
            Self::Micros => 1_000_000,
            Self::Nanos => 1_000_000_000,
        }
    }

    const fn digits(self) -> usize {
        match self {
            Self::Millis => 3,
            Self::Micros => 6,
            Self::Nanos => 9,
        }
    }
}

/// A time of day: from midnight to 24:00:00, which Postgres has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimeOfDay {
    seconds: i64,
    fraction: i64,
    unit: Unit,
}

impl TimeOfDay {
    /// `None` unless `count` lies between midnight and the next.
    pub(super) const fn new(count: i64, unit: Unit) -> Option<Self> {
        if count < 0 || count > DAY * unit.per_second() {
            return None;
        }
        let (seconds, fraction) = (count / unit.per_second(), count % unit.per_second());
        Some(Self {
            seconds,
            fraction,
            unit,
        })
    }

    /// `HH:MM:SS.f`, with all digits that the unit has.
    pub(super) fn write(self, out: &mut Vec<u8>) {
        padded(self.seconds / 3600, 2, out);
        out.push(b':');
        padded(self.seconds / 60 % 60, 2, out);
        out.push(b':');
        padded(self.seconds % 60, 2, out);
        out.push(b'.');
        padded(self.fraction, self.unit.digits(), out);
    }
}

/// A day by its count since 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Day(pub(super) i64);

impl Day {
    /// A `date`: the ends of 32 bits are Postgres' infinities, and so are some days before its first one.
    pub(super) fn from_date(days: i64) -> Option<Finite<Self>> {
        use sentinel::{DEBEZIUM_DATE_INFINITY, DEBEZIUM_DATE_NEGATIVE_INFINITY};
        let is_in = |ranges: &[RangeInclusive<i32>], days: i32| {
            ranges.iter().any(|range| range.contains(&days))
        };
        Some(match i32::try_from(days).ok()? {
            sentinel::DATE_INFINITY => Finite::Infinity,
            sentinel::DATE_NEGATIVE_INFINITY => Finite::MinusInfinity,
            days if is_in(&DEBEZIUM_DATE_INFINITY, days) => Finite::Infinity,
            days if is_in(&DEBEZIUM_DATE_NEGATIVE_INFINITY, days) => Finite::MinusInfinity,
            days => Finite::At(Self(i64::from(days))),
        })
    }

    /// Year (astronomical: 0 is 1 BC), month and day.
    ///
    /// Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
    pub(super) const fn civil(self) -> (i64, i64, i64) {
        let shifted = self.0 + 719_468; // days since 0000-03-01
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * day_of_year + 2) / 153; // from March
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = year_of_era + era * 400 + (month <= 2) as i64;
        (year, month, day)
    }

    /// ISO 8601: four digits, or a sign and as many as it takes.
    pub(super) fn write_iso(self, out: &mut Vec<u8>) {
        let (year, month, day) = self.civil();
        match year {
            0..=9999 => {}
            10_000.. => out.push(b'+'),
            _ => out.push(b'-'),
        }
        write_date(year.abs(), month, day, out);
    }

    /// As Postgres writes it, without the era: whether ` BC` has to follow.
    pub(super) fn write_postgres(self, out: &mut Vec<u8>) -> bool {
        let (year, month, day) = self.civil();
        let before_christ = year <= 0;
        write_date(if before_christ { 1 - year } else { year }, month, day, out);
        before_christ
    }
}

/// A timestamp without a zone as day and time of day.
///
/// In milliseconds Debezium's documentation has the number that microseconds have; both are far
/// outside what Postgres can hold otherwise.
pub(super) fn timestamp(count: i64, unit: Unit) -> Finite<(Day, TimeOfDay)> {
    use sentinel::{MICRO_TIMESTAMP_INFINITY, MICRO_TIMESTAMP_NEGATIVE_INFINITY};
    match (unit, count) {
        (Unit::Millis | Unit::Micros, MICRO_TIMESTAMP_INFINITY)
        | (Unit::Millis, sentinel::TIMESTAMP_INFINITY)
        | (Unit::Nanos, sentinel::NANO_TIMESTAMP_INFINITY) => return Finite::Infinity,
        (Unit::Millis | Unit::Micros, MICRO_TIMESTAMP_NEGATIVE_INFINITY)
        | (Unit::Millis, sentinel::TIMESTAMP_NEGATIVE_INFINITY)
        | (Unit::Nanos, sentinel::NANO_TIMESTAMP_NEGATIVE_INFINITY) => {
            return Finite::MinusInfinity;
        }
        _ => {}
    }
    let per_day = DAY * unit.per_second();
    let (day, rest) = (count.div_euclid(per_day), count.rem_euclid(per_day));
    let (seconds, fraction) = (rest / unit.per_second(), rest % unit.per_second());
    Finite::At((
        Day(day),
        TimeOfDay {
            seconds,
            fraction,
            unit,
        },
    ))
}

fn write_date(year: i64, month: i64, day: i64, out: &mut Vec<u8>) {
    padded(year, 4, out);
    out.push(b'-');
    padded(month, 2, out);
    out.push(b'-');
    padded(day, 2, out);
}

/// A number that is not negative, with zeros in front up to `width`.
fn padded(number: i64, width: usize, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(number).as_bytes();
    out.resize(out.len() + width.saturating_sub(digits.len()), b'0');
    out.extend_from_slice(digits);
}
