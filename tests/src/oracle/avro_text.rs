//! Avro values, as apache-avro decodes them, in the text that Postgres prints.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use apache_avro::types::Value;
use serde_json::Value as Json;

use super::avro_time;
use super::postgres_text;

/// What a field means: what its schema says beside the Avro type.
#[derive(Debug, Clone, Default)]
pub(super) struct Meaning {
    /// `connect.name`
    pub(super) name: String,
    /// The column's name in Postgres, where the field's had to be escaped.
    pub(super) column: Option<String>,
    scale: usize,
    /// Of bits: how many, unless each byte stands for one.
    length: Option<usize>,
    item: Option<Box<Meaning>>,
    fields: Vec<(String, Meaning)>,
}

/// The named types that a schema defines: each is written out once, and named where it comes again.
#[derive(Debug, Default)]
pub(super) struct Named<'a>(HashMap<String, &'a Json>);

impl<'a> Named<'a> {
    /// All definitions within a schema.
    pub(super) fn of(schema: &'a Json) -> Self {
        let mut named = Self::default();
        named.collect(schema, "");
        named
    }

    fn collect(&mut self, schema: &'a Json, namespace: &str) {
        match schema {
            Json::Array(branches) => {
                for branch in branches {
                    self.collect(branch, namespace);
                }
            }
            Json::Object(members) => {
                let namespace = members
                    .get("namespace")
                    .and_then(Json::as_str)
                    .unwrap_or(namespace);
                if let Some(name) = members.get("name").and_then(Json::as_str)
                    && members.get("type").is_some_and(|kind| kind == "record")
                {
                    let full = if name.contains('.') || namespace.is_empty() {
                        name.to_owned()
                    } else {
                        format!("{namespace}.{name}")
                    };
                    self.0.insert(full, schema);
                }
                for part in ["fields", "items", "type"] {
                    if let Some(part) = members.get(part) {
                        self.collect(part, namespace);
                    }
                }
            }
            _ => {}
        }
    }
}

impl Meaning {
    /// Reads a field's type, which may be a union with null.
    pub(super) fn read(schema: &Json, named: &Named<'_>) -> Self {
        let inner = match schema {
            Json::Array(branches) => branches
                .iter()
                .find(|branch| **branch != "null")
                .unwrap_or(&Json::Null),
            other => other,
        };
        let reference = inner.as_str().or_else(|| inner["type"].as_str());
        let inner = match reference.and_then(|name| named.0.get(name)) {
            Some(definition) => definition,
            None => inner,
        };
        // A type that has no definition of its own here: `{"type": {...}}`.
        if inner["type"].is_object() && inner.get("connect.name").is_none() {
            return Self::read(&inner["type"], named);
        }
        let parameter = |name: &str| inner["connect.parameters"][name].as_str();
        Self {
            name: inner["connect.name"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            column: parameter("__debezium.source.column.name").map(str::to_owned),
            scale: parameter("scale")
                .and_then(|text| text.parse().ok())
                .unwrap_or_default(),
            length: parameter("length")
                .filter(|_| parameter("tributary.counted").is_none())
                .and_then(|text| text.parse().ok()),
            item: inner
                .get("items")
                .map(|items| Box::new(Self::read(items, named))),
            fields: Self::fields(inner, named),
        }
    }

    /// The meanings of a record's fields, in order.
    pub(super) fn fields(record: &Json, named: &Named<'_>) -> Vec<(String, Self)> {
        let fields = record["fields"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let meaning = |field: &Json| {
            let mut meaning = Self::read(&field["type"], named);
            if let Some(column) =
                field["connect.parameters"]["__debezium.source.column.name"].as_str()
            {
                meaning.column = Some(column.to_owned());
            }
            Some((field["name"].as_str()?.to_owned(), meaning))
        };
        fields.iter().filter_map(meaning).collect()
    }
}

/// The canonical text of a value; `None` for null.
pub(super) fn text(value: &Value, meaning: &Meaning) -> Result<Option<String>> {
    let name = meaning.name.as_str();
    Ok(Some(match value {
        Value::Union(_, inner) => return text(inner, meaning),
        Value::Null => return Ok(None),
        Value::Boolean(value) => value.to_string(),
        Value::Int(value) => integer(i64::from(*value), name)?,
        Value::Long(value) => integer(*value, name)?,
        Value::Float(value) => postgres_text::float(f64::from(*value)),
        Value::Double(value) => postgres_text::float(*value),
        Value::Decimal(value) => decimal(&Vec::<u8>::try_from(value)?, meaning.scale),
        Value::Bytes(value) if name.ends_with(".Decimal") => decimal(value, meaning.scale),
        Value::Bytes(value) if name == "io.debezium.data.Bits" => {
            bits(value, meaning.length.unwrap_or(value.len()))
        }
        Value::Bytes(value) => value.iter().map(|byte| format!("{byte:02x}")).collect(),
        Value::String(value) => match name {
            "io.debezium.time.ZonedTimestamp" => avro_time::zoned_timestamp(value)?,
            "io.debezium.time.ZonedTime" => avro_time::zoned_time(value),
            "io.debezium.time.Interval" => avro_time::interval(value)?,
            _ => value.clone(),
        },
        Value::Record(fields) => record(fields, meaning)?,
        Value::Array(items) => array(items, meaning)?,
        other => bail!("no text form for {other:?}"),
    }))
}

fn integer(value: i64, name: &str) -> Result<String> {
    if name.is_empty() {
        return Ok(value.to_string());
    }
    avro_time::temporal(value, name)
}

/// Two's complement, big-endian, by schoolbook division: nine digits at a time.
fn decimal(bytes: &[u8], scale: usize) -> String {
    const NINE_DIGITS: u64 = 1_000_000_000;
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
    let word = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0, |word, byte| word << 8 | u64::from(*byte))
    };
    let mut words: Vec<u64> = magnitude.rchunks(4).rev().map(word).collect();
    let mut digits = Vec::new();
    while words.iter().any(|word| *word != 0) {
        let mut rest = 0;
        for word in &mut words {
            let value = rest << 32 | *word;
            *word = value / NINE_DIGITS;
            rest = value % NINE_DIGITS;
        }
        digits.extend(format!("{rest:09}").chars().rev());
    }
    while digits.last() == Some(&'0') {
        digits.pop();
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

/// Little-endian bytes as the digits of a bit string, the highest first, as many as the type has.
fn bits(bytes: &[u8], length: usize) -> String {
    let digit = |at: usize| match bytes.get(at / 8) {
        Some(byte) if byte >> (at % 8) & 1 == 1 => '1',
        _ => '0',
    };
    (0..length).rev().map(digit).collect()
}

/// A decimal of its own scale, a point, or a composite as `record_out` prints it.
fn record(fields: &[(String, Value)], meaning: &Meaning) -> Result<String> {
    match fields {
        [(scale, Value::Int(digits)), (value, Value::Bytes(bytes))]
            if scale == "scale" && value == "value" =>
        {
            return Ok(match (*digits, bytes.as_slice()) {
                (i32::MIN, [0]) => "NaN".to_owned(),
                (i32::MIN, [1]) => "Infinity".to_owned(),
                (i32::MIN, [0xFF]) => "-Infinity".to_owned(),
                _ => decimal(bytes, usize::try_from(*digits).context("a negative scale")?),
            });
        }
        [(x, Value::Double(left)), (y, Value::Double(right)), ..] if x == "x" && y == "y" => {
            return Ok(format!(
                "({},{})",
                postgres_text::float(*left),
                postgres_text::float(*right)
            ));
        }
        _ => {}
    }
    let mut parts = Vec::new();
    for (name, value) in fields {
        let field = meaning.fields.iter().find(|(field, _)| field == name);
        let (_, field) = field.with_context(|| format!("no type of field {name}"))?;
        parts.push(text(value, field)?);
    }
    Ok(postgres_text::print_record(&parts))
}

/// An array as `array_out` prints it.
fn array(items: &[Value], meaning: &Meaning) -> Result<String> {
    let item_meaning = meaning.item.as_deref().cloned().unwrap_or_default();
    let mut parts = Vec::new();
    for item in items {
        let nested = match item {
            Value::Union(_, inner) => matches!(**inner, Value::Array(_)),
            other => matches!(other, Value::Array(_)),
        };
        let item = text(item, &item_meaning)?;
        parts.push(match item {
            Some(item) if nested && !is_vector(&item_meaning) => item,
            item => postgres_text::print_item(item.as_deref()),
        });
    }
    if is_vector(meaning) {
        return Ok(format!("[{}]", parts.join(",")));
    }
    Ok(format!("{{{}}}", parts.join(",")))
}

fn is_vector(meaning: &Meaning) -> bool {
    meaning.name.ends_with("Vector")
}

#[cfg(test)]
mod tests {
    use apache_avro::types::Value;

    use super::{Meaning, bits, decimal, text};

    #[test]
    fn numbers_are_those_of_postgres() {
        assert_eq!(decimal(&[0x04, 0xD2], 2), "12.34");
        assert_eq!(
            (
                decimal(&[0xFF], 2),
                decimal(&[], 0),
                decimal(&[0x00, 0x80], 0)
            ),
            ("-0.01".into(), "0".into(), "128".into())
        );
        let (one, zeros) = ([1_u8], [0_u8; 8]);
        assert_eq!(
            decimal(&[&one[..], &zeros].concat(), 0),
            "18446744073709551616"
        );
        assert_eq!(
            decimal(&[&one[..], &zeros].concat(), 25),
            "0.0000018446744073709551616"
        );
        assert_eq!(bits(&[0b101], 9), "000000101");
    }

    #[test]
    fn arrays_are_quoted_as_postgres_does() {
        let items = ["a", "", "null", "b \"c\"", "1"].map(|item| Value::String(item.to_owned()));
        let nested = Value::Array(vec![Value::Array(items.to_vec()), Value::Null]);
        assert_eq!(
            text(&nested, &Meaning::default()).unwrap().unwrap(),
            r#"{{a,"","null","b \"c\"",1},NULL}"#
        );
    }
}
