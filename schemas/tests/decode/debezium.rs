//! The scalar types that Debezium annotates, as its converter writes their schemas, in a record of a foreign topic.

use apache_avro::types::Value;
use tributary_schemas::decode::KeyPlan;
use tributary_schemas::record::FieldType;
use tributary_schemas::render;

use super::avro::{encode, physical};

/// A field's schema, what it means, its value, and the texts of both sinks.
type Case = (&'static str, FieldType, Value, &'static str, &'static str);

fn cases() -> Vec<Case> {
    let bits = |length| FieldType::Bits {
        length: Some(length),
        counted: false,
    };
    let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec());
    let string = |text: &str| Value::String(text.to_owned());
    vec![
        (
            r#"{"type":"bytes","connect.version":1,"connect.parameters":{"length":"10"},"connect.name":"io.debezium.data.Bits"}"#,
            bits(10),
            bytes(&[5]),
            "0000000101",
            "\"0000000101\"",
        ),
        (
            r#"{"type":"bytes","connect.version":1,"connect.parameters":{"length":"2147483647"},"connect.name":"io.debezium.data.Bits"}"#,
            bits(2_147_483_647),
            bytes(&[]),
            "",
            "\"\"",
        ),
        (
            r#"{"type":"bytes","scale":2,"precision":64,"connect.version":1,"connect.parameters":{"scale":"2"},"connect.name":"org.apache.kafka.connect.data.Decimal","logicalType":"decimal"}"#,
            FieldType::Decimal {
                precision: None,
                scale: 2,
            },
            bytes(&[0xfe, 0x1d, 0xc0]),
            "-1234.56",
            "-1234.56",
        ),
        (
            r#"{"type":"string","connect.version":1,"connect.name":"io.debezium.data.Ltree"}"#,
            FieldType::Ltree,
            string("a.b"),
            "a.b",
            "\"a.b\"",
        ),
        (
            r#"{"type":"string","connect.version":1,"connect.name":"io.debezium.data.Tsvector"}"#,
            FieldType::TsVector,
            string("'cat':3A"),
            "'cat':3A",
            "\"'cat':3A\"",
        ),
        (
            r#"{"type":"string","connect.version":1,"connect.name":"io.debezium.data.Json"}"#,
            FieldType::Json,
            string(r#"{"a":null}"#),
            r#"{"a":null}"#,
            r#""{\"a\":null}""#,
        ),
        (
            r#"{"type":"long","connect.version":1,"connect.name":"io.debezium.time.MicroDuration"}"#,
            FieldType::MicroDuration,
            Value::Long(-90_000_001),
            "-00:01:30.000001",
            "-90000001",
        ),
        (
            r#"{"type":"string","connect.version":1,"connect.name":"io.debezium.time.ZonedTimestamp"}"#,
            FieldType::ZonedTimestamp,
            string("-infinity"),
            "-infinity",
            "\"-infinity\"",
        ),
    ]
}

#[test]
fn what_debezium_annotates_is_understood() {
    for (field, field_type, value, postgres, json) in cases() {
        let schema =
            format!(r#"{{"type":"record","name":"R","fields":[{{"name":"c","type":{field}}}]}}"#);
        let plan = KeyPlan::compile(&schema).unwrap();
        assert_eq!(plan.row_type().fields[0].field_type, field_type, "{field}");
        let record = Value::Record(vec![("c".to_owned(), value)]);
        let body = encode(&physical(&schema), record);
        let row = plan.decode(&body).unwrap();
        let (mut text, mut document) = (Vec::new(), Vec::new());
        render::postgres_text(&field_type, &row[0], &mut text).unwrap();
        render::json(&field_type, &row[0], &mut document).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), postgres, "{field}");
        assert_eq!(String::from_utf8(document).unwrap(), json, "{field}");
    }
}
