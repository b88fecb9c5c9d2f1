//! How a row type is mapped: explicit fields only, and no value that is legal in Postgres makes a document fail.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};
use tributary_schemas::record::{Field, FieldType, RecordType};

/// The document's field that holds the row's version.
pub(crate) const SEQ_FIELD: &str = "_tributary_seq";

/// Lucene's limit for one term is 32,766 bytes, and a character of UTF-8 has four at most.
const KEYWORD_CHARS: u32 = 8191;
/// Signed years beyond four digits are read by the last two; what none reads stays in `_source`, unindexed.
const DATE_FORMATS: &str = "strict_date_optional_time_nanos||strict_date_optional_time||uuuu-MM-dd||uuuu-MM-dd'T'HH:mm:ss[.SSSSSS][X]";

/// The document's field for a column: the column's name, but for what the engines refuse or keep for
/// themselves. Escaped as `_uXXXX` are a dot, a leading `_`, the first letter of a blank name, and the `_` of
/// what would read as such an escape. Different columns have different fields.
pub(crate) fn field_name(column: &str) -> Cow<'_, str> {
    let blank = column.chars().all(char::is_whitespace);
    let escape = |index: usize, letter: char| match letter {
        '.' => true,
        '_' => index == 0 || is_escape(column.get(index..).unwrap_or_default()),
        _ => index == 0 && blank,
    };
    if !column
        .char_indices()
        .any(|(index, letter)| escape(index, letter))
    {
        return Cow::Borrowed(column);
    }
    let mut field = String::with_capacity(column.len() + 5);
    for (index, letter) in column.char_indices() {
        if escape(index, letter) {
            // Writing to a String cannot fail.
            let _ = write!(field, "_u{:04x}", u32::from(letter));
        } else {
            field.push(letter);
        }
    }
    Cow::Owned(field)
}

fn is_escape(text: &str) -> bool {
    text.strip_prefix("_u").is_some_and(|digits| {
        digits.len() >= 4
            && digits
                .bytes()
                .take(4)
                .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Whether this may be the name of a field that somebody chooses.
pub(crate) fn is_legal(name: &str) -> bool {
    !name.is_empty() && matches!(field_name(name), Cow::Borrowed(_))
}

/// Whether a column's field may have this name, or one that somebody chooses.
pub(crate) fn is_field(name: &str) -> bool {
    is_legal(name) || (!name.is_empty() && field_name(&column_name(name)) == name)
}

/// The column that has this field, if any has.
fn column_name(field: &str) -> String {
    let mut column = String::with_capacity(field.len());
    let mut rest = field;
    while let Some(letter) = rest.chars().next() {
        let escaped = is_escape(rest).then(|| rest.get(2..6)).flatten();
        let code = escaped.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let (letter, length) = match code.and_then(char::from_u32) {
            Some(escaped) => (escaped, 6),
            None => (letter, letter.len_utf8()),
        };
        column.push(letter);
        rest = rest.get(length..).unwrap_or_default();
    }
    column
}

/// The mapping's `properties` for fields that hold these types, [`SEQ_FIELD`] included.
pub(crate) fn properties<'t>(
    fields: impl IntoIterator<Item = (String, &'t FieldType)>,
) -> Map<String, Value> {
    let mut properties: Map<_, _> = fields
        .into_iter()
        .map(|(field, field_type)| (field, property(field_type)))
        .collect();
    properties.insert(SEQ_FIELD.to_owned(), json!({"type": "long"}));
    properties
}

/// A mapping without a type is an object's.
pub(crate) fn type_of(mapping: &Value) -> &str {
    let name = mapping.get("type").and_then(Value::as_str);
    name.unwrap_or("object")
}

/// How many fields `properties` has as the engines count them for `index.mapping.total_fields.limit`.
pub(crate) fn field_count(properties: &Map<String, Value>) -> usize {
    properties
        .values()
        .map(|property| {
            let nested = ["properties", "fields"]
                .iter()
                .filter_map(|key| property.get(key)?.as_object())
                .map(field_count);
            1 + nested.sum::<usize>()
        })
        .sum()
}

fn property(field_type: &FieldType) -> Value {
    match field_type {
        FieldType::Bool => json!({"type": "boolean"}),
        FieldType::Int32 => number("integer"),
        FieldType::Int64 | FieldType::MicroDuration => number("long"),
        FieldType::Float32 => number("float"),
        FieldType::Float64 | FieldType::Decimal { .. } | FieldType::VariableDecimal => {
            number("double")
        }
        FieldType::String => {
            json!({"type": "text", "fields": {"keyword": keyword()}})
        }
        FieldType::Json | FieldType::Xml | FieldType::TsVector => json!({"type": "text"}),
        FieldType::Uuid
        | FieldType::Enum
        | FieldType::Ltree
        | FieldType::TimeMillis
        | FieldType::TimeMicros
        | FieldType::TimeNanos
        | FieldType::ZonedTime
        | FieldType::Interval
        | FieldType::Bits { .. } => keyword(),
        FieldType::Date
        | FieldType::TimestampMillis
        | FieldType::TimestampMicros
        | FieldType::TimestampNanos
        | FieldType::ZonedTimestamp => {
            json!({"type": "date", "format": DATE_FORMATS, "ignore_malformed": true})
        }
        FieldType::Bytes => json!({"type": "binary"}),
        // A vector is of no use number by number; its engine's own type depends on engine and dimensions.
        FieldType::Array(item) if is_vector(item) => {
            json!({"type": "float", "index": false, "doc_values": false, "ignore_malformed": true})
        }
        // The engines have no type for arrays: every field may hold several values.
        FieldType::Array(item) => property(&item.field_type),
        // Keys are data: as fields they would grow the mapping without a bound.
        FieldType::Map(_) => json!({"type": "object", "enabled": false}),
        FieldType::Struct(record) => object(record),
    }
}

/// Items that cannot be null: so are those of a vector, and those of an array of a column never.
const fn is_vector(item: &Field) -> bool {
    !item.nullable && matches!(item.field_type, FieldType::Float32 | FieldType::Float64)
}

/// An object with its fields; kept in `_source` alone if a name inside has a form that the engines refuse.
fn object(record: &RecordType) -> Value {
    if !record.fields.iter().all(|field| is_legal(&field.name)) {
        return json!({"type": "object", "enabled": false});
    }
    let properties: Map<_, _> = record
        .fields
        .iter()
        .map(|field| (field.name.clone(), property(&field.field_type)))
        .collect();
    json!({"properties": properties})
}

fn number(name: &str) -> Value {
    json!({"type": name, "ignore_malformed": true})
}

fn keyword() -> Value {
    json!({"type": "keyword", "ignore_above": KEYWORD_CHARS})
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use tributary_schemas::record::{Field, FieldType, RecordType};

    use super::{field_count, field_name, is_field, is_legal, properties};

    fn record(fields: Vec<(&str, FieldType)>) -> RecordType {
        RecordType {
            full_name: "t.Value".to_owned(),
            fields: fields
                .into_iter()
                .map(|(name, field_type)| Field {
                    name: name.to_owned(),
                    field_type,
                    nullable: true,
                })
                .collect(),
        }
    }

    #[test]
    fn usual_and_odd_names_are_kept() {
        for name in [
            "id",
            "order_id",
            "a b",
            "Weird Näme-$",
            "1st",
            "x_u12",
            "#",
            "a*b",
        ] {
            assert_eq!(field_name(name), name);
        }
    }

    #[test]
    fn names_that_engines_refuse_are_escaped() {
        assert_eq!(field_name("a.b"), "a_u002eb");
        assert_eq!(field_name("_id"), "_u005fid");
        assert_eq!(field_name("_tributary_seq"), "_u005ftributary_seq");
        assert_eq!(field_name(" "), "_u0020");
        assert_eq!(field_name("a_u002eb"), "a_u005fu002eb");
        for column in ["a.b", "_id", " ", "a_u002eb", "_u0041", "name"] {
            assert!(is_field(&field_name(column)), "{column}");
        }
        for wrong in ["", "a.b", "_id", "_tributary_seq", "_u0041"] {
            assert!(!is_field(wrong) && !is_legal(wrong), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn columns_never_share_a_field(a in "[_u02ef. ]{1,8}", b in "[_u02ef. ]{1,8}") {
            prop_assert_eq!(a == b, field_name(&a) == field_name(&b));
        }

        #[test]
        fn a_field_of_ours_is_never_a_columns(column in "[_a-z.]{0,4}_tributary_seq") {
            prop_assert_ne!(field_name(&column), super::SEQ_FIELD);
        }
    }

    #[test]
    fn nested_fields_are_mapped_and_counted() {
        let point = record(vec![
            ("x", FieldType::Float64),
            ("label", FieldType::String),
        ]);
        let items = Field {
            name: "item".to_owned(),
            field_type: FieldType::Struct(point),
            nullable: true,
        };
        let vector = Field {
            name: "item".to_owned(),
            field_type: FieldType::Float64,
            nullable: false,
        };
        let table = record(vec![
            ("id", FieldType::Int64),
            ("embedding", FieldType::Array(Box::new(vector))),
            ("points", FieldType::Array(Box::new(items))),
            (
                "odd",
                FieldType::Struct(record(vec![("a.b", FieldType::Int32)])),
            ),
        ]);
        let fields = table.fields.iter();
        let properties = properties(fields.map(|field| (field.name.clone(), &field.field_type)));
        assert_eq!(
            properties["points"],
            json!({"properties": {
                "x": {"type": "double", "ignore_malformed": true},
                "label": {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 8191}}},
            }})
        );
        assert_eq!(
            properties["odd"],
            json!({"type": "object", "enabled": false})
        );
        assert_eq!(properties["embedding"]["index"], json!(false));
        assert_eq!(field_count(&properties), 8);
    }
}
