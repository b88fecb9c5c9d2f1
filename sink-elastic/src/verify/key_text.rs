//! From the texts of an `_id` back to texts that Postgres takes for the key's columns.

use tributary_postgres::verify::Named;
use tributary_schemas::record::{FieldType, RecordType};

use crate::id::{self, KeyTexts};

/// Whose an `_id` is, by the key's columns.
pub(super) fn named(id: &str, key_type: &RecordType) -> Named {
    let texts = match id::texts(id, key_type.fields.len()) {
        KeyTexts::All(texts) => texts,
        KeyTexts::None => return Named::Nobody,
        KeyTexts::Hashed => return Named::Unknown,
    };
    let mut key = Vec::with_capacity(texts.len());
    for (field, text) in key_type.fields.iter().zip(texts) {
        match column(&field.field_type, text) {
            Named::Key(mut text) => key.append(&mut text),
            other => return other,
        }
    }
    Named::Key(key)
}

/// One column's text.
fn column(field_type: &FieldType, text: String) -> Named {
    // Postgres holds no such character, and a statement none either.
    if text.contains('\0') {
        return Named::Nobody;
    }
    match field_type {
        FieldType::Bytes => base64(&text).map_or(Named::Nobody, |hex| Named::Key(vec![hex])),
        // Both a boolean and a `bit(1)` take it so.
        FieldType::Bool => Named::Key(vec![match text.as_str() {
            "true" => "1".to_owned(),
            "false" => "0".to_owned(),
            _ => return Named::Nobody,
        }]),
        // Years that four digits do not hold, and 1 BC, are written as ISO 8601 has them, and Postgres does not read them so.
        FieldType::Date
        | FieldType::TimestampMillis
        | FieldType::TimestampMicros
        | FieldType::TimestampNanos
        | FieldType::ZonedTimestamp
            if text.starts_with("0000")
                || (text != "-infinity" && text.starts_with(['+', '-'])) =>
        {
            Named::Unknown
        }
        FieldType::Array(_)
        | FieldType::Map(_)
        | FieldType::Struct(_)
        | FieldType::MicroDuration => Named::Unknown,
        _ => Named::Key(vec![text]),
    }
}

/// Bytes in base64 as Postgres writes them; `None` if it is none.
fn base64(text: &str) -> Option<String> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut hex = "\\x".to_owned();
    let (mut held, mut bits) = (0_u32, 0);
    for letter in text.trim_end_matches('=').bytes() {
        let digit = DIGITS.iter().position(|digit| *digit == letter)?;
        held = (held << 6 | u32::try_from(digit).ok()?) & 0xFFFF;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            hex.push_str(&format!("{:02x}", held >> bits & 0xFF));
        }
    }
    Some(hex)
}

#[cfg(test)]
mod tests {
    use tributary_postgres::verify::Named;
    use tributary_schemas::record::{Field, FieldType, RecordType};

    use super::named;

    fn key_type(types: &[FieldType]) -> RecordType {
        let fields = types.iter().map(|field_type| Field {
            name: "k".to_owned(),
            field_type: field_type.clone(),
            nullable: false,
        });
        RecordType {
            full_name: "t.Key".to_owned(),
            fields: fields.collect(),
        }
    }

    #[test]
    fn an_id_leads_back_to_the_key() {
        let key = |texts: &[&str]| Named::Key(texts.iter().map(|&text| text.to_owned()).collect());
        let two = key_type(&[FieldType::Int32, FieldType::Bytes]);
        assert_eq!(named("7,AP+A", &two), key(&["7", "\\x00ff80"]));
        assert_eq!(named("7,AP8=", &two), key(&["7", "\\x00ff"]));
        assert_eq!(named("7,", &two), key(&["7", "\\x"]));
        assert_eq!(named("7,!", &two), Named::Nobody);
        assert_eq!(named("7", &two), Named::Nobody);
        let date = key_type(&[FieldType::Date]);
        assert_eq!(named("2026-11-30", &date), key(&["2026-11-30"]));
        assert_eq!(named("-infinity", &date), key(&["-infinity"]));
        assert_eq!(named("-0043-01-01", &date), Named::Unknown);
        assert_eq!(named("0000-01-01", &date), Named::Unknown);
        let flag = key_type(&[FieldType::Bool]);
        assert_eq!(named("true", &flag), key(&["1"]));
        assert_eq!(named("x", &flag), Named::Nobody);
        let hashed = format!("~#{}", "0".repeat(64));
        assert_eq!(
            named(&hashed, &key_type(&[FieldType::String])),
            Named::Unknown
        );
    }
}
