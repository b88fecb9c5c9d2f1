//! The JSON that a search engine reads.

use super::calendar::{Day, Finite, TimeOfDay, Unit, timestamp};
use super::error::RenderError;
use super::{bits, decimal};
use crate::record::{Datum, Field, FieldType, RecordType};

pub(super) fn value(
    field_type: &FieldType,
    datum: &Datum<'_>,
    out: &mut Vec<u8>,
) -> Result<(), RenderError> {
    match (field_type, datum) {
        (_, Datum::Null) => out.extend_from_slice(b"null"),
        (FieldType::Bool, Datum::Bool(true)) => out.extend_from_slice(b"true"),
        (FieldType::Bool, Datum::Bool(false)) => out.extend_from_slice(b"false"),
        (FieldType::Int32 | FieldType::Int64 | FieldType::MicroDuration, Datum::Int(value)) => {
            out.extend_from_slice(itoa::Buffer::new().format(*value).as_bytes());
        }
        (FieldType::Float32, Datum::Float(value)) => {
            float(*value, f64::from(*value), out);
        }
        (FieldType::Float64, Datum::Double(value)) => float(*value, *value, out),
        (FieldType::Decimal { scale, .. }, Datum::Bytes(unscaled)) => {
            decimal::write(unscaled, *scale, out)?;
        }
        (FieldType::VariableDecimal, Datum::VariableDecimal { scale, unscaled }) => {
            match decimal::special(unscaled, *scale)? {
                Some(name) => string(name, out),
                None => decimal::write(unscaled, *scale, out)?,
            }
        }
        (FieldType::Date, Datum::Int(days)) => date(*days, out)?,
        (FieldType::TimeMillis, Datum::Int(count)) => time(*count, Unit::Millis, out)?,
        (FieldType::TimeMicros, Datum::Int(count)) => time(*count, Unit::Micros, out)?,
        (FieldType::TimeNanos, Datum::Int(count)) => time(*count, Unit::Nanos, out)?,
        (FieldType::TimestampMillis, Datum::Int(count)) => date_time(*count, Unit::Millis, out),
        (FieldType::TimestampMicros, Datum::Int(count)) => date_time(*count, Unit::Micros, out),
        (FieldType::TimestampNanos, Datum::Int(count)) => date_time(*count, Unit::Nanos, out),
        (FieldType::Bytes, Datum::Bytes(bytes)) => base64(bytes, out),
        (FieldType::Bits { length, counted }, Datum::Bytes(bytes)) => {
            out.push(b'"');
            bits::write(*length, *counted, bytes, out)?;
            out.push(b'"');
        }
        (
            FieldType::String
            | FieldType::ZonedTimestamp
            | FieldType::ZonedTime
            | FieldType::Interval
            | FieldType::Uuid
            | FieldType::Json
            | FieldType::Xml
            | FieldType::Ltree
            | FieldType::TsVector
            | FieldType::Enum,
            Datum::Str(text),
        ) => string(text, out),
        (FieldType::Array(item), Datum::Array(items)) => array(item, items, out)?,
        (FieldType::Map(item), Datum::Array(entries)) => map(item, entries, out)?,
        (FieldType::Struct(record), Datum::Struct(fields)) => object(record, fields, out)?,
        _ => return Err(RenderError::Mismatch),
    }
    Ok(())
}

/// The shortest text that reads back as the same number.
fn float<F: ryu::Float>(value: F, wide: f64, out: &mut Vec<u8>) {
    if wide.is_finite() {
        out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
    } else if wide.is_nan() {
        string("NaN", out);
    } else {
        string(if wide > 0.0 { "Infinity" } else { "-Infinity" }, out);
    }
}

fn date(days: i64, out: &mut Vec<u8>) -> Result<(), RenderError> {
    let date = Day::from_date(days).ok_or(RenderError::OutOfRange { kind: "date" })?;
    out.push(b'"');
    match date {
        Finite::At(day) => day.write_iso(out),
        infinite => out.extend_from_slice(infinite.infinity_text().unwrap_or_default().as_bytes()),
    }
    out.push(b'"');
    Ok(())
}

fn time(count: i64, unit: Unit, out: &mut Vec<u8>) -> Result<(), RenderError> {
    let time = TimeOfDay::new(count, unit).ok_or(RenderError::OutOfRange { kind: "time" })?;
    out.push(b'"');
    time.write(out);
    out.push(b'"');
    Ok(())
}

fn date_time(count: i64, unit: Unit, out: &mut Vec<u8>) {
    out.push(b'"');
    match timestamp(count, unit) {
        Finite::At((day, time)) => {
            day.write_iso(out);
            out.push(b'T');
            time.write(out);
        }
        infinite => out.extend_from_slice(infinite.infinity_text().unwrap_or_default().as_bytes()),
    }
    out.push(b'"');
}

fn array(item: &Field, items: &[Datum<'_>], out: &mut Vec<u8>) -> Result<(), RenderError> {
    out.push(b'[');
    for (index, datum) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        value(&item.field_type, datum, out)?;
    }
    out.push(b']');
    Ok(())
}

fn map(item: &Field, entries: &[Datum<'_>], out: &mut Vec<u8>) -> Result<(), RenderError> {
    out.push(b'{');
    for (index, entry) in entries.iter().enumerate() {
        let Datum::Struct(entry) = entry else {
            return Err(RenderError::Mismatch);
        };
        let [Datum::Str(key), datum] = entry.as_slice() else {
            return Err(RenderError::Mismatch);
        };
        if index > 0 {
            out.push(b',');
        }
        string(key, out);
        out.push(b':');
        value(&item.field_type, datum, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn object(record: &RecordType, data: &[Datum<'_>], out: &mut Vec<u8>) -> Result<(), RenderError> {
    if record.fields.len() != data.len() {
        return Err(RenderError::Mismatch);
    }
    out.push(b'{');
    for (index, (field, datum)) in record.fields.iter().zip(data).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        string(&field.name, out);
        out.push(b':');
        value(&field.field_type, datum, out)?;
    }
    out.push(b'}');
    Ok(())
}

pub(super) fn string(text: &str, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    // Most texts have nothing to escape.
    let strides = bytes.chunks(STRIDE).take_while(|stride| is_plain(stride));
    let plain = strides.map(<[u8]>::len).sum();
    let mut copied = 0;
    for (at, &byte) in bytes.iter().enumerate().skip(plain) {
        // U+2028 and U+2029 are E2 80 A8 and E2 80 A9.
        let separator = byte == 0xE2 && matches!(bytes[at..], [_, 0x80, 0xA8 | 0xA9, ..]);
        if byte >= 0x20 && byte != b'"' && byte != b'\\' && !separator {
            continue;
        }
        out.extend_from_slice(&bytes[copied..at]);
        copied = at + if separator { 3 } else { 1 };
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ if separator => out.extend_from_slice(if bytes[at + 2] == 0xA8 {
                b"\\u2028"
            } else {
                b"\\u2029"
            }),
            control => out.extend_from_slice(format!("\\u{control:04x}").as_bytes()),
        }
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}

/// So many bytes are looked at together: without a branch for each, the processor compares them at once.
const STRIDE: usize = 32;

/// Whether none of the bytes is, or begins, what is to be escaped.
fn is_plain(bytes: &[u8]) -> bool {
    let marks = bytes
        .iter()
        .map(|&byte| (byte < 0x20) | (byte == b'"') | (byte == b'\\') | (byte == 0xE2));
    !marks.fold(false, |any, mark| any | mark)
}

/// RFC 4648, section 4, with padding, in quotes.
fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.reserve(bytes.len().div_ceil(3) * 4 + 2);
    out.push(b'"');
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for index in 0..4 {
            let digit = DIGITS[(group >> (18 - 6 * index) & 0x3F) as usize];
            out.push(if index > chunk.len() { b'=' } else { digit });
        }
    }
    out.push(b'"');
}
