//! The text that Postgres reads.

use super::calendar::{Day, Finite, TimeOfDay, Unit, timestamp};
use super::error::RenderError;
use super::json::value as json;
use super::{bits, decimal, float, geometry};
use crate::record::{Datum, Field, FieldType, Geometric};

/// The first day that Postgres holds, 4714-11-24 BC, and the ones behind the last date
/// (5874897-12-31) and the last timestamp (294276-12-31); `datatype/timestamp.h`.
const FIRST_DAY: i64 = -2_440_588;
const END_OF_DATES: i64 = 2_147_483_494 + FIRST_DAY;
const END_OF_TIMESTAMPS: i64 = 109_203_528 + FIRST_DAY;

pub(super) fn text(
    field_type: &FieldType,
    datum: &Datum<'_>,
    out: &mut Vec<u8>,
) -> Result<(), RenderError> {
    match (field_type, datum) {
        (_, Datum::Null) => return Err(RenderError::Null),
        (FieldType::Bool, Datum::Bool(value)) => out.push(if *value { b't' } else { b'f' }),
        (FieldType::Int32 | FieldType::Int64, Datum::Int(value)) => {
            out.extend_from_slice(itoa::Buffer::new().format(*value).as_bytes());
        }
        (FieldType::Float32, Datum::Float(value)) => float::write(*value, value.is_finite(), out),
        (FieldType::Float64, Datum::Double(value)) => float::write(*value, value.is_finite(), out),
        (FieldType::Decimal { scale, .. }, Datum::Bytes(unscaled)) => {
            decimal::write(unscaled, *scale, out)?;
        }
        (FieldType::VariableDecimal, Datum::VariableDecimal { scale, unscaled }) => {
            match decimal::special(unscaled, *scale)? {
                Some(name) => out.extend_from_slice(name.as_bytes()),
                None => decimal::write(unscaled, *scale, out)?,
            }
        }
        (FieldType::Date, Datum::Int(days)) => date(*days, out)?,
        (FieldType::TimeMillis, Datum::Int(count)) => time(*count, Unit::Millis, out)?,
        (FieldType::TimeMicros, Datum::Int(count)) => time(*count, Unit::Micros, out)?,
        (FieldType::TimeNanos, Datum::Int(count)) => time(*count, Unit::Nanos, out)?,
        (FieldType::TimestampMillis, Datum::Int(count)) => date_time(*count, Unit::Millis, out)?,
        (FieldType::TimestampMicros, Datum::Int(count)) => date_time(*count, Unit::Micros, out)?,
        (FieldType::TimestampNanos, Datum::Int(count)) => date_time(*count, Unit::Nanos, out)?,
        (FieldType::ZonedTimestamp, Datum::Str(text)) => zoned(text, out)?,
        (FieldType::MicroDuration, Datum::Int(micros)) => duration(*micros, out),
        (FieldType::Bytes, Datum::Bytes(bytes)) => hex(bytes, out),
        (FieldType::Bits { length, counted }, Datum::Bytes(bytes)) => {
            bits::write(*length, *counted, bytes, out)?;
        }
        (
            FieldType::String
            | FieldType::ZonedTime
            | FieldType::Interval
            | FieldType::Uuid
            | FieldType::Json
            | FieldType::Xml
            | FieldType::Ltree
            | FieldType::TsVector
            | FieldType::Enum,
            Datum::Str(text),
        ) => string(text, out)?,
        (FieldType::Array(item), Datum::Array(items)) => array(item, items, out)?,
        (FieldType::Struct(record), Datum::Struct(fields)) => match record.geometric() {
            Some(Geometric::Point) => geometry::point(fields, out)?,
            Some(Geometric::Ewkb) => geometry::ewkb(fields, out)?,
            None => json(field_type, datum, out)?,
        },
        (FieldType::Map(_), Datum::Array(_)) => json(field_type, datum, out)?,
        _ => return Err(RenderError::Mismatch),
    }
    Ok(())
}

fn string(text: &str, out: &mut Vec<u8>) -> Result<(), RenderError> {
    if memchr::memchr(0, text.as_bytes()).is_some() {
        return Err(RenderError::NulCharacter);
    }
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn date(days: i64, out: &mut Vec<u8>) -> Result<(), RenderError> {
    const OUT_OF_RANGE: RenderError = RenderError::OutOfRange { kind: "date" };
    let date = Day::from_date(days).ok_or(OUT_OF_RANGE)?;
    match date {
        Finite::At(Day(FIRST_DAY..END_OF_DATES)) => {}
        Finite::At(_) => return Err(OUT_OF_RANGE),
        infinite => return infinity(&infinite, out),
    }
    if Day(days).write_postgres(out) {
        out.extend_from_slice(b" BC");
    }
    Ok(())
}

fn time(count: i64, unit: Unit, out: &mut Vec<u8>) -> Result<(), RenderError> {
    let time = TimeOfDay::new(count, unit).ok_or(RenderError::OutOfRange { kind: "time" })?;
    time.write(out);
    Ok(())
}

fn date_time(count: i64, unit: Unit, out: &mut Vec<u8>) -> Result<(), RenderError> {
    match timestamp(count, unit) {
        Finite::At((day @ Day(FIRST_DAY..END_OF_TIMESTAMPS), time)) => {
            let before_christ = day.write_postgres(out);
            out.push(b' ');
            time.write(out);
            if before_christ {
                out.extend_from_slice(b" BC");
            }
            Ok(())
        }
        Finite::At(_) => Err(RenderError::OutOfRange { kind: "timestamp" }),
        infinite => infinity(&infinite, out),
    }
}

fn infinity<T>(infinite: &Finite<T>, out: &mut Vec<u8>) -> Result<(), RenderError> {
    let text = infinite.infinity_text().ok_or(RenderError::Mismatch)?;
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// ISO 8601 knows years before 1 as `0000`, `-0001`, and a plus sign past 9999; Postgres wants ` BC`
/// and no sign.
fn zoned(text: &str, out: &mut Vec<u8>) -> Result<(), RenderError> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    let (year, rest) = unsigned.split_at(digits);
    let Ok(year) = year.parse::<u32>() else {
        return string(text, out); // infinity, or what Postgres has to judge
    };
    if year > 0 && !text.starts_with('-') {
        return string(unsigned, out);
    }
    let before_christ = u64::from(year) + 1;
    out.extend_from_slice(format!("{before_christ:04}").as_bytes());
    string(rest, out)?;
    out.extend_from_slice(b" BC");
    Ok(())
}

/// Hours, minutes and seconds, as `interval` reads them.
fn duration(micros: i64, out: &mut Vec<u8>) {
    let count = micros.unsigned_abs();
    let (seconds, fraction) = (count / 1_000_000, count % 1_000_000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let sign = if micros < 0 { "-" } else { "" };
    let text = format!("{sign}{hours:02}:{minutes:02}:{seconds:02}.{fraction:06}");
    out.extend_from_slice(text.as_bytes());
}

fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(2 + 2 * bytes.len());
    out.extend_from_slice(b"\\x");
    for byte in bytes {
        out.extend([
            DIGITS[usize::from(byte >> 4)],
            DIGITS[usize::from(byte & 0xF)],
        ]);
    }
}

/// `{a,"b c",NULL,{…}}`
fn array(item: &Field, items: &[Datum<'_>], out: &mut Vec<u8>) -> Result<(), RenderError> {
    out.push(b'{');
    for (index, datum) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        if *datum == Datum::Null {
            out.extend_from_slice(b"NULL");
            continue;
        }
        let from = out.len();
        text(&item.field_type, datum, out)?;
        if !matches!(item.field_type, FieldType::Array(_)) && needs_quotes(&out[from..]) {
            quote(from, out);
        }
    }
    out.push(b'}');
    Ok(())
}

fn needs_quotes(item: &[u8]) -> bool {
    let special =
        |byte: &u8| matches!(byte, b'{' | b'}' | b',' | b'"' | b'\\' | 0x09..=0x0D | b' ');
    item.is_empty() || item.eq_ignore_ascii_case(b"NULL") || item.iter().any(special)
}

/// Quotes what `out` holds from there on.
fn quote(from: usize, out: &mut Vec<u8>) {
    let item = out.split_off(from);
    out.push(b'"');
    for byte in item {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}
