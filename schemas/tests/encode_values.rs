//! Every type's values, its extremes among them: what apache-avro reads from what we wrote.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

#[path = "encode_values/annotated.rs"]
mod annotated;
mod oracle;
#[path = "encode_values/structured.rs"]
mod structured;

use oracle::tables::{array, mood, numeric, other, time, timestamp};
use oracle::{assert_refused, assert_written, written};
use tributary_schemas::table::ColumnType;

#[test]
fn booleans_and_integers() {
    assert_written(&ColumnType::Bool, &[("t", "true"), ("f", "false")]);
    assert_written(
        &ColumnType::Int2,
        &[("-32768", "-32768"), ("32767", "32767"), ("0", "0")],
    );
    assert_written(
        &ColumnType::Int4,
        &[("-2147483648", "-2147483648"), ("2147483647", "2147483647")],
    );
    let ends = [
        "-9223372036854775808",
        "9223372036854775807",
        "-1",
        "0",
        "7",
    ];
    assert_written(&ColumnType::Int8, &ends.map(|end| (end, end)));
    assert_written(&ColumnType::Oid, &[("4294967295", "4294967295")]);
    assert_refused(&ColumnType::Bool, "true", "boolean", "neither t nor f");
    assert_refused(&ColumnType::Int2, "32768", "smallint", "range");
    assert_refused(&ColumnType::Int4, "2147483648", "integer", "range");
    assert_refused(&ColumnType::Oid, "-1", "oid", "range");
    for text in [
        "",
        "-",
        "1.5",
        "0x1",
        "9223372036854775808",
        "-9223372036854775809",
        " 1",
        "+1",
    ] {
        assert_refused(
            &ColumnType::Int8,
            text,
            "bigint",
            "not an integer of 64 bits",
        );
    }
}

#[test]
fn floating_point() {
    let specials = [
        ("NaN", "NaN"),
        ("Infinity", "inf"),
        ("-Infinity", "-inf"),
        ("-0", "-0"),
        ("1.5", "1.5"),
    ];
    assert_written(&ColumnType::Float4, &specials);
    assert_written(&ColumnType::Float8, &specials);
    assert_written(
        &ColumnType::Float4,
        &[
            ("1e-45", &1e-45_f32.to_string()),
            ("3.4028235e+38", &f32::MAX.to_string()),
        ],
    );
    assert_written(
        &ColumnType::Float8,
        &[
            ("5e-324", &5e-324_f64.to_string()),
            ("1.7976931348623157e+308", &f64::MAX.to_string()),
            ("0.1", "0.1"),
        ],
    );
    assert_refused(
        &ColumnType::Float8,
        "1,5",
        "double precision",
        "not a floating-point number",
    );
}

#[test]
fn texts_are_kept_as_they_are() {
    let long = "é".repeat(5_000_000);
    for text in [
        "",
        "ch   ",
        "größe 😀\n\"\\",
        "{\"a\": 1}",
        "<a/>",
        long.as_str(),
    ] {
        for column_type in [
            ColumnType::Text,
            ColumnType::Json,
            ColumnType::Xml,
            mood(),
            other("inet"),
        ] {
            assert!(written(&column_type, text).unwrap() == text);
        }
    }
    let uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
    assert_written(&ColumnType::Uuid, &[(uuid, uuid)]);
}

#[test]
fn bytes() {
    assert_written(
        &ColumnType::Bytea,
        &[
            ("\\x", "x"),
            ("\\x00ff10", "x00ff10"),
            ("\\xDEADbeef", "xdeadbeef"),
        ],
    );
    let long = "00ff".repeat(5_000_000);
    assert!(written(&ColumnType::Bytea, &format!("\\x{long}")).unwrap()[1..] == long);
    for text in ["", "abc", "\\x0", "\\x0g", "\\000\\377"] {
        assert_refused(&ColumnType::Bytea, text, "bytea", "hex form");
    }
}

/// The bytes are those of Java's `new BigDecimal(text).unscaledValue().toByteArray()`.
#[test]
fn numerics_of_a_fixed_scale() {
    assert_written(
        &numeric(10, 2),
        &[
            ("12345.67", "x12d687"),
            ("1.50", "x0096"),
            ("0.00", "x00"),
            ("-0.01", "xff"),
            ("1.28", "x0080"),
            ("-1.28", "x80"),
            ("-1.29", "xff7f"),
            ("-2.56", "xff00"),
            ("99999999.99", "x02540be3ff"),
            // more zeros than the scale, fewer digits than it
            ("1.5000", "x0096"),
            ("1.5", "x0096"),
            ("7", "x02bc"),
        ],
    );
    // 2^63, 2^64 and their like
    assert_written(
        &numeric(30, 0),
        &[
            ("9223372036854775807", "x7fffffffffffffff"),
            ("9223372036854775808", "x008000000000000000"),
            ("-9223372036854775808", "x8000000000000000"),
            ("18446744073709551615", "x00ffffffffffffffff"),
            ("18446744073709551616", "x010000000000000000"),
            ("-18446744073709551616", "xff0000000000000000"),
            ("-18446744073709551617", "xfeffffffffffffffff"),
        ],
    );
    // Avro knows no negative scale: the number is written with scale 0
    assert_written(
        &numeric(5, -2),
        &[
            ("12300", "x300c"),
            ("-100", "x9c"),
            ("0", "x00"),
            ("9999900", "x0098961c"),
        ],
    );
    assert_written(
        &numeric(3, 5),
        &[
            ("0.00123", "x7b"),
            ("-0.00999", "xfc19"),
            ("0.00000", "x00"),
        ],
    );
}

#[test]
fn numerics_that_do_not_fit_are_refused() {
    for special in ["NaN", "Infinity", "-Infinity"] {
        assert_refused(
            &numeric(10, 2),
            special,
            "numeric(10,2)",
            "holds finite numbers only",
        );
    }
    assert_refused(
        &numeric(10, 2),
        "1.505",
        "numeric(10,2)",
        "behind the point",
    );
    assert_refused(
        &numeric(10, 2),
        "100000000.00",
        "numeric(10,2)",
        "more digits than the type's precision",
    );
    assert_refused(
        &numeric(3, 5),
        "0.01000",
        "numeric(3,5)",
        "more digits than the type's precision",
    );
    for text in ["", "-", ".", "1e5", "1.2.3", "0x1", "--1"] {
        assert_refused(
            &numeric(10, 2),
            text,
            "numeric(10,2)",
            "not a decimal number",
        );
    }
}

#[test]
fn numerics_without_a_scale_keep_their_own() {
    let nines = "9".repeat(1000);
    let thousand = written(&ColumnType::VariableNumeric, &format!("-{nines}.{nines}")).unwrap();
    assert!(thousand.starts_with("{scale=1000 value=x"), "{thousand}");
    assert_written(
        &ColumnType::VariableNumeric,
        &[
            ("123.4500", "{scale=4 value=x12d644}"),
            ("-0.001", "{scale=3 value=xff}"),
            ("0", "{scale=0 value=x00}"),
            ("0.00", "{scale=2 value=x00}"),
            ("100", "{scale=0 value=x64}"),
            (
                "100000000000000000000",
                "{scale=0 value=x056bc75e2d63100000}",
            ),
            ("NaN", "{scale=-2147483648 value=x00}"),
            ("Infinity", "{scale=-2147483648 value=x01}"),
            ("-Infinity", "{scale=-2147483648 value=xff}"),
        ],
    );
    assert_refused(
        &ColumnType::VariableNumeric,
        "nan",
        "numeric",
        "not a decimal number",
    );
}

#[test]
fn arrays_of_booleans_and_numbers() {
    for (item, text, expected) in [
        (ColumnType::Bool, "{t,f,NULL}", "[true, false, null]"),
        (ColumnType::Int2, "{1,NULL}", "[1, null]"),
        (
            ColumnType::Int8,
            "{-9223372036854775808}",
            "[-9223372036854775808]",
        ),
        (
            ColumnType::Float8,
            "{1.5,NaN,-Infinity}",
            "[1.5, NaN, -inf]",
        ),
        (ColumnType::Oid, "{4294967295}", "[4294967295]"),
        (numeric(10, 2), "{1.50,NULL}", "[x0096, null]"),
        (
            ColumnType::VariableNumeric,
            "{1.50,NaN}",
            "[{scale=2 value=x0096}, {scale=-2147483648 value=x00}]",
        ),
    ] {
        assert_written(&array(item), &[(text, expected)]);
    }
}

#[test]
fn arrays_of_texts_and_bytes() {
    for (item, text, expected) in [
        (
            ColumnType::Text,
            r#"{"a b","NULL",NULL,"q\"uo\\te","",null,"a,b","{}"}"#,
            r#"[a b, NULL, null, q"uo\te, , null, a,b, {}]"#,
        ),
        (
            ColumnType::Json,
            r#"{"{\"a\": [1, 2]}"}"#,
            r#"[{"a": [1, 2]}]"#,
        ),
        (
            mood(),
            "{ok,NULL,\"very, happy\"}",
            "[ok, null, very, happy]",
        ),
        (ColumnType::Bytea, r#"{"\\x00ff","\\x"}"#, "[x00ff, x]"),
        (
            ColumnType::Box,
            "{(1,1),(0,0);(2,2),(1,1)}",
            "[(1,1),(0,0), (2,2),(1,1)]",
        ),
    ] {
        assert_written(&array(item), &[(text, expected)]);
    }
}

#[test]
fn arrays_of_dates_and_times() {
    for (item, text, expected) in [
        (
            ColumnType::Date,
            "{2020-01-01,NULL,infinity,\"0044-03-15 BC\"}",
            "[18262, null, 2147483647, -735160]",
        ),
        (time(6), "{12:00:00.5}", "[43200500000]"),
        (
            timestamp(6),
            "{\"2020-01-01 00:00:00.5\",infinity}",
            "[1577836800500000, 9223372036825200000]",
        ),
        (
            ColumnType::TimestampTz,
            "{\"2020-01-01 00:00:00.5+00\"}",
            "[2020-01-01T00:00:00.500000Z]",
        ),
        (ColumnType::TimeTz, "{12:00:00.5+01}", "[12:00:00.5+01:00]"),
        (
            ColumnType::Interval,
            "{\"1 day\",01:02:03}",
            "[P0Y0M1DT0H0M0S, P0Y0M0DT1H2M3S]",
        ),
    ] {
        assert_written(&array(item), &[(text, expected)]);
    }
}

#[test]
fn arrays_of_no_and_of_many_items() {
    let many = (0..1000).map(|n| n.to_string()).collect::<Vec<_>>();
    assert_written(
        &array(ColumnType::Int4),
        &[
            ("{}", "[]"),
            (
                &format!("{{{}}}", many.join(",")),
                &format!("[{}]", many.join(", ")),
            ),
        ],
    );
}

#[test]
fn arrays_of_arrays() {
    let matrix = array(array(ColumnType::Text));
    assert_written(
        &matrix,
        &[
            (r#"{{a,"}"},{"\"{",NULL}}"#, r#"[[a, }], ["{, null]]"#),
            ("{}", "[]"),
        ],
    );
    let dimensions = "another number of dimensions";
    assert_refused(&matrix, "{a,b}", "text[][]", dimensions);
    assert_refused(&matrix, "{{{a}}}", "text[][]", dimensions);
    assert_refused(
        &array(ColumnType::Int4),
        "{{1,2},{3,4}}",
        "integer[]",
        dimensions,
    );
}

#[test]
fn arrays_that_do_not_fit_are_refused() {
    let integers = array(ColumnType::Int4);
    assert_refused(
        &integers,
        "[2:3]={1,2}",
        "integer[]",
        "lower bound is not 1",
    );
    assert_refused(&integers, "{1,x}", "integer[]", "not an integer");
    assert_refused(
        &array(numeric(4, 1)),
        "{NaN}",
        "numeric(4,1)[]",
        "finite numbers only",
    );
    for text in [
        "",
        "{",
        "}",
        "1,2",
        "{1,2",
        "{,}",
        "{1,}",
        "{\"a\"b}",
        "{\"a}",
        "{\"a\\\"}",
        "{{1}",
        "{{\"}}",
    ] {
        assert_refused(&array(ColumnType::Text), text, "text[]", "");
    }
}
