//! Every type's values, its extremes among them: what apache-avro reads from what we wrote.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

mod oracle;

use oracle::tables::{array, mood, numeric, other, time, timestamp};
use oracle::written;
use tributary_schemas::table::ColumnType;

#[track_caller]
fn assert_written(column_type: &ColumnType, cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        match written(column_type, text) {
            Ok(value) => assert_eq!(&value, expected, "{text}"),
            Err(error) => panic!("{text}: {error}"),
        }
    }
}

/// The value is refused, and what is said has `reason`, the column and its type, but not the value.
#[track_caller]
fn assert_refused(column_type: &ColumnType, text: &str, type_name: &str, reason: &str) {
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
fn dates() {
    assert_written(
        &ColumnType::Date,
        &[
            ("1970-01-01", "0"),
            ("1969-12-31", "-1"),
            ("2020-02-29", "18321"),
            ("2000-02-29", "11016"),
            ("0001-01-01", "-719162"),
            ("0001-12-31 BC", "-719163"),
            // -0043-03-15 of ISO 8601 (java.time.LocalDate.toEpochDay)
            ("0044-03-15 BC", "-735160"),
            ("20000-01-01", "6585322"),
            // Postgres' first and last date
            ("4714-11-24 BC", "-2440588"),
            ("5874897-12-31", "2145042905"),
            ("infinity", "2147483647"),
            ("-infinity", "-2147483648"),
        ],
    );
    for text in [
        "",
        "2020-2-9",
        "29.02.2020",
        "2020-02-29 AD",
        "2020-13-01",
        "2020-00-01",
        "2020-01-32",
        "2020-01-00",
        "20-01-01",
    ] {
        assert_refused(
            &ColumnType::Date,
            text,
            "date",
            "not a date or time in ISO form",
        );
    }
}

#[test]
fn times() {
    assert_written(
        &time(6),
        &[
            ("00:00:00", "0"),
            ("12:34:56.789012", "45296789012"),
            ("12:00:00.5", "43200500000"),
            ("23:59:59.999999", "86399999999"),
            ("24:00:00", "86400000000"),
        ],
    );
    for precision in 0..=3 {
        assert_written(
            &time(precision),
            &[("12:34:56", "45296000"), ("24:00:00", "86400000")],
        );
    }
    assert_written(
        &time(3),
        &[("12:34:56.789", "45296789"), ("01:02:03.004", "3723004")],
    );
    assert_refused(
        &time(3),
        "12:34:56.7891",
        "time(3)",
        "finer than a millisecond",
    );
    for text in [
        "",
        "24:00:01",
        "24:00:00.000001",
        "12:60:00",
        "12:00:60",
        "12:00",
        "12:00:00.",
        "12:00:00.1234567",
        "12:00:00+00",
    ] {
        assert_refused(&time(6), text, "time(6)", "not a date or time in ISO form");
    }
}

#[test]
fn timestamps() {
    assert_written(
        &timestamp(6),
        &[
            ("2020-01-01 12:34:56.789012", "1577882096789012"),
            ("1969-12-31 23:59:59.999999", "-1"),
            ("0044-03-15 12:00:00.5 BC", "-63517780799500000"),
            ("0001-01-01 00:00:00", "-62135596800000000"),
            ("20000-01-01 12:00:00", "568971864000000000"),
            // Postgres' first timestamp; the last microsecond of 64 bits
            ("4714-11-24 00:00:00 BC", "-210866803200000000"),
            ("294247-01-10 04:00:54.775807", "9223372036854775807"),
            ("infinity", "9223372036825200000"),
            ("-infinity", "-9223372036832400000"),
        ],
    );
    assert_written(
        &timestamp(3),
        &[
            ("2020-01-01 12:34:56.789", "1577882096789"),
            ("0044-03-15 12:00:00.5 BC", "-63517780799500"),
            // past 64-bit microseconds, but not past milliseconds: Postgres' last
            ("294276-12-31 23:59:59.999", "9224318015999999"),
            ("infinity", "9223372036825200"),
            ("-infinity", "-9223372036832400"),
        ],
    );
    let past = "past the range of 64-bit microseconds";
    assert_refused(
        &timestamp(6),
        "294276-12-31 23:59:59.999999",
        "timestamp(6)",
        past,
    );
    assert_refused(
        &timestamp(6),
        "294247-01-10 04:00:54.775808",
        "timestamp(6)",
        past,
    );
    let sentinel = "equals the number that stands for infinity";
    assert_refused(
        &timestamp(6),
        "294247-01-10 04:00:25.2",
        "timestamp(6)",
        sentinel,
    );
    assert_refused(
        &timestamp(3),
        "294247-01-10 04:00:25.2",
        "timestamp(3)",
        sentinel,
    );
    assert_refused(
        &timestamp(3),
        "2020-01-01 12:34:56.7891",
        "timestamp(3)",
        "finer",
    );
    assert_refused(
        &timestamp(6),
        "2020-01-01",
        "timestamp(6)",
        "not a date or time",
    );
    assert_refused(
        &timestamp(6),
        "2020-01-01 00:00:00+00",
        "timestamp(6)",
        "not a date or time",
    );
}

/// As Debezium 3.3.1 streamed them.
#[test]
fn timestamps_with_a_zone() {
    assert_written(
        &ColumnType::TimestampTz,
        &[
            ("2020-01-01 10:34:56.1234+00", "2020-01-01T10:34:56.123400Z"),
            ("2020-01-01 00:00:00+00", "2020-01-01T00:00:00.000000Z"),
            (
                "2020-01-01 00:01:00.000001+00",
                "2020-01-01T00:01:00.000001Z",
            ),
            (
                "0044-03-15 12:00:00.5+00 BC",
                "-0043-03-15T12:00:00.500000Z",
            ),
            ("0001-12-31 00:00:00+00 BC", "0000-12-31T00:00:00.000000Z"),
            ("20000-01-01 12:00:00+00", "+20000-01-01T12:00:00.000000Z"),
            ("infinity", "infinity"),
            ("-infinity", "-infinity"),
            // the ends of Postgres' range
            ("4714-11-24 00:00:00+00 BC", "-4713-11-24T00:00:00.000000Z"),
            (
                "294276-12-31 23:59:59.999999+00",
                "+294276-12-31T23:59:59.999999Z",
            ),
            // a session in another zone: still the same instant
            ("2020-01-01 01:00:00+02", "2019-12-31T23:00:00.000000Z"),
            ("2020-01-01 23:00:00-05:30", "2020-01-02T04:30:00.000000Z"),
            (
                "0001-01-01 00:00:00+00:00:01",
                "0000-12-31T23:59:59.000000Z",
            ),
        ],
    );
    for text in [
        "2020-01-01 00:00:00",
        "2020-01-01T00:00:00+00",
        "2020-01-01 00:00:00 UTC",
        "2020-01-01 00:00:00+00:60",
    ] {
        assert_refused(
            &ColumnType::TimestampTz,
            text,
            "timestamptz",
            "not a date or time in ISO form",
        );
    }
}

#[test]
fn times_with_a_zone_keep_it() {
    assert_written(
        &ColumnType::TimeTz,
        &[
            ("12:34:56.789+02", "12:34:56.789+02:00"),
            ("12:34:56-05:30", "12:34:56-05:30"),
            ("01:00:00.1+00", "01:00:00.1Z"),
            ("24:00:00+00", "24:00:00Z"),
            ("00:00:00+15:59", "00:00:00+15:59"),
            ("23:59:59.999999-15:59:59", "23:59:59.999999-15:59:59"),
        ],
    );
    for text in ["12:00:00", "12:00:00Z", "12:00:00+2", "12:00:00+02 BC"] {
        assert_refused(
            &ColumnType::TimeTz,
            text,
            "timetz",
            "not a date or time in ISO form",
        );
    }
}

#[test]
fn intervals() {
    assert_written(
        &ColumnType::Interval,
        &[
            ("1 year 2 mons -3 days +04:05:06.789", "P1Y2M-3DT4H5M6.789S"),
            ("infinity", "infinity"),
        ],
    );
    assert_refused(
        &ColumnType::Interval,
        "P1Y2M",
        "interval",
        "style of Postgres",
    );
}

#[test]
fn arrays_of_every_type() {
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
        (
            ColumnType::Text,
            r#"{"a b","NULL",NULL,"q\"uo\\te","",null,"a,b","{}"}"#,
            r#"[a b, NULL, null, q"uo\te, , null, a,b, {}]"#,
        ),
        (numeric(10, 2), "{1.50,NULL}", "[x0096, null]"),
        (
            ColumnType::VariableNumeric,
            "{1.50,NaN}",
            "[{scale=2 value=x0096}, {scale=-2147483648 value=x00}]",
        ),
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
            other("box"),
            "{(1,1),(0,0);(2,2),(1,1)}",
            "[(1,1),(0,0), (2,2),(1,1)]",
        ),
        (ColumnType::Int4, "{}", "[]"),
    ] {
        assert_written(&array(item), &[(text, expected)]);
    }
    let many = (0..1000).map(|n| n.to_string()).collect::<Vec<_>>();
    assert_written(
        &array(ColumnType::Int4),
        &[(
            &format!("{{{}}}", many.join(",")),
            &format!("[{}]", many.join(", ")),
        )],
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
