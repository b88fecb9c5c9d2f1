//! apache-avro as the oracle: what it reads from our bytes, as text that a test can compare.

// Each test binary uses a part of it.
#![allow(dead_code, unreachable_pub)]

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use tributary_schemas::Lsn;
use tributary_schemas::avro::value_schema;
use tributary_schemas::encode::{Change, EncodePlan, Snapshot, SourceIdentity, ValueError};
use tributary_schemas::record::Op;
use tributary_schemas::table::{Cell, Column, ColumnType, Table};

pub mod tables;

pub const TOPIC: &str = "shop.public.t";

/// Reads one datum, which must be all of `bytes`.
pub fn decode(schema: &str, mut bytes: &[u8]) -> Value {
    let schema = Schema::parse_str(schema).unwrap();
    let reader = GenericDatumReader::builder(&schema).build().unwrap();
    let value = reader.read_value(&mut bytes).unwrap();
    assert_eq!(bytes, b"", "bytes are left");
    value
}

/// The field at the end of a path of names.
pub fn field<'v>(value: &'v Value, path: &[&str]) -> &'v Value {
    path.iter()
        .fold(value, |value, name| match unwrapped(value) {
            Value::Record(fields) => &fields.iter().find(|(field, _)| field == name).unwrap().1,
            other => panic!("{name} of {other:?}"),
        })
}

fn unwrapped(value: &Value) -> &Value {
    match value {
        Value::Union(_, inner) => unwrapped(inner),
        value => value,
    }
}

/// A value as text: strings as they are, bytes as `x00ff`, records `{a=1 b=2}`, arrays `[1, null]`.
pub fn plain(value: &Value) -> String {
    match unwrapped(value) {
        Value::Null => "null".to_owned(),
        Value::Boolean(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Long(value) => value.to_string(),
        Value::Float(value) => value.to_string(),
        Value::Double(value) => value.to_string(),
        Value::String(value) => value.clone(),
        Value::Bytes(bytes) => hex(bytes),
        Value::Decimal(decimal) => hex(&Vec::try_from(decimal).unwrap()),
        Value::Array(items) => {
            format!(
                "[{}]",
                items.iter().map(plain).collect::<Vec<_>>().join(", ")
            )
        }
        Value::Record(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| format!("{name}={}", plain(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(" "))
        }
        other => panic!("{other:?}"),
    }
}

pub fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    let digits = bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    std::iter::once('x').chain(digits).collect()
}

pub fn identity() -> SourceIdentity {
    SourceIdentity {
        name: "shop-eu".to_owned(),
        db: "shop".to_owned(),
        region: Some("eu-west-1".to_owned()),
        version: "0.1.0".to_owned(),
        connector: "postgresql".to_owned(),
    }
}

pub fn column(name: &str, column_type: ColumnType) -> Column {
    Column {
        name: name.to_owned(),
        attnum: 0,
        column_type,
        key_position: None,
    }
}

pub fn table(name: &str, columns: Vec<Column>, key: &[&str]) -> Table {
    let mut columns = columns;
    for (index, column) in columns.iter_mut().enumerate() {
        column.attnum = i16::try_from(index).unwrap() + 1;
        let position = key.iter().position(|key| *key == column.name);
        column.key_position = position.map(|position| u16::try_from(position).unwrap());
    }
    Table {
        oid: 16_384,
        schema: "public".to_owned(),
        name: name.to_owned(),
        columns,
    }
}

/// A table of a key and one column of a type.
pub fn with_column(column_type: ColumnType) -> Table {
    table(
        "t",
        vec![column("id", ColumnType::Int4), column("c", column_type)],
        &["id"],
    )
}

pub fn read<'a>(after: &'a [Cell<'a>]) -> Change<'a> {
    Change {
        op: Op::Read,
        before: None,
        after: Some(after),
        commit_time_us: 1_577_836_800_123_456,
        snapshot: Snapshot::True,
        sequence: (None, Lsn(44_592_072)),
        tx_id: Some(824),
        lsn: Some(Lsn(44_592_072)),
        transaction: None,
        handled_at_ns: 1_577_836_801_123_456_789,
    }
}

/// What apache-avro reads where a column of this type has this text.
pub fn written(column_type: &ColumnType, text: &str) -> Result<String, ValueError> {
    let table = with_column(column_type.clone());
    let plan = EncodePlan::compile(&table, &identity());
    let row = [Cell::Text(b"1"), Cell::Text(text.as_bytes())];
    let mut out = b"before".to_vec();
    let result = plan.encode_envelope(&read(&row), &mut out);
    if let Err(error) = result {
        assert_eq!(out, b"before", "an error leaves the buffer as it was");
        return Err(error);
    }
    let value = decode(&value_schema(TOPIC, &table), &out[6..]);
    Ok(plain(field(&value, &["after", "c"])))
}

/// Each text is written as what is expected.
#[track_caller]
pub fn assert_written(column_type: &ColumnType, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        match written(column_type, text) {
            Ok(value) => assert_eq!(&value, expected, "{text}"),
            Err(error) => panic!("{text}: {error}"),
        }
    }
}

/// The value is refused, and what is said has `reason`, the column and its type, but not the value.
#[track_caller]
pub fn assert_refused(column_type: &ColumnType, text: &str, type_name: &str, reason: &str) {
    let error = written(column_type, text).expect_err(text);
    assert_eq!(error.column, "c", "{text}");
    assert!(
        error
            .what
            .starts_with(&format!("column \"c\" ({type_name}): ")),
        "{}",
        error.what
    );
    assert!(error.what.contains(reason), "{text}: {}", error.what);
    assert!(!error.remedy.is_empty());
    assert!(
        text.len() < 3 || !error.to_string().contains(text),
        "{error}"
    );
}
