//! Dates, times and intervals of the topics in the text that Postgres prints (DateStyle ISO, TimeZone UTC).

use anyhow::{Context, Result, bail};

const DAY_US: i64 = 86_400_000_000;

/// An integer of one of Debezium's temporal types; ±infinity as docs/contract.md has them.
pub(super) fn temporal(value: i64, name: &str) -> Result<String> {
    Ok(match (name, value) {
        ("io.debezium.time.Date", 2_147_483_647)
        | ("io.debezium.time.MicroTimestamp", 9_223_372_036_825_200_000)
        | ("io.debezium.time.Timestamp", 9_223_372_036_825_200) => "infinity".to_owned(),
        ("io.debezium.time.Date", -2_147_483_648)
        | ("io.debezium.time.MicroTimestamp", -9_223_372_036_832_400_000)
        | ("io.debezium.time.Timestamp", -9_223_372_036_832_400) => "-infinity".to_owned(),
        ("io.debezium.time.Date", _) => dated(value, ""),
        ("io.debezium.time.MicroDuration", _) => format!("{value} us"),
        ("io.debezium.time.Time", _) => clock(value * 1000),
        ("io.debezium.time.MicroTime", _) => clock(value),
        ("io.debezium.time.Timestamp", _) => {
            let day_ms = DAY_US / 1000;
            dated(
                value.div_euclid(day_ms),
                &clock(value.rem_euclid(day_ms) * 1000),
            )
        }
        ("io.debezium.time.MicroTimestamp", _) => {
            dated(value.div_euclid(DAY_US), &clock(value.rem_euclid(DAY_US)))
        }
        _ => bail!("no text form for an integer of {name}"),
    })
}

/// `2020-01-01T00:00:00.123400Z` as `2020-01-01 00:00:00.1234+00`; signed years as Postgres' BC.
pub(super) fn zoned_timestamp(text: &str) -> Result<String> {
    if matches!(text, "infinity" | "-infinity") {
        return Ok(text.to_owned());
    }
    let wrong = || format!("'{text}' is not a ZonedTimestamp");
    let (date, time) = text
        .strip_suffix('Z')
        .and_then(|text| text.split_once('T'))
        .with_context(wrong)?;
    let mut parts = date.rsplitn(3, '-');
    let (day, month) = (
        parts.next().with_context(wrong)?,
        parts.next().with_context(wrong)?,
    );
    let year: i64 = parts
        .next()
        .and_then(|year| year.parse().ok())
        .with_context(wrong)?;
    let (year, era) = era(year);
    Ok(format!(
        "{year:04}-{month}-{day} {}+00{era}",
        without_zeros(time)
    ))
}

/// `12:34:56.5+02:00` as `12:34:56.5+02`.
pub(super) fn zoned_time(text: &str) -> String {
    let text = text.replace('Z', "+00");
    match text.len().checked_sub(3) {
        // A whole hour has no minutes in Postgres' text; +05:30 keeps them.
        Some(at) if text[at..] == *":00" && text[..at].contains(['+', '-']) => {
            text[..at].to_owned()
        }
        _ => text,
    }
}

/// Postgres prints no zeros at the end of a fraction.
fn without_zeros(time: &str) -> &str {
    if time.contains('.') {
        time.trim_end_matches('0').trim_end_matches('.')
    } else {
        time
    }
}

/// Year 0 of ISO 8601 is 1 BC.
fn era(year: i64) -> (i64, &'static str) {
    if year > 0 {
        (year, "")
    } else {
        (1 - year, " BC")
    }
}

/// Days since 1970 and a time of day as `YYYY-MM-DD time`.
fn dated(days: i64, time: &str) -> String {
    let (year, month, day) = civil(days);
    let (year, era) = era(year);
    let space = if time.is_empty() { "" } else { " " };
    format!("{year:04}-{month:02}-{day:02}{space}{time}{era}")
}

/// Year, month and day of a day since 1970: by whole cycles of 400 years, then by counting years and months.
fn civil(days: i64) -> (i64, i64, i64) {
    const CYCLE: i64 = 146_097;
    let leap = |year: i64| year % 4 == 0 && year % 100 != 0 || year % 400 == 0;
    let mut year = 1970 + 400 * days.div_euclid(CYCLE);
    let mut days = days.rem_euclid(CYCLE);
    while days >= if leap(year) { 366 } else { 365 } {
        days -= if leap(year) { 366 } else { 365 };
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

fn clock(us: i64) -> String {
    let seconds = us / 1_000_000;
    let text = format!(
        "{:02}:{:02}:{:02}.{:06}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        us % 1_000_000
    );
    without_zeros(&text).to_owned()
}

/// An ISO 8601 interval as months, days and microseconds.
pub(super) fn interval(text: &str) -> Result<String> {
    if matches!(text, "infinity" | "-infinity") {
        return Ok(text.to_owned());
    }
    let wrong = || format!("'{text}' is not an ISO 8601 interval");
    let body = text.strip_prefix('P').with_context(wrong)?;
    let (date, time) = body.split_once('T').unwrap_or((body, ""));
    let (mut months, mut days, mut us) = (0_i128, 0_i128, 0_i128);
    for (part, in_time) in [(date, false), (time, true)] {
        let mut rest = part;
        while let Some(end) = rest.find(|c: char| c.is_ascii_alphabetic()) {
            let (number, unit) = (&rest[..end], rest.as_bytes()[end]);
            rest = &rest[end + 1..];
            if in_time && unit == b'S' {
                let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
                let fraction: i128 = format!("{fraction:0<6}").parse().with_context(wrong)?;
                let sign = if whole.starts_with('-') { -1 } else { 1 };
                us += whole.parse::<i128>().with_context(wrong)? * 1_000_000 + sign * fraction;
                continue;
            }
            let number: i128 = number.parse().with_context(wrong)?;
            match (in_time, unit) {
                (false, b'Y') => months += number * 12,
                (false, b'M') => months += number,
                (false, b'W') => days += number * 7,
                (false, b'D') => days += number,
                (true, b'H') => us += number * 3_600_000_000,
                (true, b'M') => us += number * 60_000_000,
                _ => bail!(wrong()),
            }
        }
    }
    Ok(format!("{months} months {days} days {us} us"))
}

#[cfg(test)]
mod tests {
    use super::{clock, dated, interval, temporal, zoned_time, zoned_timestamp};

    #[test]
    fn texts_are_those_of_postgres() {
        let dates = [0, -1, 19_782, -719_163, 2_145_042_905, -2_440_588];
        assert_eq!(
            dates.map(|days| dated(days, "")),
            [
                "1970-01-01",
                "1969-12-31",
                "2024-02-29",
                "0001-12-31 BC",
                "5874897-12-31",
                "4714-11-24 BC"
            ]
        );
        assert_eq!(
            (clock(0), clock(45_296_120_000), clock(86_400_000_000)),
            ("00:00:00".into(), "12:34:56.12".into(), "24:00:00".into())
        );
        assert_eq!(
            temporal(-1, "io.debezium.time.MicroTimestamp").unwrap(),
            "1969-12-31 23:59:59.999999"
        );
        assert_eq!(
            zoned_timestamp("-0043-03-15T12:00:00.500000Z").unwrap(),
            "0044-03-15 12:00:00.5+00 BC"
        );
        assert_eq!(
            zoned_timestamp("+12345-01-02T00:00:00.000000Z").unwrap(),
            "12345-01-02 00:00:00+00"
        );
        assert_eq!(
            ["12:34:56Z", "12:34:56.5-05:00", "01:02:03+05:30"].map(zoned_time),
            ["12:34:56+00", "12:34:56.5-05", "01:02:03+05:30"]
        );
    }

    #[test]
    fn intervals_of_both_styles_are_one() {
        assert_eq!(
            interval("P0Y0M0DT5H0M0.5S").unwrap(),
            interval("PT5H0.5S").unwrap()
        );
        assert_ne!(interval("P1M").unwrap(), interval("PT1M").unwrap());
    }
}
