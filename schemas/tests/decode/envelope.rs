//! Change events: Debezium's own schema, and one that is as foreign as it may be.

use std::path::Path;

use apache_avro::types::Value;
use tributary_schemas::decode::{KeyPlan, ValuePlan};
use tributary_schemas::record::{Datum, Field, FieldType, Head, Op, Row};

use super::avro::{branch, encode, physical, record, text};

pub(crate) const ENVELOPE: &str = include_str!("../golden-decode/envelope.avsc");
pub(crate) const FOREIGN: &str = include_str!("../golden-decode/foreign.avsc");

fn some(value: Value) -> Value {
    branch(1, value)
}

fn null() -> Value {
    branch(0, Value::Null)
}

/// A row of the golden schema with every column set.
fn product() -> Value {
    let decimal = || {
        record(vec![
            ("scale", Value::Int(-3)),
            ("value", Value::Bytes(vec![0x80])),
        ])
    };
    let point = record(vec![
        ("x", Value::Double(1.5)),
        ("y", Value::Double(-2.5)),
        ("wkb", some(Value::Bytes(vec![1, 2]))),
        ("srid", null()),
    ]);
    let row = Value::Array(vec![some(Value::Int(7)), null()]);
    record(vec![
        ("id", Value::Long(-42)),
        ("small", some(Value::Int(-300))),
        ("active", some(Value::Boolean(true))),
        ("ratio", some(Value::Float(0.5))),
        ("weight", some(Value::Double(0.25))),
        ("title", some(text("Größe"))),
        ("photo", some(Value::Bytes(vec![0, 255]))),
        ("price", some(Value::Bytes(vec![0x30, 0x39]))),
        ("exact", some(decimal())),
        ("exact2", some(decimal())),
        ("born", some(Value::Int(-1))),
        ("opens", some(Value::Int(86_399_999))),
        ("closes", some(Value::Long(86_400_000_000))),
        ("made_ms", some(Value::Long(-1))),
        ("made_us", some(Value::Long(i64::MAX))),
        ("made_ns", some(Value::Long(i64::MIN))),
        ("seen", some(text("2024-01-01T00:00:00.000001Z"))),
        ("rings", some(text("12:00:00+02:00"))),
        ("lasts", some(text("P1Y2M3DT4H5M6.7S"))),
        ("lasts_us", some(Value::Long(90))),
        ("uid", some(text("6f7b5b9e-7f2d-4f0e-8a55-0d6f7b0c1a2b"))),
        ("attrs", some(text("{\"a\": 1}"))),
        ("sheet", some(text("<a/>"))),
        ("state", some(text("sold"))),
        ("flags", some(Value::Bytes(vec![0xFF, 0x0A]))),
        ("tags", some(Value::Array(vec![some(text("x")), null()]))),
        ("grid", some(Value::Array(vec![some(row), null()]))),
        ("place", some(point)),
        (
            "labels",
            some(Value::Map([("k".to_owned(), some(text("v")))].into())),
        ),
        ("Weird_u0020N_u00e4me_u002d_u0024", some(text("w"))),
        ("renamed", some(Value::Int(5))),
    ])
}

fn source() -> Value {
    record(vec![
        ("version", text("3.3.1.Final")),
        ("connector", text("postgresql")),
        ("name", text("shop")),
        ("ts_ms", Value::Long(1_700_000_000_123)),
        ("snapshot", branch(0, text("false"))),
        ("db", text("store")),
        ("sequence", some(text("[\"1\",\"2\"]"))),
        ("ts_us", some(Value::Long(1_700_000_000_123_456))),
        ("ts_ns", null()),
        ("schema", text("catalog")),
        ("table", text("Weird Näme")),
        ("txId", some(Value::Long(9))),
        ("lsn", some(Value::Long(1 << 40))),
        ("xmin", null()),
        ("origin", null()),
        ("origin_lsn", null()),
    ])
}

/// An envelope of the golden schema around two rows.
pub(crate) fn event(before: Value, after: Value, op: &str) -> Value {
    let transaction = record(vec![
        ("id", text("9:1")),
        ("total_order", Value::Long(1)),
        ("data_collection_order", Value::Long(1)),
    ]);
    record(vec![
        ("before", before),
        ("after", after),
        ("source", source()),
        ("transaction", some(transaction)),
        ("op", text(op)),
        ("ts_ms", some(Value::Long(1))),
        ("ts_us", null()),
        ("ts_ns", some(Value::Long(3))),
    ])
}

/// The body of an update with every column set in both rows.
pub(crate) fn update() -> Vec<u8> {
    encode(
        &physical(ENVELOPE),
        event(some(product()), some(product()), "u"),
    )
}

#[test]
fn the_types_of_debezium_keep_their_meaning() {
    let plan = ValuePlan::compile(ENVELOPE).unwrap();
    assert_eq!(plan.row_type().full_name, "shop.catalog.product.Value");
    assert_golden(
        "envelope.types.txt",
        &types_as_text(&plan.row_type().fields),
    );
}

/// Compares with a golden file; `TRIBUTARY_GOLDEN=rewrite` writes it instead, on purpose.
fn assert_golden(file: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden-decode")
        .join(file);
    if std::env::var_os("TRIBUTARY_GOLDEN").is_some_and(|mode| mode == "rewrite") {
        std::fs::write(&path, found).unwrap();
    }
    assert_eq!(
        found,
        std::fs::read_to_string(&path).unwrap(),
        "{}",
        path.display()
    );
}

/// One line per field.
fn types_as_text(fields: &[Field]) -> String {
    let line = |field: &Field| {
        let null = if field.nullable { " nullable" } else { "" };
        format!("{}: {:?}{null}\n", field.name, field.field_type)
    };
    fields.iter().map(line).collect()
}

/// What a body says beside its row, and the row.
pub(crate) fn event_of<'a>(plan: &'a ValuePlan, body: &'a [u8]) -> (Head, Option<Row<'a>>) {
    let (head, row) = (plan.check(body).unwrap(), plan.row(body).unwrap());
    assert_eq!(head.has_row, row.is_some());
    (head, row)
}

#[test]
fn an_update_yields_the_new_row_and_when_it_was_committed() {
    let plan = ValuePlan::compile(ENVELOPE).unwrap();
    let body = update();
    let (head, row) = event_of(&plan, &body);
    assert_eq!(head.op, Op::Update);
    assert_eq!(head.commit_time_us, 1_700_000_000_123_456);

    let row = row.unwrap();
    let at = |name: &str| {
        let index = plan
            .row_type()
            .fields
            .iter()
            .position(|field| field.name == name)
            .unwrap();
        row[index].clone()
    };
    let decimal = Datum::VariableDecimal {
        scale: -3,
        unscaled: &[0x80],
    };
    assert_eq!(at("id"), Datum::Int(-42));
    assert_eq!(at("small"), Datum::Int(-300));
    assert_eq!(at("active"), Datum::Bool(true));
    assert_eq!(at("ratio"), Datum::Float(0.5));
    assert_eq!(at("weight"), Datum::Double(0.25));
    assert_eq!(at("title"), Datum::Str("Größe"));
    assert_eq!(at("photo"), Datum::Bytes(&[0, 255]));
    assert_eq!(at("price"), Datum::Bytes(&[0x30, 0x39]));
    assert_eq!(at("exact"), decimal);
    assert_eq!(at("exact2"), decimal);
    assert_eq!(at("made_us"), Datum::Int(i64::MAX));
    assert_eq!(at("made_ns"), Datum::Int(i64::MIN));
    assert_eq!(at("tags"), Datum::Array(vec![Datum::Str("x"), Datum::Null]));
    let inner = Datum::Array(vec![Datum::Int(7), Datum::Null]);
    assert_eq!(at("grid"), Datum::Array(vec![inner, Datum::Null]));
    let point = vec![
        Datum::Double(1.5),
        Datum::Double(-2.5),
        Datum::Bytes(&[1, 2]),
        Datum::Null,
    ];
    assert_eq!(at("place"), Datum::Struct(point));
    let entry = Datum::Struct(vec![Datum::Str("k"), Datum::Str("v")]);
    assert_eq!(at("labels"), Datum::Array(vec![entry]));
    assert_eq!(at("Weird Näme-$"), Datum::Str("w"));
    assert_eq!(at("Re named"), Datum::Int(5));
}

#[test]
fn strings_are_borrowed_from_the_body() {
    let plan = ValuePlan::compile(ENVELOPE).unwrap();
    let body = update();
    let row = event_of(&plan, &body).1.unwrap();
    let Some(Datum::Str(title)) = row
        .iter()
        .find(|datum| matches!(datum, Datum::Str("Größe")))
    else {
        panic!("no title");
    };
    assert!(body.as_ptr_range().contains(&title.as_ptr()));
}

#[test]
fn a_delete_a_truncate_and_an_unset_row_have_no_after() {
    let plan = ValuePlan::compile(ENVELOPE).unwrap();
    let schema = physical(ENVELOPE);
    let body = encode(&schema, event(some(product()), null(), "d"));
    let (deleted, row) = event_of(&plan, &body);
    assert_eq!((deleted.op, row), (Op::Delete, None));
    let body = encode(&schema, event(null(), null(), "t"));
    let (truncated, row) = event_of(&plan, &body);
    assert_eq!((truncated.op, row), (Op::Truncate, None));
}

fn foreign_row(either: Value) -> Value {
    record(vec![
        ("id", Value::Int(1)),
        ("day", branch(1, Value::Null)),
        ("at_ms", Value::Int(2)),
        ("at_us", Value::Long(3)),
        ("ts_ms", Value::Long(4)),
        ("ts_us", Value::Long(5)),
        ("local_ms", Value::Long(6)),
        ("local_us", Value::Long(7)),
        ("uid", text("u")),
        ("amount", Value::Bytes(vec![1])),
        ("fixed_amount", Value::Fixed(4, vec![0, 0, 0, 9])),
        ("digest", Value::Fixed(2, vec![8, 9])),
        ("colour", Value::Enum(1, "GREEN".to_owned())),
        ("either", either),
        ("day_connect", Value::Int(10)),
        ("unknown_scale", Value::Bytes(vec![])),
        ("not_a_date", text("x")),
    ])
}

fn foreign_event(either: Value, source: Value) -> Vec<u8> {
    let pair = |left| record(vec![("left", Value::Boolean(left))]);
    let value = record(vec![
        ("op", Value::Enum(0, "c".to_owned())),
        (
            "trace",
            Value::Map([("a".to_owned(), Value::Long(1))].into()),
        ),
        ("after", branch(0, foreign_row(either))),
        ("history", Value::Array(vec![pair(true), pair(false)])),
        ("source", source),
        ("before", null()),
    ]);
    encode(&physical(FOREIGN), value)
}

#[test]
fn a_foreign_schema_is_read_by_names_and_logical_types() {
    let plan = ValuePlan::compile(FOREIGN).unwrap();
    assert_golden("foreign.types.txt", &types_as_text(&plan.row_type().fields));

    let origin = record(vec![
        ("table", branch(0, text("stock"))),
        ("pos", Value::Double(0.0)),
        ("schema", text("legacy")),
        ("ts_ms", Value::Long(12)),
    ]);
    let body = foreign_event(branch(2, text("two")), some(origin));
    let (head, row) = event_of(&plan, &body);
    assert_eq!((head.op, head.commit_time_us), (Op::Create, 12_000));
    let row = row.unwrap();
    assert_eq!(row[1], Datum::Null);
    assert_eq!(row[11], Datum::Bytes(&[8, 9]));
    assert_eq!(row[12], Datum::Str("GREEN"));
    assert_eq!(
        row[13],
        Datum::Struct(vec![Datum::Null, Datum::Str("two"), Datum::Null])
    );

    let pair = record(vec![("left", Value::Boolean(true))]);
    let expected = Datum::Struct(vec![Datum::Bool(true)]);
    let body = foreign_event(branch(3, pair), null());
    let row = event_of(&plan, &body).1.unwrap();
    assert_eq!(
        row[13],
        Datum::Struct(vec![Datum::Null, Datum::Null, expected])
    );
    let body = foreign_event(branch(1, Value::Null), null());
    assert_eq!(event_of(&plan, &body).1.unwrap()[13], Datum::Null);
}

#[test]
fn keys_of_every_kind() {
    let table = r#"{"type":"record","name":"Key","namespace":"shop.catalog.product","fields":[
        {"name":"id","type":"long"},{"name":"the_u0020part","type":{"type":"int","connect.type":"int16"}}],
        "connect.name":"shop.catalog.product.Key"}"#;
    let plan = KeyPlan::compile(table).unwrap();
    assert!(!plan.is_truncate());
    let names: Vec<_> = plan
        .row_type()
        .fields
        .iter()
        .map(|field| field.name.as_str())
        .collect();
    assert_eq!(names, ["id", "the part"]);
    assert_eq!(
        plan.decode(&[0x03, 0x04]).unwrap(),
        [Datum::Int(-2), Datum::Int(2)]
    );

    let truncate = r#"{"type":"record","name":"TruncateKey","namespace":"tributary","fields":[
        {"name":"source","type":"string"},{"name":"schema","type":"string"},{"name":"table","type":"string"}]}"#;
    let plan = KeyPlan::compile(truncate).unwrap();
    assert!(plan.is_truncate());
    let key = plan.decode(b"\x02a\x02b\x02c").unwrap();
    assert_eq!(key, [Datum::Str("a"), Datum::Str("b"), Datum::Str("c")]);

    let primitive = [
        (
            r#""string""#,
            &b"\x02k"[..],
            FieldType::String,
            Datum::Str("k"),
        ),
        (
            r#"{"type":"int","connect.type":"int8"}"#,
            &b"\x01"[..],
            FieldType::Int32,
            Datum::Int(-1),
        ),
        (
            r#"["null","long"]"#,
            &b"\x00"[..],
            FieldType::Int64,
            Datum::Null,
        ),
    ];
    for (schema, body, field_type, datum) in primitive {
        let plan = KeyPlan::compile(schema).unwrap();
        assert_eq!(plan.row_type().full_name, "");
        assert_eq!(plan.row_type().fields[0].name, "key");
        assert_eq!(plan.row_type().fields[0].field_type, field_type);
        assert_eq!(plan.decode(body).unwrap(), [datum]);
    }
}
