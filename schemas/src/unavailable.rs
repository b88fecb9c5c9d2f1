//! What Debezium writes in the place of a TOASTed value that an update left as it was: PostgreSQL does not log such a value.
//!
//! Source: the documentation of `unavailable.value.placeholder` of Debezium's PostgreSQL connector. Text, JSON and the like have the
//! placeholder itself, `bytea` its bytes, an array of texts has it as its only item, one of integers has its bytes as items, one of UUIDs
//! the UUID of it, and an hstore has it as its only key and value.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::record::Datum;

/// The placeholder, where nobody has configured another one.
pub const PLACEHOLDER: &str = "__debezium_unavailable_value";

/// Version 3 (MD5) of [`PLACEHOLDER`].
const UUID: &str = "b68a35a7-17ad-35b3-af2a-ae46edb4545a";

/// An hstore as JSON.
const HSTORE: &str = r#"{"__debezium_unavailable_value":"__debezium_unavailable_value"}"#;

static OF_UUIDS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(UUID));

static TEXT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(PLACEHOLDER));

/// The same as items of an array: Avro has an integer times two, seven bits to a byte, the lowest first.
static INTEGERS: LazyLock<Finder<'static>> = LazyLock::new(|| {
    let twice = PLACEHOLDER.bytes().map(|byte| u16::from(byte) * 2);
    let bytes: Vec<u8> = twice
        .flat_map(|twice| {
            [
                (twice | 0x80).to_le_bytes()[0],
                (twice >> 7).to_le_bytes()[0],
            ]
        })
        .collect();
    Finder::new(&bytes).into_owned()
});

/// Whether a record's value, as Avro encodes it, may hold a placeholder. Most do not, and need not be looked at column by column.
pub fn may_be_in(value: &[u8]) -> bool {
    [&TEXT, &INTEGERS, &OF_UUIDS]
        .iter()
        .any(|finder| finder.find(value).is_some())
}

/// Whether a column's value is the placeholder.
pub fn is_placeholder(datum: &Datum<'_>) -> bool {
    match datum {
        Datum::Array(items) => match &items[..] {
            [Datum::Str(text)] if *text == UUID => true,
            [Datum::Struct(pair)] => pair.iter().all(is_text),
            [item] => is_text(item),
            items => {
                items.len() == PLACEHOLDER.len()
                    && items
                        .iter()
                        .zip(PLACEHOLDER.bytes())
                        .all(|(item, byte)| *item == Datum::Int(i64::from(byte)))
            }
        },
        datum => is_text(datum),
    }
}

fn is_text(datum: &Datum<'_>) -> bool {
    match datum {
        Datum::Str(text) => *text == PLACEHOLDER || *text == HSTORE,
        Datum::Bytes(bytes) => *bytes == PLACEHOLDER.as_bytes(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use apache_avro::types::Value;
    use apache_avro::writer::datum::GenericDatumWriter;

    use super::*;

    #[test]
    fn a_placeholder_is_known_in_each_of_its_forms() {
        let integers = PLACEHOLDER.bytes().map(|byte| Datum::Int(i64::from(byte)));
        let integers: Vec<_> = integers.collect();
        for datum in [
            Datum::Str(PLACEHOLDER),
            Datum::Bytes(PLACEHOLDER.as_bytes()),
            Datum::Array(vec![Datum::Str(PLACEHOLDER)]),
            Datum::Array(integers.clone()),
            Datum::Array(vec![Datum::Str("b68a35a7-17ad-35b3-af2a-ae46edb4545a")]),
            Datum::Str(r#"{"__debezium_unavailable_value":"__debezium_unavailable_value"}"#),
            Datum::Array(vec![Datum::Struct(vec![Datum::Str(PLACEHOLDER); 2])]),
        ] {
            assert!(is_placeholder(&datum), "{datum:?}");
        }
        for datum in [
            Datum::Null,
            Datum::Str("__debezium_unavailable_value "),
            Datum::Array(vec![]),
            Datum::Array(integers[1..].to_vec()),
            Datum::Array(vec![Datum::Str(PLACEHOLDER), Datum::Str(PLACEHOLDER)]),
        ] {
            assert!(!is_placeholder(&datum), "{datum:?}");
        }
    }

    #[test]
    fn what_may_hold_one_is_told_from_its_bytes() {
        let text = [b"\x02\x38", PLACEHOLDER.as_bytes(), b"\0"].concat();
        assert!(may_be_in(&text));
        assert!(!may_be_in(&text[..text.len() - 2]));
        // As the Avro library encodes an array of integers.
        let items = PLACEHOLDER.bytes().map(|byte| Value::Int(i32::from(byte)));
        let items = Value::Array(items.collect());
        let schema =
            apache_avro::Schema::parse_str(r#"{"type": "array", "items": "int"}"#).unwrap();
        let writer = GenericDatumWriter::builder(&schema).build().unwrap();
        let array = writer.write_value_to_vec(items).unwrap();
        assert!(may_be_in(&array));
        assert!(!may_be_in(&array[4..]));
    }
}
