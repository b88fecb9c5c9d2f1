//! The closed lists: all that our topics may differ in from Debezium's.

use serde_json::{Value as Json, json};
use tributary_tests::debezium::Difference;

use super::kinds;

/// One kind of difference.
pub(crate) struct Meant {
    pub(crate) why: &'static str,
    /// Whether there is one in every run; some depend on what the server was doing.
    pub(crate) always: bool,
    pub(crate) holds: fn(&Difference) -> bool,
}

/// All that the schemas may differ in.
pub(crate) const STRUCTURE: [Meant; 4] = [
    Meant {
        why: "the topic's prefix is a part of names",
        always: true,
        holds: |it| it.what == "name" && other_prefix(it),
    },
    Meant {
        why: "a column outside the key is always optional, so that columns can come and go",
        always: true,
        holds: |it| {
            it.what == "optional"
                && column(it).is_some_and(|column| !is_key_column(&it.place, column))
                && (&it.debezium, &it.ours) == (&json!(false), &json!(true))
        },
    },
    Meant {
        why: "a column has no default but null: a table's may change, and every row is written whole",
        always: true,
        holds: |it| it.what == "default" && column(it).is_some() && it.ours.is_null(),
    },
    Meant {
        why: "source has region",
        always: true,
        holds: |it| it.what == "field" && it.path == "source.region" && it.debezium.is_null(),
    },
];

/// All that the records may differ in.
pub(crate) const VALUES: [Meant; 8] = [
    Meant {
        why: "the version is that of who wrote it",
        always: true,
        holds: |it| field(it) == "source.version",
    },
    Meant {
        why: "the name is the topic's prefix",
        always: true,
        holds: |it| field(it) == "source.name" && other_prefix(it),
    },
    Meant {
        why: "the region is ours",
        always: true,
        holds: |it| field(it) == "source.region" && it.debezium.is_null(),
    },
    Meant {
        why: "each says when it handled a change",
        always: true,
        holds: |it| {
            ["ts_ms", "ts_us", "ts_ns"].contains(&field(it))
                && it.debezium.is_i64()
                && it.ours.is_i64()
        },
    },
    Meant {
        why: "each took a snapshot of its own, in its own order",
        always: true,
        holds: |it| {
            op(it) == "r"
                && match field(it) {
                    "source.ts_ms" | "source.ts_us" | "source.ts_ns" | "source.lsn" => {
                        it.ours.is_i64()
                    }
                    "source.sequence" => it.ours.is_string(),
                    "source.txId" => it.ours.is_null(),
                    "source.snapshot" => it.ours == "true",
                    _ => false,
                }
        },
    },
    Meant {
        why: "an idle Debezium moves the last commit's position on with the server's keepalives",
        always: false,
        holds: |it| field(it) == "source.sequence" && later_commit(&it.debezium, &it.ours),
    },
    Meant {
        why: "what the replica identity does not hold is null in a deleted row, where Debezium makes values up",
        always: true,
        holds: |it| {
            let column = field(it).strip_prefix("before.");
            op(it) == "d"
                && column.is_some_and(|column| !is_key_column(&it.place, column))
                && it.ours.is_null()
                && made_up().contains(&it.debezium)
        },
    },
    Meant {
        why: "a numeric without a scale keeps the zeros that Postgres shows",
        always: true,
        holds: |it| field(it) == "after.total" && same_number(&it.debezium, &it.ours),
    },
];

/// The column that a place in an envelope's or a key's schema is.
pub(crate) fn column(it: &Difference) -> Option<&str> {
    if it.place.ends_with(" key") {
        return Some(&it.path)
            .filter(|path| !path.is_empty())
            .map(String::as_str);
    }
    let column = it
        .path
        .strip_prefix("before.")
        .or_else(|| it.path.strip_prefix("after."));
    column.filter(|column| !column.contains(['.', '[']))
}

fn is_key_column(place: &str, column: &str) -> bool {
    let table = place.split([' ', ',']).next().unwrap_or_default();
    let table = table.split_once('.').map_or("", |(_, table)| table);
    let key: &[&str] = match table {
        "catalog.product" | "sales.order" => &["id"],
        "inventory.stock" => &["product_id", "region"],
        "sales.order_line" => &["order_id", "line"],
        other => {
            let of_types = kinds::TABLES.iter().find(|(table, _)| *table == other);
            of_types
                .unwrap_or_else(|| panic!("the key of '{other}' is not known here"))
                .1
        }
    };
    key.contains(&column)
}

fn op(it: &Difference) -> &str {
    it.path.split_once('.').map_or("", |(op, _)| op)
}

pub(crate) fn field(it: &Difference) -> &str {
    it.path.split_once('.').map_or("", |(_, field)| field)
}

fn other_prefix(it: &Difference) -> bool {
    let rest = |name: &Json, prefix: &str| {
        let rest = name.as_str()?.strip_prefix(prefix)?;
        Some(
            rest.trim_start_matches(|c: char| c.is_ascii_digit())
                .to_owned(),
        )
    };
    let theirs = rest(&it.debezium, "peer_");
    theirs.is_some() && theirs == rest(&it.ours, "debezium_")
}

/// Whether two sequences differ only in that the first one's last commit is later.
fn later_commit(one: &Json, other: &Json) -> bool {
    let read = |sequence: &Json| -> Option<[u64; 2]> {
        let [commit, own]: [String; 2] = serde_json::from_str(sequence.as_str()?).ok()?;
        Some([commit.parse().ok()?, own.parse().ok()?])
    };
    match (read(one), read(other)) {
        (Some(one), Some(other)) => one[1] == other[1] && one[0] > other[0],
        _ => false,
    }
}

/// The defaults of the types, and those of the demo's columns.
fn made_up() -> [Json; 9] {
    [
        json!("listed"),
        json!(0),
        json!(""),
        json!(false),
        json!([]),
        json!("{}"),
        json!("decimal 0 scale 2"),
        json!({"scale": 0, "value": "bytes 00"}),
        json!("1970-01-01T00:00:00.000000Z"),
    ]
}

pub(crate) fn same_number(one: &Json, other: &Json) -> bool {
    let number = |decimal: &Json| {
        let digits = decimal["value"].as_str()?.strip_prefix("bytes ")?;
        let bytes = u32::try_from(digits.len() / 2).ok()?;
        // The sign is the first bit, wherever the number begins.
        let shift = 128_u32.checked_sub(8 * bytes)?;
        let unscaled = (i128::from_str_radix(digits, 16).ok()? << shift) >> shift;
        Some((unscaled, u32::try_from(decimal["scale"].as_i64()?).ok()?))
    };
    let (Some((one, one_scale)), Some((other, other_scale))) = (number(one), number(other)) else {
        return false;
    };
    let up = |number: i128, scale: u32| number.checked_mul(10_i128.checked_pow(scale)?);
    let scaled = up(one, other_scale);
    scaled.is_some() && scaled == up(other, one_scale)
}
