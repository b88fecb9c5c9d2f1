//! apache-avro, as the other side of the tests.

use std::io::Cursor;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{AvroResult, Schema};

/// The schema as apache-avro has it, without logical types: they do not change the bytes, and its
/// own values for them would have to be built.
pub(crate) fn physical(schema_json: &str) -> Schema {
    fn strip(json: &mut serde_json::Value) {
        match json {
            serde_json::Value::Object(object) => {
                object.remove("logicalType");
                object.values_mut().for_each(strip);
            }
            serde_json::Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut json = serde_json::from_str(schema_json).unwrap();
    strip(&mut json);
    Schema::parse(&json).unwrap()
}

pub(crate) fn encode(schema: &Schema, value: Value) -> Vec<u8> {
    GenericDatumWriter::builder(schema)
        .build()
        .unwrap()
        .write_value_to_vec(value)
        .unwrap()
}

/// The value and the bytes left over, or why apache-avro refuses the body.
pub(crate) fn decode(schema: &Schema, body: &[u8]) -> AvroResult<(Value, usize)> {
    let mut reader = Cursor::new(body);
    let value = GenericDatumReader::builder(schema)
        .build()
        .unwrap()
        .read_value(&mut reader)?;
    Ok((value, body.len() - reader.position() as usize))
}

pub(crate) fn record(fields: Vec<(&str, Value)>) -> Value {
    Value::Record(
        fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

pub(crate) fn branch(index: u32, value: Value) -> Value {
    Value::Union(index, Box::new(value))
}

pub(crate) fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}
