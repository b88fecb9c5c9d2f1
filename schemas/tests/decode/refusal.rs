//! Schemas and bodies that are refused, and how.

use tributary_schemas::decode::{KeyPlan, Problem, SchemaError, ValuePlan};

use super::envelope::{ENVELOPE, update};

const FLATTENED: &str = include_str!("../golden-decode/flattened.avsc");

#[test]
fn a_flattened_value_is_no_envelope() {
    let message = ValuePlan::compile(FLATTENED).unwrap_err().to_string();
    assert!(
        message.contains("'shop.catalog.product.Value' is not a Debezium change event envelope"),
        "{message}"
    );
    assert!(message.contains("ExtractNewRecordState"), "{message}");
}

#[test]
fn other_values_are_no_envelope_either() {
    let row = r#"{"type":"record","name":"R","fields":[]}"#;
    let other = r#"{"type":"record","name":"S","fields":[{"name":"a","type":"int"}]}"#;
    let with = |fields: &str| format!(r#"{{"type":"record","name":"E","fields":[{fields}]}}"#);
    let schemas = [
        r#""string""#.to_owned(),
        with(r#"{"name":"op","type":"string"},{"name":"after","type":"string"}"#),
        with(&format!(
            r#"{{"name":"op","type":"int"}},{{"name":"after","type":{row}}}"#
        )),
        with(&format!(
            r#"{{"name":"op","type":"string"}},{{"name":"after","type":{row}}},{{"name":"before","type":{other}}}"#
        )),
        with(&format!(
            r#"{{"name":"op","type":"string"}},{{"name":"after","type":{row}}},{{"name":"source","type":"int"}}"#
        )),
    ];
    for schema in schemas {
        let error = ValuePlan::compile(&schema).unwrap_err();
        assert!(
            matches!(error, SchemaError::NotAnEnvelope { .. }),
            "{schema}: {error}"
        );
    }
}

#[test]
fn what_is_no_schema_is_refused_with_its_place() {
    let cases = [
        ("{", "not readable JSON"),
        ("1", "at 'the top'"),
        ("{}", "needs a 'type'"),
        ("[]", "needs branches"),
        (r#"["null","null"]"#, "one at most is null"),
        (r#"["int",["null"]]"#, "directly in a union"),
        (r#""who""#, "to the type 'who', which it does not define"),
        (r#"{"type":"record","name":"R"}"#, "needs its 'fields'"),
        (
            r#"{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"array"}}]}"#,
            "at 'a': an array needs its 'items'",
        ),
        (r#"{"type":"record","fields":[]}"#, "needs a 'name'"),
        (r#"{"type":"enum","name":"E"}"#, "needs its 'symbols'"),
        (
            r#"{"type":"fixed","name":"F","size":-1}"#,
            "needs its 'size'",
        ),
        (
            r#"{"type":"record","name":"R","namespace":"n","fields":[{"name":"next","type":["null","R"]}]}"#,
            "the type 'n.R' contains itself at 'next'",
        ),
        (
            r#"[{"type":"fixed","name":"F","size":1},{"type":"fixed","name":"F","size":2}]"#,
            "'F' is defined twice",
        ),
        (
            r#"{"type":"bytes","connect.name":"org.apache.kafka.connect.data.Decimal"}"#,
            "needs its scale",
        ),
    ];
    for (schema, expected) in cases {
        let message = KeyPlan::compile(schema).unwrap_err().to_string();
        assert!(message.contains(expected), "{schema}: {message}");
    }
}

/// Each record uses the one before it twice: 2^n types from n lines.
#[test]
fn references_that_explode_are_refused() {
    let mut fields =
        vec![r#"{"name":"f0","type":{"type":"record","name":"R0","fields":[]}}"#.to_owned()];
    for n in 1..40 {
        let before = n - 1;
        fields.push(format!(
            r#"{{"name":"f{n}","type":{{"type":"record","name":"R{n}","fields":[
                {{"name":"a","type":"R{before}"}},{{"name":"b","type":"R{before}"}}]}}}}"#
        ));
    }
    let schema = format!(
        r#"{{"type":"record","name":"Top","fields":[{}]}}"#,
        fields.join(",")
    );
    assert!(matches!(
        KeyPlan::compile(&schema),
        Err(SchemaError::TooLarge { .. })
    ));
}

#[test]
fn deep_nesting_is_refused() {
    let mut fields =
        vec![r#"{"name":"f0","type":{"type":"record","name":"R0","fields":[]}}"#.to_owned()];
    for n in 1..40 {
        let before = n - 1;
        fields.push(format!(
            r#"{{"name":"f{n}","type":{{"type":"record","name":"R{n}","fields":[{{"name":"a","type":"R{before}"}}]}}}}"#
        ));
    }
    let schema = format!(
        r#"{{"type":"record","name":"Top","fields":[{}]}}"#,
        fields.join(",")
    );
    assert!(matches!(
        KeyPlan::compile(&schema),
        Err(SchemaError::TooLarge { .. })
    ));
}

#[test]
fn an_error_says_what_and_where_and_shows_no_value() {
    let schema = r#"{"type":"record","name":"Key","fields":[{"name":"id","type":"long"},
        {"name":"parts","type":{"type":"array","items":{"type":"record","name":"P","fields":[{"name":"text","type":"string"}]}}}]}"#;
    let plan = KeyPlan::compile(schema).unwrap();
    let error = plan.decode(b"\x02\x04\x02s\x04\xFF\xFE\x00").unwrap_err();
    assert_eq!(
        (error.path(), error.offset(), error.problem()),
        ("parts[1].text", 7, Problem::NotUtf8)
    );
    assert_eq!(
        error.to_string(),
        "the body does not fit its schema at parts[1].text, byte 7: a string is not UTF-8"
    );
    let error = plan.decode(b"\x02\x00\x00").unwrap_err();
    assert_eq!(
        (error.path(), error.offset(), error.problem()),
        ("", 2, Problem::TrailingBytes { count: 1 })
    );
}

#[test]
fn every_malformed_piece_has_its_problem() {
    let cases: [(&str, &[u8], Problem); 12] = [
        (r#""boolean""#, b"\x02", Problem::NotABoolean),
        (r#""int""#, b"\x80\x80\x80\x80\x10", Problem::IntTooLong),
        (
            r#""long""#,
            b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02",
            Problem::LongTooLong,
        ),
        (r#""string""#, b"\x01", Problem::NegativeLength),
        (r#""string""#, b"\x06ab", Problem::EndOfBody { missing: 1 }),
        (
            r#"["null","int"]"#,
            b"\x04",
            Problem::NoSuchBranch { branches: 2 },
        ),
        (
            r#"["null","int"]"#,
            b"\x01",
            Problem::NoSuchBranch { branches: 2 },
        ),
        (
            r#"["int","string","null"]"#,
            b"\x06",
            Problem::NoSuchBranch { branches: 3 },
        ),
        (
            r#"{"type":"enum","name":"E","symbols":["A"]}"#,
            b"\x02",
            Problem::NoSuchSymbol { symbols: 1 },
        ),
        (
            r#"{"type":"array","items":"int"}"#,
            b"\x01\x04\x02\x00",
            Problem::BlockSize,
        ),
        (
            r#"{"type":"array","items":"int"}"#,
            b"\x80\x80\x80\x10\x02",
            Problem::TooManyItems,
        ),
        (
            r#"{"type":"map","values":"int"}"#,
            b"\x02\x02k",
            Problem::EndOfBody { missing: 1 },
        ),
    ];
    for (schema, body, problem) in cases {
        let plan = KeyPlan::compile(schema).unwrap();
        assert_eq!(
            plan.decode(body).unwrap_err().problem(),
            problem,
            "{schema}"
        );
    }
}

/// An array of 2^60 items that take no byte must neither hang nor allocate.
#[test]
fn items_without_bytes_are_bounded() {
    let count = b"\x80\x80\x80\x80\x80\x80\x80\x80\x20\x00";
    for item in [
        r#""null""#,
        r#"{"type":"record","name":"R","fields":[]}"#,
        r#"{"type":"fixed","name":"F","size":0}"#,
    ] {
        let plan = KeyPlan::compile(&format!(r#"{{"type":"array","items":{item}}}"#)).unwrap();
        assert_eq!(
            plan.decode(count).unwrap_err().problem(),
            Problem::TooManyItems
        );
        assert_eq!(plan.decode(b"\x06\x00").unwrap().len(), 1);
        // Many blocks, each below the bound.
        let blocks = b"\xC0\xBB\x78".repeat(40);
        assert_eq!(
            plan.decode(&blocks).unwrap_err().problem(),
            Problem::TooManyItems
        );
    }
}

#[test]
fn an_unknown_op_and_a_missing_row_are_errors() {
    let plan = ValuePlan::compile(ENVELOPE).unwrap();
    let mut body = update();
    let op = body
        .windows(2)
        .rposition(|bytes| bytes == b"\x02u")
        .unwrap();
    body[op + 1] = b'x';
    let error = plan.check(&body).unwrap_err();
    assert_eq!(
        (error.path(), error.offset(), error.problem()),
        ("op", op, Problem::UnknownOp)
    );

    let minimal = r#"{"type":"record","name":"E","fields":[{"name":"op","type":"string"},
        {"name":"after","type":["null",{"type":"record","name":"V","fields":[]}]}]}"#;
    let plan = ValuePlan::compile(minimal).unwrap();
    assert_eq!(
        plan.check(b"\x02c\x00").unwrap_err().problem(),
        Problem::NoRow
    );
    assert!(plan.check(b"\x02c\x02").is_ok());
}
