//! What the encode plans write, read back: the text that Postgres sent comes out again.

use tributary_schemas::avro::{key_schema, truncate_key_schema, value_schema};
use tributary_schemas::decode::{KeyPlan, ValuePlan};
use tributary_schemas::encode::{Change, EncodePlan, Snapshot, SourceIdentity};
use tributary_schemas::record::{Datum, Op};
use tributary_schemas::table::{Attribute, Cell, Column, ColumnType, Table};
use tributary_schemas::{Lsn, render};

use super::envelope::event_of;

const TOPIC: &str = "shop.Weird_u0020Schema.t-1";

/// A column's type, its text from Postgres, and the texts of both sinks.
type Case = (ColumnType, &'static str, &'static str, &'static str);

fn array(item: ColumnType) -> ColumnType {
    ColumnType::Array(Box::new(item))
}

fn numbers() -> Vec<Case> {
    use ColumnType as T;
    vec![
        (T::Bool, "t", "t", "true"),
        (T::Int2, "-32768", "-32768", "-32768"),
        (T::Int4, "2147483647", "2147483647", "2147483647"),
        (
            T::Int8,
            "-9223372036854775808",
            "-9223372036854775808",
            "-9223372036854775808",
        ),
        (T::Oid, "4294967295", "4294967295", "4294967295"),
        (T::Float4, "1e-45", "1e-45", "1e-45"),
        (T::Float8, "-Infinity", "-Infinity", "\"-Infinity\""),
    ]
}

fn decimals() -> Vec<Case> {
    use ColumnType as T;
    vec![
        (
            T::Numeric {
                precision: 10,
                scale: 2,
            },
            "-0.05",
            "-0.05",
            "-0.05",
        ),
        (
            T::Numeric {
                precision: 3,
                scale: -2,
            },
            "-12300",
            "-12300",
            "-12300",
        ),
        (T::VariableNumeric, "1.50", "1.50", "1.50"),
        (T::VariableNumeric, "NaN", "NaN", "\"NaN\""),
        (T::VariableNumeric, "Infinity", "Infinity", "\"Infinity\""),
        (
            T::VariableNumeric,
            "-Infinity",
            "-Infinity",
            "\"-Infinity\"",
        ),
    ]
}

fn texts_and_bytes() -> Vec<Case> {
    use ColumnType as T;
    let labels = || T::Enum {
        labels: vec!["new".to_owned(), "sold".to_owned()],
    };
    vec![
        (T::Text, "a \"b\"\n", "a \"b\"\n", "\"a \\\"b\\\"\\n\""),
        (
            T::Uuid,
            "0b5ea1c2-0000-4000-8000-000000000001",
            "0b5ea1c2-0000-4000-8000-000000000001",
            "\"0b5ea1c2-0000-4000-8000-000000000001\"",
        ),
        (T::Json, "{\"a\": 1}", "{\"a\": 1}", "\"{\\\"a\\\": 1}\""),
        (T::Xml, "<a/>", "<a/>", "\"<a/>\""),
        (labels(), "sold", "sold", "\"sold\""),
        (T::Bytea, "\\x00ff", "\\x00ff", "\"AP8=\""),
        (
            T::TextForm {
                type_name: "inet".to_owned(),
            },
            "10.0.0.1/8",
            "10.0.0.1/8",
            "\"10.0.0.1/8\"",
        ),
    ]
}

fn annotated() -> Vec<Case> {
    use ColumnType as T;
    let varbit = || T::VarBit { length: None };
    vec![
        (T::Money, "-$1,234.50", "-1234.50", "-1234.50"),
        (T::Bit { length: 1 }, "1", "t", "true"),
        (
            T::Bit { length: 10 },
            "0000000101",
            "0000000101",
            "\"0000000101\"",
        ),
        (varbit(), "00101", "00101", "\"00101\""),
        (varbit(), "", "", "\"\""),
        (array(varbit()), "{01,1}", "{01,1}", "[\"01\",\"1\"]"),
        (
            T::Hstore,
            r#""a"=>NULL"#,
            r#"{"a":null}"#,
            r#""{\"a\":null}""#,
        ),
        (T::Ltree, "a.b", "a.b", "\"a.b\""),
        (T::TsVector, "'cat':3A", "'cat':3A", "\"'cat':3A\""),
        (
            T::IntervalMicros,
            "1 day -00:00:01",
            "23:59:59.000000",
            "86399000000",
        ),
    ]
}

fn dates_and_times() -> Vec<Case> {
    use ColumnType as T;
    vec![
        (T::Date, "2024-02-29", "2024-02-29", "\"2024-02-29\""),
        (T::Date, "0044-03-15 BC", "0044-03-15 BC", "\"-0043-03-15\""),
        (T::Date, "infinity", "infinity", "\"infinity\""),
        (T::Date, "-infinity", "-infinity", "\"-infinity\""),
        (
            T::Time { precision: 6 },
            "24:00:00",
            "24:00:00.000000",
            "\"24:00:00.000000\"",
        ),
        (
            T::Time { precision: 3 },
            "12:34:56.7",
            "12:34:56.700",
            "\"12:34:56.700\"",
        ),
    ]
}

fn timestamps() -> Vec<Case> {
    use ColumnType as T;
    vec![
        (
            T::Timestamp { precision: 6 },
            "2020-01-01 00:00:00.123456",
            "2020-01-01 00:00:00.123456",
            "\"2020-01-01T00:00:00.123456\"",
        ),
        (
            T::Timestamp { precision: 6 },
            "infinity",
            "infinity",
            "\"infinity\"",
        ),
        (
            T::Timestamp { precision: 6 },
            "-infinity",
            "-infinity",
            "\"-infinity\"",
        ),
        (
            T::Timestamp { precision: 3 },
            "0001-12-31 23:59:59.9 BC",
            "0001-12-31 23:59:59.900 BC",
            "\"0000-12-31T23:59:59.900\"",
        ),
        (
            T::Timestamp { precision: 3 },
            "infinity",
            "infinity",
            "\"infinity\"",
        ),
        (
            T::Timestamp { precision: 3 },
            "-infinity",
            "-infinity",
            "\"-infinity\"",
        ),
    ]
}

fn zoned() -> Vec<Case> {
    use ColumnType as T;
    vec![
        (
            T::TimestampTz,
            "2020-01-01 02:00:00+02",
            "2020-01-01T00:00:00.000000Z",
            "\"2020-01-01T00:00:00.000000Z\"",
        ),
        (
            T::TimestampTz,
            "0044-03-15 01:02:03+00 BC",
            "0044-03-15T01:02:03.000000Z BC",
            "\"-0043-03-15T01:02:03.000000Z\"",
        ),
        (
            T::TimestampTz,
            "12345-01-01 00:00:00+00",
            "12345-01-01T00:00:00.000000Z",
            "\"+12345-01-01T00:00:00.000000Z\"",
        ),
        (T::TimestampTz, "-infinity", "-infinity", "\"-infinity\""),
        (
            T::TimeTz,
            "12:00:00.5-08",
            "12:00:00.5-08:00",
            "\"12:00:00.5-08:00\"",
        ),
    ]
}

fn arrays() -> Vec<Case> {
    use ColumnType as T;
    vec![
        (
            array(T::VariableNumeric),
            "{1.50,NaN,NULL}",
            "{1.50,NaN,NULL}",
            "[1.50,\"NaN\",null]",
        ),
        (
            array(T::Text),
            "{\"\",\"NULL\",NULL,\"a,b\"}",
            "{\"\",\"NULL\",NULL,\"a,b\"}",
            "[\"\",\"NULL\",null,\"a,b\"]",
        ),
        (
            array(T::Date),
            "{infinity,\"0044-03-15 BC\"}",
            "{infinity,\"0044-03-15 BC\"}",
            "[\"infinity\",\"-0043-03-15\"]",
        ),
    ]
}

fn structured() -> Vec<Case> {
    use ColumnType as T;
    let pair = || T::Composite {
        type_name: "pair".to_owned(),
        attributes: [("n", T::Int4), ("the text", array(T::Text))]
            .map(|(name, column_type)| Attribute {
                name: name.to_owned(),
                column_type,
            })
            .to_vec(),
    };
    let geometry = "0101000020E6100000000000000000F03F0000000000000040";
    let geometry_json = r#"{"wkb":"AQEAACDmEAAAAAAAAAAA8D8AAAAAAAAAQA==","srid":4326}"#;
    vec![
        (
            pair(),
            r#"(1,"{a,""b \\""""}")"#,
            r#"{"n":1,"the text":["a","b \""]}"#,
            r#"{"n":1,"the text":["a","b \""]}"#,
        ),
        (
            array(pair()),
            r#"{"(,)",NULL}"#,
            r#"{"{\"n\":null,\"the text\":null}",NULL}"#,
            r#"[{"n":null,"the text":null},null]"#,
        ),
        (
            array(array(T::Int4)),
            "{{1,NULL},{3,4}}",
            "{{1,NULL},{3,4}}",
            "[[1,null],[3,4]]",
        ),
        (
            T::Point,
            "(1.5,-Infinity)",
            "(1.5,-Infinity)",
            r#"{"x":1.5,"y":"-Infinity","wkb":"AQEAAAAAAAAAAAD4PwAAAAAAAPD/","srid":null}"#,
        ),
        (
            array(T::Point),
            r#"{"(1,2)"}"#,
            r#"{"(1.0,2.0)"}"#,
            r#"[{"x":1.0,"y":2.0,"wkb":"AQEAAAAAAAAAAADwPwAAAAAAAABA","srid":null}]"#,
        ),
        (T::Geometry, geometry, geometry, geometry_json),
        (T::Geography, geometry, geometry, geometry_json),
        (T::Vector, "[0.1,2]", "{0.1,2.0}", "[0.1,2.0]"),
        (T::HalfVector, "[0.1,2]", "{0.1,2.0}", "[0.1,2.0]"),
    ]
}

fn every_case() -> Vec<Case> {
    [
        numbers(),
        decimals(),
        texts_and_bytes(),
        annotated(),
        dates_and_times(),
        timestamps(),
        zoned(),
        arrays(),
        structured(),
    ]
    .concat()
}

/// A table with the key ("Part \"1\"" int8) and a column per case.
fn table(cases: &[Case]) -> Table {
    let key = Column {
        name: "Part \"1\"".to_owned(),
        attnum: 1,
        column_type: ColumnType::Int8,
        key_position: Some(0),
    };
    let column = |(index, case): (usize, &Case)| Column {
        name: format!("c {index}"),
        attnum: index as i16 + 2,
        column_type: case.0.clone(),
        key_position: None,
    };
    let columns = std::iter::once(key)
        .chain(cases.iter().enumerate().map(column))
        .collect();
    Table {
        oid: 1,
        schema: "Weird Schema".to_owned(),
        name: "t-1".to_owned(),
        columns,
    }
}

fn identity() -> SourceIdentity {
    SourceIdentity {
        name: "shop".to_owned(),
        db: "store".to_owned(),
        region: Some("eu".to_owned()),
        version: "0".to_owned(),
        connector: "postgresql".to_owned(),
    }
}

fn change<'a>(op: Op, before: Option<&'a [Cell<'a>]>, after: Option<&'a [Cell<'a>]>) -> Change<'a> {
    Change {
        op,
        before,
        after,
        commit_time_us: 1_700_000_000_123_456,
        snapshot: Snapshot::False,
        sequence: (None, Lsn(7)),
        tx_id: Some(9),
        lsn: Some(Lsn(7)),
        transaction: None,
        handled_at_ns: 1,
    }
}

#[test]
fn every_value_comes_out_as_it_went_in() {
    let cases = every_case();
    let table = table(&cases);
    let encode = EncodePlan::compile(&table, &identity());
    let decode = ValuePlan::compile(&value_schema(TOPIC, &table)).unwrap();
    let row: Vec<_> = std::iter::once("-7")
        .chain(cases.iter().map(|case| case.1))
        .map(|text| Cell::Text(text.as_bytes()))
        .collect();
    let nulls: Vec<_> = std::iter::once(row[0])
        .chain(cases.iter().map(|_| Cell::Null))
        .collect();
    let mut body = Vec::new();
    encode
        .encode_envelope(&change(Op::Update, Some(&nulls), Some(&row)), &mut body)
        .unwrap();

    let (head, after) = event_of(&decode, &body);
    assert_eq!(
        (head.op, head.commit_time_us),
        (Op::Update, 1_700_000_000_123_456)
    );
    let after = after.unwrap();

    let mut body_of_nulls = Vec::new();
    encode
        .encode_envelope(&change(Op::Create, None, Some(&nulls)), &mut body_of_nulls)
        .unwrap();
    let nothing = event_of(&decode, &body_of_nulls).1.unwrap();
    assert_eq!(nothing[0], Datum::Int(-7));
    assert!(nothing[1..].iter().all(|datum| *datum == Datum::Null));

    assert_eq!(after[0], Datum::Int(-7));
    assert_eq!(decode.row_type().fields[0].name, "Part \"1\"");
    for (index, (column_type, _, postgres, json)) in cases.iter().enumerate() {
        let (field, datum) = (&decode.row_type().fields[index + 1], &after[index + 1]);
        assert_eq!(field.name, format!("c {index}"));
        assert!(field.nullable);
        let (mut text, mut document) = (Vec::new(), Vec::new());
        render::postgres_text(&field.field_type, datum, &mut text).unwrap();
        render::json(&field.field_type, datum, &mut document).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            *postgres,
            "{column_type:?}"
        );
        assert_eq!(
            String::from_utf8(document).unwrap(),
            *json,
            "{column_type:?}"
        );
    }
}

#[test]
fn keys_and_truncates_are_read_back() {
    let table = table(&[]);
    let encode = EncodePlan::compile(&table, &identity());
    let plan = KeyPlan::compile(&key_schema(TOPIC, &table).unwrap()).unwrap();
    let mut body = Vec::new();
    encode.encode_key(&[Cell::Text(b"42")], &mut body).unwrap();
    assert!(!plan.is_truncate());
    assert_eq!(plan.row_type().fields[0].name, "Part \"1\"");
    assert_eq!(plan.decode(&body).unwrap(), [Datum::Int(42)]);

    let plan = KeyPlan::compile(&truncate_key_schema(TOPIC)).unwrap();
    let mut body = Vec::new();
    encode.encode_truncate_key(&mut body);
    assert!(plan.is_truncate());
    let key = [
        Datum::Str("shop"),
        Datum::Str("Weird Schema"),
        Datum::Str("t-1"),
    ];
    assert_eq!(plan.decode(&body).unwrap(), key);

    let plan = ValuePlan::compile(&value_schema(TOPIC, &table)).unwrap();
    let mut body = Vec::new();
    encode
        .encode_envelope(&change(Op::Truncate, None, None), &mut body)
        .unwrap();
    let (head, after) = event_of(&plan, &body);
    assert_eq!((head.op, after), (Op::Truncate, None));
}
