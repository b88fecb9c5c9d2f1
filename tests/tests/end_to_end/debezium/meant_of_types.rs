//! What the topics of the tables of all types may differ in: docs/debezium.md says why.

use serde_json::{Value as Json, json};
use tributary_tests::debezium::Difference;

use super::meant::{Meant, column, field, same_number};

/// Columns that Debezium leaves out.
const LEFT_OUT: [&str; 13] = [
    "l_interval",
    "l_money",
    "l_point",
    "l_xml",
    "s_box",
    "s_circle",
    "s_line",
    "s_lseg",
    "s_lsn",
    "s_path",
    "s_place",
    "s_places",
    "s_polygon",
];

/// All that their schemas may differ in.
pub(crate) const STRUCTURE: [Meant; 7] = [
    Meant {
        why: "types that Debezium leaves out have a form",
        always: true,
        holds: |it| {
            it.what == "field"
                && it.debezium.is_null()
                && column(it).is_some_and(|column| LEFT_OUT.contains(&column))
        },
    },
    Meant {
        why: "an array of bit strings is an array",
        always: true,
        holds: |it| {
            column(it) == Some("l_bit")
                && ["type", "name", "version", "parameters"].contains(&it.what)
        },
    },
    Meant {
        why: "an array of two dimensions is an array of arrays",
        always: true,
        holds: |it| {
            it.path.ends_with(".l_matrix[]")
                && it.what == "type"
                && (&it.debezium, &it.ours) == (&json!("int32"), &json!("array"))
        },
    },
    Meant {
        why: "the items of an array of an enum may be null",
        always: true,
        holds: |it| it.path.ends_with(".l_mood[]") && it.what == "optional" && it.ours == true,
    },
    Meant {
        why: "money has a precision",
        always: true,
        holds: |it| {
            column(it) == Some("c_money")
                && it.ours == json!({"connect.decimal.precision": "19", "scale": "2"})
        },
    },
    Meant {
        why: "a bit varying of one bit is a bit string",
        always: true,
        holds: |it| {
            column(it) == Some("c_varbit1")
                && ["type", "name", "version", "parameters"].contains(&it.what)
        },
    },
    Meant {
        why: "the bytes of a bit varying say how many bits it has",
        always: true,
        holds: |it| {
            column(it).is_some_and(|column| column.starts_with("c_varbit"))
                && it.what == "parameters"
                && it.debezium["length"] == it.ours["length"]
        },
    },
];

/// All that their records may differ in.
pub(crate) const VALUES: [Meant; 10] = [
    Meant {
        why: "types that Debezium leaves out have values",
        always: true,
        holds: |it| {
            it.debezium.is_null()
                && after(it).is_some_and(|column| LEFT_OUT.contains(&column) || column == "l_bit")
        },
    },
    Meant {
        why: "an array of an enum may hold nulls, with which Debezium's is null",
        always: true,
        holds: |it| {
            after(it) == Some("l_mood")
                && it.debezium.is_null()
                && it
                    .ours
                    .as_array()
                    .is_some_and(|items| items.contains(&Json::Null))
        },
    },
    Meant {
        why: "a time with time zone keeps its own offset and, in an array, its fraction",
        always: true,
        holds: |it| matches!(after(it), Some("c_timetz" | "l_timetz")),
    },
    Meant {
        why: "a bit string keeps its zeros in front",
        always: true,
        holds: |it| {
            matches!(
                after(it),
                Some("c_bit3" | "c_bit24" | "c_varbit" | "c_varbit10")
            ) && significant(&it.debezium).is_some()
                && significant(&it.debezium) == significant(&it.ours)
        },
    },
    Meant {
        why: "a bit varying of one bit is a bit string, for it may be empty",
        always: true,
        holds: |it| {
            after(it) == Some("c_varbit1")
                && [
                    (&json!(true), &json!("bytes 01")),
                    (&json!(false), &json!("bytes 00")),
                    (&Json::Null, &json!("bytes ")),
                ]
                .contains(&(&it.debezium, &it.ours))
        },
    },
    Meant {
        why: "a timestamp of the first century is not moved by two days",
        always: true,
        holds: |it| match after(it) {
            Some("c_timestamp") => moved(&it.debezium, &it.ours, 1_000_000),
            Some("c_timestamp3") => moved(&it.debezium, &it.ours, 1000),
            Some("l_timestamp") => moved(&it.debezium[0], &it.ours[0], 1_000_000),
            Some("c_timestamptz") => {
                it.debezium == "0000-12-30T00:00:00.000000Z"
                    && it.ours == "0001-01-01T00:00:00.000000Z"
            }
            _ => false,
        },
    },
    Meant {
        why: "the inner arrays of one with two dimensions have their items",
        always: true,
        holds: |it| {
            let lost = |items: &Vec<Json>| items.iter().all(Json::is_null);
            after(it) == Some("l_matrix") && it.debezium.as_array().is_some_and(lost)
        },
    },
    Meant {
        why: "in arrays too a numeric without a scale keeps the zeros that Postgres shows",
        always: true,
        holds: |it| after(it) == Some("l_numeric") && each(it, same_number),
    },
    Meant {
        why: "a time in an array keeps its microseconds",
        always: true,
        holds: |it| {
            let cut = |time: &Json| time.as_i64().map(|us| us / 1000);
            after(it) == Some("l_time") && each(it, |one, other| cut(one) == cut(other))
        },
    },
    Meant {
        why: "a truncate is in every partition, with a key",
        always: true,
        holds: |it| {
            it.place.contains(".kinds.Emptied, key ")
                && it.what == "sequence of operations"
                && [
                    (&json!(["t"]), &json!([])),
                    (&json!([]), &json!(["t", "t", "t"])),
                ]
                .contains(&(&it.debezium, &it.ours))
        },
    },
];

/// The column of the new row.
fn after(it: &Difference) -> Option<&str> {
    field(it).strip_prefix("after.")
}

/// The bytes of a little-endian number up to the last that counts.
fn significant(bits: &Json) -> Option<String> {
    let mut digits = bits.as_str()?.strip_prefix("bytes ")?;
    while let Some(rest) = digits.strip_suffix("00") {
        digits = rest;
    }
    Some(digits.to_owned())
}

/// Whether one is two days before the other, both counted in so many parts of a second.
fn moved(one: &Json, other: &Json, per_second: i64) -> bool {
    let (Some(one), Some(other)) = (one.as_i64(), other.as_i64()) else {
        return false;
    };
    other - one == 2 * 86_400 * per_second
}

/// Whether something holds of the items at each place.
fn each(it: &Difference, holds: impl Fn(&Json, &Json) -> bool) -> bool {
    let (Some(theirs), Some(own)) = (it.debezium.as_array(), it.ours.as_array()) else {
        return false;
    };
    let mut pairs = theirs.iter().zip(own);
    theirs.len() == own.len() && pairs.all(|(one, other)| one == other || holds(one, other))
}
