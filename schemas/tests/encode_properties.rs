//! Random values, read back by apache-avro and compared by arithmetic of the test's own.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test fails as the test does"
)]

mod oracle;

use apache_avro::types::Value;
use oracle::tables::{array, numeric, timestamp};
use oracle::{TOPIC, column, decode, field, identity, plain, read, table, written};
use proptest::prelude::*;
use tributary_schemas::avro::value_schema;
use tributary_schemas::encode::EncodePlan;
use tributary_schemas::name;
use tributary_schemas::table::{Cell, ColumnType};

/// The decimal digits of a two's complement integer in hex (`x…`), by dividing it by ten.
fn decimal_digits(hex: &str) -> (bool, String) {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    let mut bytes: Vec<u8> = (1..hex.len()).step_by(2).map(byte).collect();
    assert!(!bytes.is_empty());
    if let [first, second, ..] = bytes[..] {
        let needless = (first == 0 && second < 0x80) || (first == 0xff && second >= 0x80);
        assert!(!needless, "not the shortest form: {hex}");
    }
    let negative = bytes[0] >= 0x80;
    if negative {
        let mut carry = true;
        for byte in bytes.iter_mut().rev() {
            (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
        }
    }
    let mut digits = Vec::new();
    while bytes.iter().any(|&byte| byte != 0) {
        let mut rest = 0_u32;
        for byte in &mut bytes {
            let value = rest * 256 + u32::from(*byte);
            *byte = u8::try_from(value / 10).unwrap();
            rest = value % 10;
        }
        digits.push(char::from_digit(rest, 10).unwrap());
    }
    (negative, digits.iter().rev().collect())
}

/// An unscaled integer as the text of a number with so many digits behind the point.
fn with_scale(hex: &str, scale: usize) -> String {
    let (negative, digits) = decimal_digits(hex);
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if negative { "-" } else { "" };
    let point = if scale > 0 { "." } else { "" };
    format!("{sign}{whole}{point}{fraction}")
}

/// Days since 1970-01-01, by counting the leap years since the year 1.
fn days(year: i64, month: usize, day: i64) -> i64 {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let lengths = [
        31,
        28 + i64::from(leap),
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
    ];
    let before = year - 1;
    let leap_days = before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400);
    before * 365 + leap_days + lengths[..month - 1].iter().sum::<i64>() + day - 719_163
}

/// A date of Postgres' timestamp range and its text: year (0 is 1 BC), month, day.
fn date() -> impl Strategy<Value = (i64, usize, i64, String, &'static str)> {
    (-4712_i64..294_247, 1_usize..=12, 1_i64..=28).prop_map(|(year, month, day)| {
        let (shown, era) = if year > 0 {
            (year, "")
        } else {
            (1 - year, " BC")
        };
        (
            year,
            month,
            day,
            format!("{shown:04}-{month:02}-{day:02}"),
            era,
        )
    })
}

/// Microseconds of a day and their text, without zeros at the end.
fn clock() -> impl Strategy<Value = (i64, String)> {
    let fraction = prop_oneof![
        Just(0_i64),
        (0_i64..1000).prop_map(|ms| ms * 1000),
        0_i64..1_000_000
    ];
    (0_i64..86_400, fraction).prop_map(|(second, fraction)| {
        let clock = format!(
            "{:02}:{:02}:{:02}",
            second / 3600,
            second / 60 % 60,
            second % 60
        );
        let text = format!("{clock}.{fraction:06}");
        let text = text.trim_end_matches('0').trim_end_matches('.').to_owned();
        (
            second * 1_000_000 + fraction,
            if fraction == 0 { clock } else { text },
        )
    })
}

/// One item as `array_out` prints it.
fn array_item(item: Option<&str>) -> String {
    let Some(item) = item else {
        return "NULL".to_owned();
    };
    let special = |c: char| {
        matches!(c, '{' | '}' | ',' | '"' | '\\') || c.is_ascii_whitespace() || c == '\x0b'
    };
    if item.is_empty() || item.eq_ignore_ascii_case("NULL") || item.contains(special) {
        return format!("\"{}\"", item.replace('\\', "\\\\").replace('"', "\\\""));
    }
    item.to_owned()
}

fn array_text(items: &[Option<String>]) -> String {
    let items: Vec<_> = items
        .iter()
        .map(|item| array_item(item.as_deref()))
        .collect();
    format!("{{{}}}", items.join(","))
}

fn item() -> impl Strategy<Value = Option<String>> {
    proptest::option::weighted(0.8, prop_oneof!["\\PC{0,12}", "[\\\\\"{},; \tnulNUL]{0,8}"])
}

proptest! {
    #[test]
    fn numerics_come_back_digit_by_digit(text in "-?(0|[1-9][0-9]{0,60})(\\.[0-9]{1,60})?") {
        let value = written(&ColumnType::VariableNumeric, &text).unwrap();
        let (scale, hex) = value.strip_prefix("{scale=").unwrap().split_once(" value=").unwrap();
        let back = with_scale(hex.strip_suffix('}').unwrap(), scale.parse().unwrap());
        let zero = text.bytes().all(|byte| matches!(byte, b'-' | b'0' | b'.'));
        prop_assert_eq!(back.as_str(), if zero { text.trim_start_matches('-') } else { &text });
    }

    #[test]
    fn numerics_of_a_fixed_scale_come_back(digits in "[1-9][0-9]{0,200}", negative: bool, scale in 0_usize..200) {
        let text = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = text.split_at(text.len() - scale);
        let point = if scale > 0 { "." } else { "" };
        let text = format!("{}{whole}{point}{fraction}", if negative { "-" } else { "" });
        let precision = u16::try_from(digits.len()).unwrap();
        let column_type = numeric(precision, i16::try_from(scale).unwrap());
        prop_assert_eq!(&with_scale(&written(&column_type, &text).unwrap(), scale), &text);
        let shorter = numeric(precision - 1, i16::try_from(scale).unwrap());
        prop_assert_eq!(written(&shorter, &text).is_ok(), false);
    }

    #[test]
    fn timestamps_come_back((year, month, day, date, era) in date(), (us, clock) in clock()) {
        let days = days(year, month, day);
        prop_assert_eq!(written(&ColumnType::Date, &format!("{date}{era}")).unwrap(), days.to_string());
        let text = format!("{date} {clock}{era}");
        let exact = i128::from(days) * 86_400_000_000 + i128::from(us);
        match i64::try_from(exact) {
            Ok(exact) => prop_assert_eq!(written(&timestamp(6), &text).unwrap(), exact.to_string()),
            Err(_) => prop_assert!(written(&timestamp(6), &text).is_err()),
        }
        if us % 1000 == 0 {
            prop_assert_eq!(written(&timestamp(3), &text).unwrap(), (exact / 1000).to_string());
        } else {
            prop_assert!(written(&timestamp(3), &text).is_err());
        }
        let iso_year = match year {
            ..0 => format!("-{:04}", -year),
            0..10_000 => format!("{year:04}"),
            _ => format!("+{year}"),
        };
        let (second, fraction) = (us / 1_000_000, us % 1_000_000);
        let expected = format!(
            "{iso_year}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{fraction:06}Z",
            second / 3600, second / 60 % 60, second % 60
        );
        let zoned = written(&ColumnType::TimestampTz, &format!("{date} {clock}+00{era}")).unwrap();
        prop_assert_eq!(zoned, expected);
    }

    #[test]
    fn arrays_of_text_come_back(items in proptest::collection::vec(item(), 0..12)) {
        let table = oracle::with_column(array(ColumnType::Text));
        let plan = EncodePlan::compile(&table, &identity());
        let text = array_text(&items);
        let row = [Cell::Text(b"1"), Cell::Text(text.as_bytes())];
        let mut out = Vec::new();
        plan.encode_envelope(&read(&row), &mut out).unwrap();
        let value = decode(&value_schema(TOPIC, &table), &out);
        let Value::Union(1, list) = field(&value, &["after", "c"]) else { panic!("{value:?}") };
        let Value::Array(read) = &**list else { panic!("{list:?}") };
        let expected: Vec<_> = items.iter().map(|item| match item {
            None => Value::Union(0, Box::new(Value::Null)),
            Some(item) => Value::Union(1, Box::new(Value::String(item.clone()))),
        }).collect();
        prop_assert_eq!(read, &expected);
    }

    #[test]
    fn any_name_makes_a_schema_that_tells_it(
        names in proptest::collection::hash_set(prop_oneof!["\\PC{1,20}", "[_u0-9a-f.\\- ]{1,12}"], 1..8),
        schema in "\\PC{1,10}",
    ) {
        let types = [ColumnType::Text, ColumnType::VariableNumeric, array(ColumnType::Int4), numeric(4, 2)];
        let columns = names.iter().zip(types.iter().cycle()).map(|(name, column_type)| column(name, column_type.clone()));
        let mut table = table("Any \"table\"", columns.collect(), &[]);
        table.schema = schema;
        let Ok(topic) = name::topic("shop-eu", &table.schema, &table.name) else { return Ok(()) };
        let schema = value_schema(&topic, &table);
        let row = vec![Cell::Null; names.len()];
        let mut out = Vec::new();
        EncodePlan::compile(&table, &identity()).encode_envelope(&read(&row), &mut out).unwrap();
        let value = decode(&schema, &out);
        prop_assert_eq!(&plain(field(&value, &["source", "schema"])), &table.schema);
        let Value::Union(1, after) = field(&value, &["after"]) else { panic!("{value:?}") };
        let Value::Record(fields) = &**after else { panic!("{after:?}") };
        for ((field, _), column) in fields.iter().zip(&table.columns) {
            prop_assert_eq!(&name::unescape(field), &column.name);
            let told = serde_json::to_string(&column.name).unwrap();
            let told = format!("\"__debezium.source.column.name\":{told}");
            prop_assert_eq!(schema.contains(&told), *field != column.name);
        }
    }

    /// Whatever comes in: an error or bytes that are read back, never a panic.
    #[test]
    fn no_text_is_fatal(text in prop_oneof!["\\PC{0,30}", "[-+0-9:. {}\"\\\\,\\[\\]=TZBCinfty]{0,30}"]) {
        let types = oracle::tables::every_type();
        for column_type in &types {
            let _ = written(column_type, &text);
            let _ = written(&array(column_type.clone()), &text);
        }
    }
}
