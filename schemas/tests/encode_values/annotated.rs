//! The scalar types whose Avro form has annotations of its own: money, bit strings, extension types.

use tributary_schemas::table::ColumnType;

use crate::oracle::tables::array;
use crate::oracle::{assert_refused, assert_written};

#[test]
fn money_is_a_decimal_of_hundredths() {
    assert_written(
        &ColumnType::Money,
        &[
            ("$0.00", "x00"),
            ("-$0.01", "xff"),
            ("-$1,234.56", "xfe1dc0"),
            ("$92,233,720,368,547,758.07", "x7fffffffffffffff"),
            ("-$92,233,720,368,547,758.08", "x8000000000000000"),
        ],
    );
    // Another lc_monetary prints another currency, and may mean another number of digits.
    for text in [
        "1.00", "€1.00", "$1", "$1.2", "$1.234", "($1.00)", "$", "$-1.00", "$NaN",
    ] {
        assert_refused(&ColumnType::Money, text, "money", "lc_monetary");
    }
}

#[test]
fn bit_strings_are_little_endian() {
    let bit = |length| ColumnType::Bit { length };
    assert_written(&bit(1), &[("0", "false"), ("1", "true")]);
    assert_written(&bit(3), &[("101", "x05"), ("000", "x00"), ("100", "x04")]);
    assert_written(
        &bit(24),
        &[
            ("000000110000001000000001", "x010203"),
            ("000000000000000000000001", "x010000"),
        ],
    );
    for text in ["", "10", "1010", "12"] {
        assert_refused(&bit(3), text, "bit(3)", "not a bit string");
    }
    assert_refused(&bit(1), "t", "bit(1)", "not a bit string");
}

/// Zeros in front are a part of the value, and so is its length.
#[test]
fn varying_bit_strings_have_a_byte_for_each_bit() {
    let varbit = ColumnType::VarBit { length: Some(12) };
    assert_written(
        &varbit,
        &[
            ("", "x"),
            ("0", "x00"),
            ("00", "x0000"),
            ("101", "x050000"),
            ("0101", "x05000000"),
            ("100000000101", "x050800000000000000000000"),
        ],
    );
    assert_refused(&varbit, "102", "bit varying(12)", "not a bit string");
}

#[test]
fn extension_types_and_intervals_in_microseconds() {
    assert_written(
        &ColumnType::Hstore,
        &[
            ("", "{}"),
            (r#""a"=>"1", "b"=>NULL"#, r#"{"a":"1","b":null}"#),
        ],
    );
    assert_refused(&ColumnType::Hstore, "a=>1", "hstore", "not the text of");
    assert_written(&ColumnType::Ltree, &[("a.b.c", "a.b.c"), ("", "")]);
    assert_written(
        &ColumnType::TsVector,
        &[("'a' 'cat':3A,5", "'a' 'cat':3A,5")],
    );
    assert_written(
        &ColumnType::IntervalMicros,
        &[("1 mon", "2629800000000"), ("-00:00:00.000001", "-1")],
    );
    assert_refused(
        &ColumnType::IntervalMicros,
        "178000000 years",
        "interval",
        "past the range",
    );
    assert_refused(
        &ColumnType::IntervalMicros,
        "infinity",
        "interval",
        "finite",
    );
    let items = array(ColumnType::Hstore);
    assert_written(
        &items,
        &[(r#"{"\"a\"=>\"b\\\\c\"",NULL}"#, r#"[{"a":"b\\c"}, null]"#)],
    );
    assert_written(
        &array(ColumnType::Money),
        &[(r#"{"$1,000.00",$1.00}"#, "[x0186a0, x64]")],
    );
    assert_written(
        &array(ColumnType::VarBit { length: None }),
        &[("{101,0}", "[x050000, x00]")],
    );
}
