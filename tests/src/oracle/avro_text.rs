//! Avro values, as apache-avro decodes them, in the text that Postgres prints.

use anyhow::{Context, Result, bail};
use apache_avro::types::Value;
use serde_json::Value as Json;

/// What a field means: its schema's `connect.name` and `connect.parameters`.
#[derive(Debug, Clone, Default)]
pub(super) struct Meaning {
    pub(super) name: String,
    scale: usize,
    /// Of bits: how many, unless each byte stands for one.
    length: Option<usize>,
    item: Option<Box<Meaning>>,
}

impl Meaning {
    /// Reads a field's type, which may be a union with null.
    pub(super) fn read(schema: &Json) -> Self {
        let inner = match schema {
            Json::Array(branches) => branches
                .iter()
                .find(|branch| **branch != "null")
                .unwrap_or(&Json::Null),
            other => other,
        };
        Self {
            name: inner["connect.name"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            scale: inner["connect.parameters"]["scale"]
                .as_str()
                .and_then(|text| text.parse().ok())
                .unwrap_or_default(),
            length: inner["connect.parameters"]["length"]
                .as_str()
                .filter(|_| inner["connect.parameters"]["tributary.counted"].is_null())
                .and_then(|text| text.parse().ok()),
            item: inner.get("items").map(|items| Box::new(Self::read(items))),
        }
    }
}

/// The canonical text of a value; `None` for null.
pub(super) fn text(value: &Value, meaning: &Meaning) -> Result<Option<String>> {
    Ok(Some(match value {
        Value::Union(_, inner) => return text(inner, meaning),
        Value::Null => return Ok(None),
        Value::Boolean(value) => value.to_string(),
        Value::Int(value) => integer(i64::from(*value), meaning)?,
        Value::Long(value) => integer(*value, meaning)?,
        Value::Float(value) => format!("{:?}", f64::from(*value)),
        Value::Double(value) => format!("{value:?}"),
        Value::Decimal(value) => decimal(&Vec::<u8>::try_from(value)?, meaning.scale),
        Value::Bytes(value) if meaning.name.ends_with(".Decimal") => decimal(value, meaning.scale),
        Value::Bytes(value) if meaning.name == "io.debezium.data.Bits" => {
            bits(value, meaning.length.unwrap_or(value.len()))
        }
        Value::Bytes(value) => value.iter().map(|byte| format!("{byte:02x}")).collect(),
        Value::String(value) => string(value, meaning)?,
        Value::Record(fields) => variable_decimal(fields)?,
        Value::Array(items) => array(items, meaning)?,
        other => bail!("no text form for {other:?}"),
    }))
}

/// Little-endian: the last digit is the lowest bit of the first byte.
fn bits(bytes: &[u8], length: usize) -> String {
    let bit = |index: usize| bytes[index / 8] & (1 << (index % 8)) != 0;
    (0..length)
        .rev()
        .map(|index| if bit(index) { '1' } else { '0' })
        .collect()
}

fn integer(value: i64, meaning: &Meaning) -> Result<String> {
    Ok(match meaning.name.as_str() {
        "" => value.to_string(),
        "io.debezium.time.Date" if value == i64::from(i32::MAX) => "infinity".to_owned(),
        "io.debezium.time.Date" if value == i64::from(i32::MIN) => "-infinity".to_owned(),
        "io.debezium.time.Date" => {
            let (date, era) = date(value);
            date + era
        }
        "io.debezium.time.MicroDuration" => format!("{value} us"),
        "io.debezium.time.Time" => clock(value * 1000),
        "io.debezium.time.MicroTime" => clock(value),
        "io.debezium.time.Timestamp" => timestamp(i128::from(value) * 1000)?,
        "io.debezium.time.MicroTimestamp" => timestamp(value.into())?,
        other => bail!("no text form for an integer of {other}"),
    })
}

fn string(value: &str, meaning: &Meaning) -> Result<String> {
    Ok(match meaning.name.as_str() {
        "io.debezium.time.ZonedTimestamp" if value.ends_with("infinity") => value.to_owned(),
        "io.debezium.time.ZonedTime" => {
            // Postgres prints no minutes that are 0, and no Z.
            let text = value.replace('Z', "+00");
            text.strip_suffix(":00").unwrap_or(&text).to_owned()
        }
        "io.debezium.time.ZonedTimestamp" => {
            let (signed, rest) = value.split_at(value[1..].find('-').context("no date")? + 1);
            let year: i64 = signed.parse()?;
            let (year, era) = if year > 0 {
                (year, "")
            } else {
                (1 - year, " BC")
            };
            let text = format!("{year:04}{}", rest.replace('T', " "));
            let text = text.trim_end_matches('Z');
            // Postgres prints no zeros at the end of a fraction.
            let text = if text.contains('.') {
                text.trim_end_matches('0').trim_end_matches('.')
            } else {
                text
            };
            format!("{text}+00{era}")
        }
        "io.debezium.time.Interval" => interval(value)?,
        _ => value.to_owned(),
    })
}

/// Milliseconds reach further than 64 bits of microseconds.
fn timestamp(us: i128) -> Result<String> {
    const DAY_US: i128 = 86_400_000_000;
    // Debezium's numbers.
    match us {
        9_223_372_036_825_200_000 => return Ok("infinity".to_owned()),
        -9_223_372_036_832_400_000 => return Ok("-infinity".to_owned()),
        _ => {}
    }
    let (date, era) = date(us.div_euclid(DAY_US).try_into()?);
    let clock = clock(us.rem_euclid(DAY_US).try_into()?);
    Ok(format!("{date} {clock}{era}"))
}

/// Days since 1970 as `YYYY-MM-DD` and era, by counting years and months.
fn date(mut days: i64) -> (String, &'static str) {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    let leap = |year: i64| year % 4 == 0 && year % 100 != 0 || year % 400 == 0;
    let mut year = 1970 + 400 * days.div_euclid(DAYS_OF_400_YEARS);
    days = days.rem_euclid(DAYS_OF_400_YEARS);
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
    let (year, era) = if year > 0 {
        (year, "")
    } else {
        (1 - year, " BC")
    };
    (format!("{year:04}-{month:02}-{:02}", days + 1), era)
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
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Two's complement, big-endian, by schoolbook division.
fn decimal(bytes: &[u8], scale: usize) -> String {
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let mut magnitude: Vec<u8> = bytes.to_vec();
    if negative {
        let mut carry = true;
        for byte in magnitude.iter_mut().rev() {
            let (sum, over) = (!*byte).overflowing_add(u8::from(carry));
            *byte = sum;
            carry = over;
        }
    }
    let mut digits = Vec::new();
    while magnitude.iter().any(|byte| *byte != 0) {
        let mut rest = 0_u32;
        for byte in &mut magnitude {
            let value = rest << 8 | u32::from(*byte);
            *byte = u8::try_from(value / 10).unwrap_or_default();
            rest = value % 10;
        }
        digits.push(char::from_digit(rest, 10).unwrap_or('?'));
    }
    while digits.len() <= scale {
        digits.push('0');
    }
    if scale > 0 {
        digits.insert(scale, '.');
    }
    if negative {
        digits.push('-');
    }
    digits.iter().rev().collect()
}

fn variable_decimal(fields: &[(String, Value)]) -> Result<String> {
    match fields {
        [(scale, Value::Int(digits)), (value, Value::Bytes(bytes))]
            if scale == "scale" && value == "value" =>
        {
            if *digits == i32::MIN {
                return Ok(match bytes.as_slice() {
                    [0] => "NaN",
                    [1] => "Infinity",
                    [255] => "-Infinity",
                    _ => bail!("no special decimal has this value"),
                }
                .to_owned());
            }
            Ok(decimal(
                bytes,
                usize::try_from(*digits).context("a negative scale")?,
            ))
        }
        _ => bail!(
            "no text form for a record of {:?}",
            fields.iter().map(|(name, _)| name).collect::<Vec<_>>()
        ),
    }
}

/// An array as `array_out` prints it.
fn array(items: &[Value], meaning: &Meaning) -> Result<String> {
    let item_meaning = meaning.item.as_deref().cloned().unwrap_or_default();
    let mut parts = Vec::new();
    for item in items {
        parts.push(match text(item, &item_meaning)? {
            None => "NULL".to_owned(),
            Some(text) => {
                let plain = !text.is_empty()
                    && !text.eq_ignore_ascii_case("null")
                    && !text.contains([
                        '{', '}', ',', '"', '\\', ' ', '\t', '\n', '\r', '\u{b}', '\u{c}',
                    ]);
                if plain {
                    text
                } else {
                    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
                }
            }
        });
    }
    Ok(format!("{{{}}}", parts.join(",")))
}

/// An ISO 8601 interval as months, days and microseconds.
pub(super) fn interval(text: &str) -> Result<String> {
    let wrong = || format!("'{text}' is not an ISO 8601 interval");
    let body = text.strip_prefix('P').with_context(wrong)?;
    let (date, time) = body.split_once('T').unwrap_or((body, ""));
    let (mut months, mut days, mut us) = (0_i64, 0_i64, 0_i64);
    for (part, in_time) in [(date, false), (time, true)] {
        let mut rest = part;
        while let Some(end) = rest.find(|c: char| c.is_ascii_alphabetic()) {
            let (number, unit) = (&rest[..end], rest.as_bytes()[end]);
            rest = &rest[end + 1..];
            if in_time && unit == b'S' {
                let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
                let fraction: i64 = format!("{fraction:0<6}").parse().with_context(wrong)?;
                let sign = if whole.starts_with('-') { -1 } else { 1 };
                us += whole.parse::<i64>().with_context(wrong)? * 1_000_000 + sign * fraction;
                continue;
            }
            let number: i64 = number.parse().with_context(wrong)?;
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
    use super::{clock, date, decimal, interval};

    #[test]
    fn texts_are_those_of_postgres() {
        assert_eq!(
            [0, -1, 19_782, -719_529].map(|days| {
                let (date, era) = date(days);
                date + era
            }),
            ["1970-01-01", "1969-12-31", "2024-02-29", "0001-12-31 BC"]
        );
        assert_eq!(
            (clock(0), clock(45_296_120_000)),
            ("00:00:00".into(), "12:34:56.12".into())
        );
        assert_eq!(decimal(&[0x04, 0xD2], 2), "12.34");
        assert_eq!(
            (
                decimal(&[0xFF], 2),
                decimal(&[], 0),
                decimal(&[0x00, 0x80], 0)
            ),
            ("-0.01".into(), "0".into(), "128".into())
        );
        assert_eq!(
            interval("P0Y0M0DT5H0M0.5S").unwrap(),
            interval("PT5H0.5S").unwrap()
        );
    }
}
