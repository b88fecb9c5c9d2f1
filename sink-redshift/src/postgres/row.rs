//! Rows of a batch as lines of `COPY … FROM STDIN` in the text format.

use tributary_engine::{Action, Change};
use tributary_schemas::record::{Datum, FieldType};
use tributary_schemas::render::{RenderError, postgres_text};
use tributary_schemas::sentinel::{NANO_TIMESTAMP_INFINITY, NANO_TIMESTAMP_NEGATIVE_INFINITY};

use crate::warehouse::plan::{Plan, Source};

const NULL: &[u8] = b"\\N";
/// Digits behind the second that Postgres keeps.
const MICRO_DIGITS: usize = 6;
const FINER_THAN_MICROS: RenderError = RenderError::OutOfRange {
    kind: "time with a part of a microsecond",
};

/// Appends the line of one change. `scratch` is room for a value's text.
///
/// # Errors
/// A value that Postgres has no form for, and which of the target's columns it is in.
pub(crate) fn append_line(
    plan: &Plan<'_>,
    change: &Change<'_>,
    line: &mut Vec<u8>,
    scratch: &mut Vec<u8>,
) -> Result<(), (usize, RenderError)> {
    let key = change.key.as_ref().map_or(&[][..], |key| &key.row);
    let row = change.row().map_or(&[][..], |value| &value.row);
    let mut number = itoa::Buffer::new();
    for (index, column) in plan.columns().iter().enumerate() {
        if index > 0 {
            line.push(b'\t');
        }
        match column {
            Source::Key(at, field_type) => {
                append_value(field_type, key.get(*at), line, scratch)
                    .map_err(|error| (index, error))?;
            }
            Source::Row(at, field_type) => {
                append_value(field_type, row.get(*at), line, scratch)
                    .map_err(|error| (index, error))?;
            }
            Source::Seq => line.extend_from_slice(number.format(change.seq).as_bytes()),
            Source::Partition => {
                line.extend_from_slice(number.format(change.partition).as_bytes());
            }
            Source::Offset => line.extend_from_slice(number.format(change.offset).as_bytes()),
            Source::Deleted => line.push(match change.action {
                Action::Delete => b't',
                Action::Upsert(_) | Action::Append(_) => b'f',
            }),
            Source::Lacking => {
                line.push(b'{');
                for (at, lacking) in plan.lacking(change).enumerate() {
                    if at > 0 {
                        line.push(b',');
                    }
                    line.extend_from_slice(number.format(lacking).as_bytes());
                }
                line.push(b'}');
            }
            Source::Missing => line.extend_from_slice(NULL),
        }
    }
    line.push(b'\n');
    Ok(())
}

fn append_value(
    field_type: &FieldType,
    datum: Option<&Datum<'_>>,
    line: &mut Vec<u8>,
    scratch: &mut Vec<u8>,
) -> Result<(), RenderError> {
    match datum {
        None | Some(Datum::Null | Datum::Unavailable | Datum::Lost) => line.extend_from_slice(NULL),
        Some(Datum::Str(text)) if is_plain_text(field_type) => {
            append_escaped(text.as_bytes(), line)?;
        }
        Some(datum) => {
            scratch.clear();
            if is_finer_than_micros(field_type, datum) {
                return Err(FINER_THAN_MICROS);
            }
            postgres_text(field_type, datum, scratch)?;
            append_escaped(scratch, line)?;
        }
    }
    Ok(())
}

/// Whether the text on the wire is the text that Postgres takes.
const fn is_plain_text(field_type: &FieldType) -> bool {
    matches!(
        field_type,
        FieldType::String
            | FieldType::Enum
            | FieldType::Uuid
            | FieldType::Json
            | FieldType::Xml
            | FieldType::Ltree
            | FieldType::TsVector
    )
}

/// Whether Postgres, which counts microseconds, would round the value.
fn is_finer_than_micros(field_type: &FieldType, datum: &Datum<'_>) -> bool {
    match (field_type, datum) {
        (
            FieldType::TimestampNanos,
            Datum::Int(NANO_TIMESTAMP_INFINITY | NANO_TIMESTAMP_NEGATIVE_INFINITY),
        ) => false,
        (FieldType::TimeNanos | FieldType::TimestampNanos, Datum::Int(nanos)) => nanos % 1_000 != 0,
        (FieldType::ZonedTimestamp | FieldType::ZonedTime, Datum::Str(text)) => {
            let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
            let digits = fraction.bytes().take_while(u8::is_ascii_digit);
            digits.skip(MICRO_DIGITS).any(|digit| digit != b'0')
        }
        (FieldType::Array(item), Datum::Array(items)) => items
            .iter()
            .any(|datum| is_finer_than_micros(&item.field_type, datum)),
        _ => false,
    }
}

/// Escapes what has a meaning in COPY's text format.
fn append_escaped(text: &[u8], line: &mut Vec<u8>) -> Result<(), RenderError> {
    let mut rest = text;
    while let Some(at) = rest
        .iter()
        .position(|byte| matches!(byte, b'\\' | b'\n' | b'\r' | b'\t' | 0))
    {
        line.extend_from_slice(&rest[..at]);
        line.push(b'\\');
        line.push(match rest[at] {
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0 => return Err(RenderError::NulCharacter),
            other => other,
        });
        rest = &rest[at + 1..];
    }
    line.extend_from_slice(rest);
    Ok(())
}

#[cfg(test)]
mod tests {
    use tributary_schemas::record::{Datum, Field, FieldType};

    use super::{append_escaped, is_finer_than_micros};

    #[test]
    fn what_has_a_meaning_in_copy_is_escaped() {
        for (text, escaped) in [
            ("", ""),
            ("plain ä", "plain ä"),
            ("\\N", "\\\\N"),
            ("a\tb\r\nc\\", "a\\tb\\r\\nc\\\\"),
            ("\\.", "\\\\."),
        ] {
            let mut line = Vec::new();
            append_escaped(text.as_bytes(), &mut line).unwrap();
            assert_eq!(line, escaped.as_bytes());
        }
        assert!(append_escaped(b"a\0", &mut Vec::new()).is_err());
    }

    #[test]
    fn what_postgres_would_round_is_noticed() {
        let finer = |field_type, datum| is_finer_than_micros(&field_type, &datum);
        assert!(finer(FieldType::TimestampNanos, Datum::Int(-1)));
        assert!(!finer(FieldType::TimeNanos, Datum::Int(5_000)));
        assert!(!finer(FieldType::TimeMicros, Datum::Int(5)));
        let zoned = |text| finer(FieldType::ZonedTimestamp, Datum::Str(text));
        assert!(zoned("2024-02-29T12:34:56.1234561Z"));
        assert!(!zoned("2024-02-29T12:34:56.123456000Z"));
        assert!(!zoned("2024-02-29T12:34:56Z"));
        let item = Field {
            name: "item".to_owned(),
            field_type: FieldType::TimeNanos,
            nullable: true,
        };
        let array = FieldType::Array(Box::new(item));
        assert!(finer(array, Datum::Array(vec![Datum::Null, Datum::Int(1)])));
    }
}
