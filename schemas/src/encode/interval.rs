//! `interval`: Postgres' own style to ISO 8601, as Debezium's `interval.handling.mode=string`.

use super::misfit::Misfit;
use crate::sentinel;

const NO_INTERVAL: Misfit = Misfit::text("it is not an interval in the style of Postgres");

/// An interval's parts as they stand in the text; each keeps its own sign, so nothing is lost.
#[derive(Default)]
struct Parts<'a> {
    years: Part<'a>,
    months: Part<'a>,
    days: Part<'a>,
    hours: Part<'a>,
    minutes: Part<'a>,
    seconds: Part<'a>,
    /// Behind the seconds' point, without zeros at the end.
    fraction: &'a [u8],
}

/// Digits without zeros in front; none at all is zero.
#[derive(Default, Clone, Copy)]
struct Part<'a> {
    negative: bool,
    digits: &'a [u8],
}

/// Appends `P1Y2M3DT4H5M6.789S`: all parts always, each with its sign. Infinities (PG17) are
/// [`sentinel::TEXT_INFINITY`] and [`sentinel::TEXT_NEGATIVE_INFINITY`].
pub(super) fn iso(text: &[u8], out: &mut Vec<u8>) -> Result<(), Misfit> {
    if text == sentinel::TEXT_INFINITY.as_bytes()
        || text == sentinel::TEXT_NEGATIVE_INFINITY.as_bytes()
    {
        out.extend_from_slice(text);
        return Ok(());
    }
    let parts = Parts::parse(text)?;
    out.push(b'P');
    for (part, unit) in [
        (parts.years, &b"Y"[..]),
        (parts.months, b"M"),
        (parts.days, b"DT"),
        (parts.hours, b"H"),
        (parts.minutes, b"M"),
    ] {
        part.append(&[], out);
        out.extend_from_slice(unit);
    }
    parts.seconds.append(parts.fraction, out);
    out.push(b'S');
    Ok(())
}

/// Microseconds, a month being 30.4375 days (365.25 / 12) and a day 24 hours, as Debezium's
/// `interval.handling.mode=numeric` has it: which part they came from is lost.
pub(super) fn micros(text: &[u8]) -> Result<i64, Misfit> {
    const SECOND: i128 = 1_000_000;
    const DAY: i128 = 86_400 * SECOND;
    const MONTH: i128 = 2_629_800 * SECOND;
    if text == sentinel::TEXT_INFINITY.as_bytes()
        || text == sentinel::TEXT_NEGATIVE_INFINITY.as_bytes()
    {
        return Err(Misfit::value("a number of microseconds is finite"));
    }
    let parts = Parts::parse(text)?;
    let mut micros = 0;
    for (part, unit) in [
        (parts.years, 12 * MONTH),
        (parts.months, MONTH),
        (parts.days, DAY),
        (parts.hours, 3600 * SECOND),
        (parts.minutes, 60 * SECOND),
        (parts.seconds, SECOND),
    ] {
        micros += part.number()? * unit;
    }
    let fraction = std::str::from_utf8(parts.fraction).unwrap_or_default();
    let fraction: i128 = format!("{fraction:0<6}").parse().map_err(|_| NO_INTERVAL)?;
    micros += if parts.seconds.negative {
        -fraction
    } else {
        fraction
    };
    i64::try_from(micros).map_err(|_| Misfit::value("it is past the range of 64-bit microseconds"))
}

impl<'a> Parts<'a> {
    /// `1 year 2 mons -3 days +04:05:06.789`; each of the four may be missing.
    fn parse(text: &'a [u8]) -> Result<Self, Misfit> {
        let mut parts = Self::default();
        let mut words = text.split(|&byte| byte == b' ');
        while let Some(word) = words.next() {
            if word.contains(&b':') {
                parts.set_clock(word)?;
                return if words.next().is_none() {
                    Ok(parts)
                } else {
                    Err(NO_INTERVAL)
                };
            }
            let part = Part::parse(word)?;
            match words.next() {
                Some(b"year" | b"years") => parts.years = part,
                Some(b"mon" | b"mons") => parts.months = part,
                Some(b"day" | b"days") => parts.days = part,
                _ => return Err(NO_INTERVAL),
            }
        }
        Ok(parts)
    }

    fn set_clock(&mut self, word: &'a [u8]) -> Result<(), Misfit> {
        let (clock, fraction) = match word.iter().position(|&byte| byte == b'.') {
            Some(point) => (&word[..point], &word[point + 1..]),
            None => (word, &[][..]),
        };
        let mut parts = clock.split(|&byte| byte == b':');
        let (Some(hours), Some(minutes), Some(seconds), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NO_INTERVAL);
        };
        self.hours = Part::parse(hours)?;
        let negative = hours.starts_with(b"-");
        self.minutes = Part {
            negative,
            ..Part::digits(minutes)?
        };
        self.seconds = Part {
            negative,
            ..Part::digits(seconds)?
        };
        if !fraction.iter().all(u8::is_ascii_digit) {
            return Err(NO_INTERVAL);
        }
        let zeros = fraction
            .iter()
            .rev()
            .take_while(|&&byte| byte == b'0')
            .count();
        self.fraction = &fraction[..fraction.len() - zeros];
        Ok(())
    }
}

impl<'a> Part<'a> {
    fn parse(word: &'a [u8]) -> Result<Self, Misfit> {
        match word {
            [b'-', digits @ ..] => Ok(Self {
                negative: true,
                ..Self::digits(digits)?
            }),
            [b'+', digits @ ..] => Self::digits(digits),
            digits => Self::digits(digits),
        }
    }

    fn digits(digits: &'a [u8]) -> Result<Self, Misfit> {
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(NO_INTERVAL);
        }
        let zeros = digits.iter().take_while(|&&byte| byte == b'0').count();
        Ok(Self {
            negative: false,
            digits: &digits[zeros..],
        })
    }

    fn number(self) -> Result<i128, Misfit> {
        // More digits than any part of an interval has.
        if self.digits.len() > 18 {
            return Err(NO_INTERVAL);
        }
        let number = self
            .digits
            .iter()
            .fold(0, |number, digit| number * 10 + i128::from(digit - b'0'));
        Ok(if self.negative { -number } else { number })
    }

    /// A zero has no sign.
    fn append(self, fraction: &[u8], out: &mut Vec<u8>) {
        if self.negative && !(self.digits.is_empty() && fraction.is_empty()) {
            out.push(b'-');
        }
        if self.digits.is_empty() {
            out.push(b'0');
        }
        out.extend_from_slice(self.digits);
        if !fraction.is_empty() {
            out.push(b'.');
            out.extend_from_slice(fraction);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{iso, micros};

    fn converted(text: &str) -> Option<String> {
        let mut out = Vec::new();
        iso(text.as_bytes(), &mut out).ok()?;
        Some(String::from_utf8(out).unwrap())
    }

    /// What Debezium 3.3.1 made of the same intervals on PostgreSQL 15.
    #[test]
    fn intervals_are_printed_as_debezium_does() {
        for (text, iso) in [
            ("1 year 2 mons 3 days 04:05:06.789", "P1Y2M3DT4H5M6.789S"),
            (
                "-1 years -2 mons +3 days -04:05:06.789",
                "P-1Y-2M3DT-4H-5M-6.789S",
            ),
            ("00:00:00", "P0Y0M0DT0H0M0S"),
            ("1 mon", "P0Y1M0DT0H0M0S"),
            ("-00:00:00.000001", "P0Y0M0DT0H0M-0.000001S"),
            ("100000:00:00", "P0Y0M0DT100000H0M0S"),
            ("1 day -00:00:01", "P0Y0M1DT0H0M-1S"),
            ("00:00:01", "P0Y0M0DT0H0M1S"),
            ("1 year 1 mon 90 days 25:31:01.5", "P1Y1M90DT25H31M1.5S"),
            ("-1 days", "P0Y0M-1DT0H0M0S"),
            ("-00:00:30.5", "P0Y0M0DT0H0M-30.5S"),
            ("178000000 years", "P178000000Y0M0DT0H0M0S"),
        ] {
            assert_eq!(converted(text).as_deref(), Some(iso), "{text}");
        }
    }

    #[test]
    fn the_extremes_of_postgres_are_kept() {
        for (text, iso) in [
            ("-178956970 years -8 mons", "P-178956970Y-8M0DT0H0M0S"),
            (
                "-178956970 years -8 mons -2147483648 days -2562047788:00:54.775808",
                "P-178956970Y-8M-2147483648DT-2562047788H0M-54.775808S",
            ),
            ("00:00:10.100000", "P0Y0M0DT0H0M10.1S"),
            ("infinity", "infinity"),
            ("-infinity", "-infinity"),
        ] {
            assert_eq!(converted(text).as_deref(), Some(iso), "{text}");
        }
    }

    #[test]
    fn microseconds_count_a_month_as_debezium_does() {
        for (text, expected) in [
            ("00:00:00", Some(0)),
            ("1 day -00:00:00.000001", Some(86_399_999_999)),
            ("-00:00:00.5", Some(-500_000)),
            ("1 mon", Some(2_629_800_000_000)),
            // 1 year 2 mons 3 days 4:05:06.78 of Debezium's documentation
            ("1 year 2 mons 3 days 04:05:06.78", Some(37_091_106_780_000)),
            ("-1 years +2 mons", Some(-26_298_000_000_000)),
            ("178000000 years", None),
            ("infinity", None),
            ("-infinity", None),
        ] {
            assert_eq!(micros(text.as_bytes()).ok(), expected, "{text}");
        }
    }

    #[test]
    fn other_styles_are_refused() {
        for text in [
            "",
            "P1Y",
            "1-2",
            "@ 1 year",
            "1 year ago",
            "1 week",
            "1",
            "1:2",
            "1 day 1:2:3 x",
            "1:2:3.x",
        ] {
            assert_eq!(converted(text), None, "{text}");
        }
    }
}
