mod decimals;

use proptest::prelude::*;

use super::{RenderError, json, json_string, postgres_text};
use crate::record::{Datum, Field, FieldType, RecordType};

fn postgres(field_type: &FieldType, datum: &Datum<'_>) -> Result<String, RenderError> {
    let mut out = Vec::new();
    postgres_text(field_type, datum, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn as_json(field_type: &FieldType, datum: &Datum<'_>) -> Result<String, RenderError> {
    let mut out = Vec::new();
    json(field_type, datum, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn field(name: &str, field_type: FieldType) -> Field {
    Field {
        name: name.to_owned(),
        field_type,
        nullable: true,
    }
}

fn array_of(field_type: FieldType) -> FieldType {
    FieldType::Array(Box::new(field("item", field_type)))
}

fn decimal(scale: i32) -> FieldType {
    FieldType::Decimal {
        precision: None,
        scale,
    }
}

/// Both forms of a value, which are the same but for the quotes around JSON's.
fn assert_both(field_type: &FieldType, datum: &Datum<'_>, expected: &str, quotes: &str) {
    assert_eq!(postgres(field_type, datum).unwrap(), expected);
    assert_eq!(
        as_json(field_type, datum).unwrap(),
        format!("{quotes}{expected}{quotes}")
    );
}

proptest! {
    #[test]
    fn integers_are_exact(value in any::<i64>()) {
        assert_both(&FieldType::Int64, &Datum::Int(value), &value.to_string(), "");
        let bytes = i128::from(value).to_be_bytes();
        assert_both(&decimal(0), &Datum::Bytes(&bytes), &value.to_string(), "");
    }

    #[test]
    fn floats_read_back_as_the_same_bits(double in any::<f64>(), single in any::<f32>()) {
        let text = postgres(&FieldType::Float64, &Datum::Double(double)).unwrap();
        let read: f64 = text.parse().unwrap();
        prop_assert!(read.to_bits() == double.to_bits() || read.is_nan() && double.is_nan());
        let text = postgres(&FieldType::Float32, &Datum::Float(single)).unwrap();
        let read: f32 = text.parse().unwrap();
        prop_assert!(read.to_bits() == single.to_bits() || read.is_nan() && single.is_nan());
        if double.is_finite() {
            let text = as_json(&FieldType::Float64, &Datum::Double(double)).unwrap();
            let literal: Box<serde_json::value::RawValue> = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(literal.get().parse::<f64>().unwrap().to_bits(), double.to_bits());
        }
    }
}

#[test]
fn floats_without_a_number_have_names() {
    let cases = [
        (f64::NAN, "NaN"),
        (f64::INFINITY, "Infinity"),
        (f64::NEG_INFINITY, "-Infinity"),
    ];
    for (value, name) in cases {
        assert_both(&FieldType::Float64, &Datum::Double(value), name, "\"");
        assert_both(&FieldType::Float32, &Datum::Float(value as f32), name, "\"");
    }
}

fn leap(year: i64) -> bool {
    year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0)
}

fn month_days(year: i64, month: usize) -> i64 {
    [
        31,
        if leap(year) { 29 } else { 28 },
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ][month]
}

/// Every day of every eleventh year from 4700 BC to 10400, counted one after the other: eleven is
/// prime to 400, so every kind of year comes.
#[test]
fn dates_agree_with_counting_days() {
    let mut days = 0;
    for year in 1970..10_400 {
        each_day(year, days);
        days += if leap(year) { 366 } else { 365 };
    }
    let mut days = 0;
    for year in (-4700..1970).rev() {
        days -= if leap(year) { 366 } else { 365 };
        each_day(year, days);
    }
}

fn each_day(year: i64, mut days: i64) {
    if year % 11 != 0 {
        return;
    }
    for month in 0..12 {
        for day in 1..=month_days(year, month) {
            let rest = format!("{:02}-{day:02}", month + 1);
            let iso = match year {
                0..=9999 => format!("\"{year:04}-{rest}\""),
                10_000.. => format!("\"+{year}-{rest}\""),
                _ => format!("\"-{:04}-{rest}\"", -year),
            };
            let postgres_form = if year > 0 {
                format!("{year:04}-{rest}")
            } else {
                format!("{:04}-{rest} BC", 1 - year)
            };
            let date = Datum::Int(days);
            assert_eq!(as_json(&FieldType::Date, &date).unwrap(), iso);
            assert_eq!(postgres(&FieldType::Date, &date).unwrap(), postgres_form);
            days += 1;
        }
    }
}

#[test]
fn dates_and_timestamps_at_their_ends() {
    let date = |days| postgres(&FieldType::Date, &Datum::Int(days));
    let out_of_range = |kind| Err(RenderError::OutOfRange { kind });
    assert_eq!(date(i64::from(i32::MAX)).unwrap(), "infinity");
    assert_eq!(date(i64::from(i32::MIN)).unwrap(), "-infinity");
    // Debezium's, streamed and of a snapshot.
    for (infinity, text) in [
        (-2_147_472_692, "infinity"),
        (-622_191_233, "infinity"),
        (-622_191_234, "infinity"),
        (-2_147_472_691, "-infinity"),
        (-625_821_271, "-infinity"),
        (-625_821_272, "-infinity"),
    ] {
        assert_eq!(date(infinity).unwrap(), text, "{infinity}");
    }
    assert_eq!(date(-2_440_588).unwrap(), "4714-11-24 BC");
    assert_eq!(date(-2_440_589), out_of_range("date"));
    assert_eq!(date(2_145_042_905).unwrap(), "5874897-12-31");
    assert_eq!(date(2_145_042_906), out_of_range("date"));
    assert_eq!(date(i64::from(i32::MAX) + 1), out_of_range("date"));

    let micros = |count| postgres(&FieldType::TimestampMicros, &Datum::Int(count));
    assert_eq!(micros(9_223_372_036_825_200_000).unwrap(), "infinity");
    assert_eq!(micros(-9_223_372_036_832_400_000).unwrap(), "-infinity");
    assert_eq!(micros(-1).unwrap(), "1969-12-31 23:59:59.999999");
    assert_eq!(
        micros(-62_135_596_800_000_001).unwrap(),
        "0001-12-31 23:59:59.999999 BC"
    );
    assert_eq!(micros(i64::MAX).unwrap(), "294247-01-10 04:00:54.775807");
    assert_eq!(micros(i64::MIN), out_of_range("timestamp"));

    let millis = |count| as_json(&FieldType::TimestampMillis, &Datum::Int(count)).unwrap();
    assert_eq!(millis(9_223_372_036_825_200), "\"infinity\"");
    assert_eq!(millis(-9_223_372_036_832_400), "\"-infinity\"");
    assert_eq!(millis(9_223_372_036_825_200_000), "\"infinity\"");
    assert_eq!(millis(1_577_836_800_123), "\"2020-01-01T00:00:00.123\"");
    assert_eq!(millis(i64::MIN), "\"-292275055-05-16T16:47:04.192\"");
    for (infinity, text) in [(i64::MAX, "\"infinity\""), (i64::MIN, "\"-infinity\"")] {
        let nanos = as_json(&FieldType::TimestampNanos, &Datum::Int(infinity)).unwrap();
        assert_eq!(nanos, text);
    }
    let nanos = as_json(&FieldType::TimestampNanos, &Datum::Int(-1)).unwrap();
    assert_eq!(nanos, "\"1969-12-31T23:59:59.999999999\"");
}

#[test]
fn times_run_to_the_next_midnight() {
    for (field_type, day, last, end) in [
        (
            FieldType::TimeMillis,
            86_400_000,
            "23:59:59.999",
            "24:00:00.000",
        ),
        (
            FieldType::TimeMicros,
            86_400_000_000,
            "23:59:59.999999",
            "24:00:00.000000",
        ),
        (
            FieldType::TimeNanos,
            86_400_000_000_000,
            "23:59:59.999999999",
            "24:00:00.000000000",
        ),
    ] {
        assert_both(&field_type, &Datum::Int(day - 1), last, "\"");
        assert_both(&field_type, &Datum::Int(day), end, "\"");
        for wrong in [-1, day + 1] {
            let refused = Err(RenderError::OutOfRange { kind: "time" });
            assert_eq!(postgres(&field_type, &Datum::Int(wrong)), refused);
            assert_eq!(as_json(&field_type, &Datum::Int(wrong)), refused);
        }
    }
}

#[test]
fn zoned_timestamps_and_durations() {
    let cases = [
        ("2024-02-29T23:59:59.000001Z", "2024-02-29T23:59:59.000001Z"),
        ("+12345-01-01T00:00:00Z", "12345-01-01T00:00:00Z"),
        ("0000-12-31T00:00:00Z", "0001-12-31T00:00:00Z BC"),
        ("-0043-03-15T12:00:00Z", "0044-03-15T12:00:00Z BC"),
        ("infinity", "infinity"),
        ("-infinity", "-infinity"),
    ];
    for (iso, expected) in cases {
        let datum = Datum::Str(iso);
        assert_eq!(
            postgres(&FieldType::ZonedTimestamp, &datum).unwrap(),
            expected
        );
        assert_eq!(
            as_json(&FieldType::ZonedTimestamp, &datum).unwrap(),
            format!("\"{iso}\"")
        );
    }
    let duration = |micros| postgres(&FieldType::MicroDuration, &Datum::Int(micros)).unwrap();
    assert_eq!(duration(90_061_000_001), "25:01:01.000001");
    assert_eq!(duration(-1), "-00:00:00.000001");
    assert_eq!(
        as_json(&FieldType::MicroDuration, &Datum::Int(-1)).unwrap(),
        "-1"
    );
    let interval = Datum::Str("P1Y2M3DT4H5M6.7S");
    assert_both(&FieldType::Interval, &interval, "P1Y2M3DT4H5M6.7S", "\"");
}

#[test]
fn bytes_and_bits() {
    let bytes = |bytes| postgres(&FieldType::Bytes, &Datum::Bytes(bytes)).unwrap();
    assert_eq!(bytes(&[]), "\\x");
    assert_eq!(bytes(&[0, 0xAB, 0xFF]), "\\x00abff");
    // RFC 4648, section 10.
    for (plain, expected) in [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ] {
        let found = as_json(&FieldType::Bytes, &Datum::Bytes(plain.as_bytes())).unwrap();
        assert_eq!(found, format!("\"{expected}\""));
    }
    assert_eq!(
        as_json(&FieldType::Bytes, &Datum::Bytes(&[0xFB, 0xFF])).unwrap(),
        "\"+/8=\""
    );

    let bits = |length, bytes| {
        let field = FieldType::Bits {
            length,
            counted: false,
        };
        postgres(&field, &Datum::Bytes(bytes))
    };
    assert_eq!(
        bits(Some(12), &[0b0000_0101, 0b1000]).unwrap(),
        "100000000101"
    );
    // Debezium drops bytes of zeros in front.
    assert_eq!(bits(Some(12), &[0b0000_0101]).unwrap(), "000000000101");
    assert_eq!(bits(Some(3), &[]).unwrap(), "000");
    assert_eq!(bits(None, &[0b0000_0101]).unwrap(), "101");
    assert_eq!(bits(Some(2_147_483_647), &[1, 0]).unwrap(), "1");
    let counted = |bytes| {
        let field = FieldType::Bits {
            length: Some(12),
            counted: true,
        };
        postgres(&field, &Datum::Bytes(bytes))
    };
    assert_eq!(counted(&[0b101, 0, 0, 0]).unwrap(), "0101");
    assert_eq!(counted(&[]).unwrap(), "");
    assert_eq!(
        counted(&[0b1000, 0, 0]),
        Err(RenderError::OutOfRange { kind: "bit string" })
    );
    assert_eq!(
        bits(Some(3), &[0b1000]),
        Err(RenderError::OutOfRange { kind: "bit string" })
    );
    assert_eq!(
        as_json(
            &FieldType::Bits {
                length: Some(2),
                counted: false
            },
            &Datum::Bytes(&[2])
        )
        .unwrap(),
        "\"10\""
    );
}

#[test]
fn arrays_quote_what_postgres_would_take_apart() {
    let text = |text: &'static str| Datum::Str(text);
    let items = vec![
        text("plain"),
        text(""),
        text("null"),
        text("a,b"),
        text("{}"),
        text("say \"hi\" \\ there"),
        text("tab\there"),
        Datum::Null,
        text("ä"),
    ];
    let expected =
        "{plain,\"\",\"null\",\"a,b\",\"{}\",\"say \\\"hi\\\" \\\\ there\",\"tab\there\",NULL,ä}";
    assert_eq!(
        postgres(&array_of(FieldType::String), &Datum::Array(items)).unwrap(),
        expected
    );

    let row =
        |numbers: &[i64]| Datum::Array(numbers.iter().map(|&number| Datum::Int(number)).collect());
    let nested = array_of(array_of(FieldType::Int32));
    let grid = Datum::Array(vec![row(&[1, 2]), row(&[-3, 4])]);
    assert_eq!(postgres(&nested, &grid).unwrap(), "{{1,2},{-3,4}}");
    assert_eq!(as_json(&nested, &grid).unwrap(), "[[1,2],[-3,4]]");
    assert_eq!(postgres(&nested, &Datum::Array(vec![])).unwrap(), "{}");

    let bytes = Datum::Array(vec![Datum::Bytes(&[1])]);
    assert_eq!(
        postgres(&array_of(FieldType::Bytes), &bytes).unwrap(),
        "{\"\\\\x01\"}"
    );
    let days = Datum::Array(vec![Datum::Int(-719_163)]);
    assert_eq!(
        postgres(&array_of(FieldType::Date), &days).unwrap(),
        "{\"0001-12-31 BC\"}"
    );
}

#[test]
fn records_and_maps_are_json_in_both() {
    let record = FieldType::Struct(RecordType {
        full_name: "Pair".to_owned(),
        fields: vec![field("a \"b\"", FieldType::Json), field("n", decimal(2))],
    });
    let datum = Datum::Struct(vec![Datum::Str("{\"x\": 1}"), Datum::Bytes(&[5])]);
    assert_both(&record, &datum, r#"{"a \"b\"":"{\"x\": 1}","n":0.05}"#, "");
    let map = FieldType::Map(Box::new(field("value", FieldType::Bool)));
    let entry = |key, value| Datum::Struct(vec![Datum::Str(key), value]);
    let datum = Datum::Array(vec![entry("k", Datum::Bool(true)), entry("", Datum::Null)]);
    assert_both(&map, &datum, r#"{"k":true,"":null}"#, "");
    let list = array_of(record);
    let datum = Datum::Array(vec![Datum::Struct(vec![Datum::Null, Datum::Null])]);
    assert_eq!(
        postgres(&list, &datum).unwrap(),
        r#"{"{\"a \\\"b\\\"\":null,\"n\":null}"}"#
    );
}

#[test]
fn what_has_no_text_is_an_error() {
    assert_eq!(
        postgres(&FieldType::Int32, &Datum::Null),
        Err(RenderError::Null)
    );
    assert_eq!(as_json(&FieldType::Int32, &Datum::Null).unwrap(), "null");
    assert_eq!(
        postgres(&FieldType::String, &Datum::Str("a\0b")),
        Err(RenderError::NulCharacter)
    );
    assert_eq!(
        as_json(&FieldType::String, &Datum::Str("a\0b")).unwrap(),
        "\"a\\u0000b\""
    );
    for (field_type, datum) in [
        (FieldType::Int32, Datum::Str("1")),
        (FieldType::String, Datum::Int(1)),
        (FieldType::Date, Datum::Str("2020-01-01")),
        (
            FieldType::Struct(RecordType {
                full_name: String::new(),
                fields: vec![],
            }),
            Datum::Struct(vec![Datum::Null]),
        ),
    ] {
        assert_eq!(postgres(&field_type, &datum), Err(RenderError::Mismatch));
        assert_eq!(as_json(&field_type, &datum), Err(RenderError::Mismatch));
    }
}

proptest! {
    #[test]
    fn json_strings_read_back(text in any::<String>(), marks in "[\u{0}-\u{20}\"\\\\\u{2027}-\u{202a}\u{e2}]{0,20}") {
        for text in [text, marks] {
            let mut out = Vec::new();
            json_string(&text, &mut out);
            let written = String::from_utf8(out).unwrap();
            let separators = written.contains(['\u{2028}', '\u{2029}']);
            prop_assert!(!separators);
            prop_assert!(written.bytes().all(|byte| byte >= 0x20));
            prop_assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
        }
    }
}
