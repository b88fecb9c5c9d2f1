//! Every field type, compared by SQL with the value as Postgres itself reads it.

use tributary_engine::Rejection;
use tributary_schemas::record::{Datum, FieldType};

use super::fixture::{Fixture, TestBatch, field, open, record, rejection};

/// A field, its value, and the SQL expression that it must equal.
type Case = (FieldType, Datum<'static>, &'static str);

fn array(item: FieldType) -> FieldType {
    FieldType::Array(Box::new(field("item", item)))
}

fn numbers() -> Vec<Case> {
    let decimal = |precision, scale| FieldType::Decimal { precision, scale };
    vec![
        (FieldType::Bool, Datum::Bool(true), "true"),
        (FieldType::Bool, Datum::Bool(false), "false"),
        (
            FieldType::Int32,
            Datum::Int(-2_147_483_648),
            "'-2147483648'::integer",
        ),
        (
            FieldType::Int64,
            Datum::Int(i64::MIN),
            "'-9223372036854775808'::bigint",
        ),
        (FieldType::Float32, Datum::Float(0.1), "0.1::real"),
        (FieldType::Float32, Datum::Float(f32::NAN), "'NaN'::real"),
        (
            FieldType::Float64,
            Datum::Double(0.1 + 0.2),
            "0.30000000000000004::double precision",
        ),
        (
            FieldType::Float64,
            Datum::Double(f64::NEG_INFINITY),
            "'-Infinity'::double precision",
        ),
        (
            FieldType::Float64,
            Datum::Double(f64::MIN_POSITIVE),
            "2.2250738585072014e-308::double precision",
        ),
        (
            decimal(Some(10), 2),
            Datum::Bytes(&[0xFF]),
            "(-0.01)::numeric(10,2)",
        ),
        (
            decimal(Some(38), 0),
            Datum::Bytes(&[0; 3]),
            "0::numeric(38,0)",
        ),
        (
            decimal(None, 3),
            Datum::Bytes(&[0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
            "2361183241434822606.847::numeric",
        ),
        (
            FieldType::VariableDecimal,
            Datum::VariableDecimal {
                scale: 5,
                unscaled: &[0x30, 0x39],
            },
            "0.12345::numeric",
        ),
    ]
}

fn dates_and_times() -> Vec<Case> {
    vec![
        (FieldType::Date, Datum::Int(19_782), "'2024-02-29'::date"),
        (
            FieldType::Date,
            Datum::Int(-719_163),
            "'0001-12-31 BC'::date",
        ),
        (
            FieldType::Date,
            Datum::Int(3_000_000),
            "'10183-09-21'::date",
        ),
        (
            FieldType::TimeMillis,
            Datum::Int(86_399_999),
            "'23:59:59.999'::time",
        ),
        (
            FieldType::TimeMicros,
            Datum::Int(86_400_000_000),
            "'24:00:00'::time",
        ),
        (
            FieldType::TimeNanos,
            Datum::Int(1_000),
            "'00:00:00.000001'::time",
        ),
        (
            FieldType::ZonedTime,
            Datum::Str("12:34:56.123456+05:30"),
            "'12:34:56.123456+05:30'::timetz",
        ),
    ]
}

fn timestamps() -> Vec<Case> {
    vec![
        (
            FieldType::TimestampMillis,
            Datum::Int(-1),
            "'1969-12-31 23:59:59.999'::timestamp",
        ),
        (
            FieldType::TimestampMicros,
            Datum::Int(1_709_210_096_123_456),
            "'2024-02-29 12:34:56.123456'::timestamp",
        ),
        (
            FieldType::TimestampMicros,
            Datum::Int(9_223_372_036_825_200_000),
            "'infinity'::timestamp",
        ),
        (
            FieldType::TimestampNanos,
            Datum::Int(1_709_210_096_123_456_000),
            "'2024-02-29 12:34:56.123456'::timestamp",
        ),
        (
            FieldType::ZonedTimestamp,
            Datum::Str("2024-02-29T12:34:56.123456Z"),
            "'2024-02-29 12:34:56.123456+00'::timestamptz",
        ),
    ]
}

fn intervals() -> Vec<Case> {
    vec![
        (
            FieldType::Interval,
            Datum::Str("P1Y2M3DT4H5M6.789S"),
            "'1 year 2 mons 3 days 04:05:06.789'::interval",
        ),
        (
            FieldType::Interval,
            Datum::Str("P-1Y-2M3DT-4H-5M-6.789S"),
            "'-1 year -2 mons 3 days -04:05:06.789'::interval",
        ),
        (
            FieldType::MicroDuration,
            Datum::Int(-90_000_001),
            "'-00:01:30.000001'::interval",
        ),
    ]
}

fn texts() -> Vec<Case> {
    vec![
        (
            FieldType::String,
            Datum::Str("tab\tnew\nline\rback\\slash\\N 'q' \"d\" ä🦀"),
            "E'tab\\tnew\\nline\\rback\\\\slash\\\\N ''q'' \"d\" ä🦀'",
        ),
        (FieldType::String, Datum::Str(""), "''::text"),
        (FieldType::String, Datum::Str("\\."), "E'\\\\.'::text"),
        (FieldType::String, Datum::Null, "NULL::text"),
        (FieldType::Enum, Datum::Str("small"), "'small'::text"),
        (
            FieldType::Bytes,
            Datum::Bytes(&[0, 1, 0x5C, 0xFF]),
            "'\\x00015cff'::bytea",
        ),
        (FieldType::Bytes, Datum::Bytes(&[]), "''::bytea"),
        (
            FieldType::Uuid,
            Datum::Str("6a1f3c52-8c1b-4b7e-9a53-0d7f7c1e2b3a"),
            "'6a1f3c52-8c1b-4b7e-9a53-0d7f7c1e2b3a'::uuid",
        ),
        (
            FieldType::Json,
            Datum::Str(r#"{"b": 1, "a": [1.0, "x\ty\\"], "b": 2}"#),
            r#"'{"b": 1, "a": [1.0, "x\ty\\"], "b": 2}'::json"#,
        ),
        (
            FieldType::Xml,
            Datum::Str("<a b=\"c\">&amp;</a>"),
            "'<a b=\"c\">&amp;</a>'::text",
        ),
        (
            FieldType::Bits {
                length: Some(10),
                counted: false,
            },
            Datum::Bytes(&[0b1000_0001, 0b10]),
            "B'1010000001'::bit varying",
        ),
        (
            FieldType::Bits {
                length: Some(10),
                counted: true,
            },
            Datum::Bytes(&[0b1, 0, 0]),
            "B'001'::bit varying",
        ),
        (FieldType::Ltree, Datum::Str("a.b"), "'a.b'::text"),
        (
            FieldType::TsVector,
            Datum::Str("'cat':3A"),
            "$$'cat':3A$$::text",
        ),
    ]
}

fn nested() -> Vec<Case> {
    let point = FieldType::Struct(tributary_schemas::record::RecordType {
        full_name: "io.debezium.data.geometry.Point".to_owned(),
        fields: vec![
            field("x", FieldType::Float64),
            field("y \"q\"", FieldType::String),
        ],
    });
    let at = Datum::Struct(vec![Datum::Double(1.5), Datum::Str("a\tb")]);
    vec![
        (
            array(FieldType::Int32),
            Datum::Array(vec![Datum::Int(1), Datum::Null, Datum::Int(-3)]),
            "'{1,NULL,-3}'::integer[]",
        ),
        (
            array(FieldType::String),
            Datum::Array(vec![
                Datum::Str("NULL"),
                Datum::Null,
                Datum::Str("a,{b}\"c\"\\d\n"),
                Datum::Str(""),
            ]),
            "ARRAY['NULL', NULL, E'a,{b}\"c\"\\\\d\\n', '']",
        ),
        (
            array(FieldType::String),
            Datum::Array(vec![]),
            "'{}'::text[]",
        ),
        (
            array(array(FieldType::Int64)),
            Datum::Array(vec![
                Datum::Array(vec![Datum::Int(1), Datum::Int(2)]),
                Datum::Array(vec![Datum::Int(3), Datum::Null]),
            ]),
            "'{{1,2},{3,NULL}}'::bigint[]",
        ),
        (
            array(FieldType::Bytes),
            Datum::Array(vec![Datum::Bytes(&[0, 0x5C])]),
            "ARRAY['\\x005c'::bytea]",
        ),
        (
            array(FieldType::TimestampMicros),
            Datum::Array(vec![Datum::Int(0)]),
            "ARRAY['1970-01-01'::timestamp]",
        ),
        (
            array(FieldType::Uuid),
            Datum::Array(vec![Datum::Null]),
            "ARRAY[NULL]::uuid[]",
        ),
        (
            point.clone(),
            at.clone(),
            r#"'{"x":1.5,"y \"q\"":"a\tb"}'::jsonb"#,
        ),
        (
            array(point),
            Datum::Array(vec![at]),
            r#"ARRAY['{"x":1.5,"y \"q\"":"a\tb"}'::jsonb]"#,
        ),
        (
            FieldType::Map(Box::new(field("value", FieldType::Int32))),
            Datum::Array(vec![Datum::Struct(vec![Datum::Str("k"), Datum::Int(7)])]),
            r#"'{"k":7}'::jsonb"#,
        ),
    ]
}

fn every_case() -> Vec<Case> {
    [
        numbers(),
        dates_and_times(),
        timestamps(),
        intervals(),
        texts(),
        nested(),
    ]
    .concat()
}

#[tokio::test]
async fn every_type_comes_out_as_it_went_in() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let cases = every_case();
    let key = record(&[("id", FieldType::Int32)]);
    let names: Vec<_> = (0..cases.len())
        .map(|number| format!("c{number}"))
        .collect();
    let fields: Vec<_> = names
        .iter()
        .zip(&cases)
        .map(|(name, case)| (name.as_str(), case.0.clone()))
        .collect();
    let value = record(&fields);
    let row = cases.iter().map(|case| case.1.clone()).collect();
    let (writer, _) = open(&warehouse, "all", 0).await;
    let batch = TestBatch::default().upsert(0, 1, (&key, vec![Datum::Int(1)]), (&value, row));
    writer.apply(&batch).await.unwrap();

    for (name, (field_type, _, expected)) in names.iter().zip(&cases) {
        let jsonb = if expected.ends_with("::jsonb") {
            "::jsonb"
        } else if expected.ends_with("::jsonb]") {
            "::jsonb[]"
        } else {
            ""
        };
        let query = format!(
            "SELECT coalesce({name}{jsonb}::text, 'NULL') || ' / ' || coalesce(({expected})::text, 'NULL') \
             FROM shop.\"all\" WHERE {name}{jsonb}::text IS DISTINCT FROM ({expected})::text"
        );
        assert_eq!(fixture.texts(&query).await, [""; 0], "{field_type:?}");
    }
}

#[tokio::test]
async fn every_type_can_be_a_key() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let cases = every_case();
    let usable = cases
        .into_iter()
        .filter(|(_, datum, _)| *datum != Datum::Null);
    for (number, (field_type, datum, _)) in usable.enumerate() {
        let name = format!("k{number}");
        let key = record(&[("id", field_type.clone())]);
        let (writer, _) = open(&warehouse, &name, 0).await;
        let row = || vec![datum.clone()];
        for (offset, seq) in [(0, 1), (1, 2)] {
            let batch = TestBatch::default().upsert(offset, seq, (&key, row()), (&key, row()));
            writer.apply(&batch).await.unwrap();
        }
        let count = format!("SELECT count(*) || ' ' || max(_tributary_seq) FROM shop.{name}");
        assert_eq!(fixture.texts(&count).await, ["1 2"], "{field_type:?}");
        writer
            .apply(&TestBatch::default().delete(2, 3, (&key, row())))
            .await
            .unwrap();
        assert_eq!(
            fixture
                .texts(&format!("SELECT count(*)::text FROM shop.{name}"))
                .await,
            ["0"],
            "{field_type:?}"
        );
    }
}

#[tokio::test]
async fn what_postgres_cannot_hold_is_rejected_and_never_changed() {
    let fixture = Fixture::new().await;
    let warehouse = fixture.warehouse();
    let key = record(&[("id", FieldType::Int32)]);
    let decimal = FieldType::Decimal {
        precision: Some(3),
        scale: 1,
    };
    for (number, (field_type, datum)) in [
        (FieldType::TimestampNanos, Datum::Int(1_001)),
        (FieldType::TimeNanos, Datum::Int(1)),
        (FieldType::TimestampMicros, Datum::Int(i64::MIN)),
        (FieldType::Date, Datum::Int(i64::from(i32::MAX - 1))),
        (FieldType::Uuid, Datum::Str("x")),
        (
            FieldType::ZonedTimestamp,
            Datum::Str("2024-02-30T00:00:00Z"),
        ),
        (decimal, Datum::Bytes(&[0x7F, 0xFF])),
    ]
    .into_iter()
    .enumerate()
    {
        let (writer, _) = open(&warehouse, &format!("t{number}"), 0).await;
        let value = record(&[("v", field_type.clone())]);
        let batch =
            TestBatch::default().upsert(5, 1, (&key, vec![Datum::Int(1)]), (&value, vec![datum]));
        let Rejection { offset, reason, .. } = rejection(writer.apply(&batch).await);
        assert_eq!(offset, 5);
        assert!(
            reason.starts_with("column 'v': "),
            "{field_type:?}: {reason}"
        );
    }
}
