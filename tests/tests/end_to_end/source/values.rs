//! Values at the ends of their types, from a real server: each arrives as it is.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use tokio_postgres::Client;
use tributary_tests::service::Kind;
use tributary_tests::stack::Postgres;

use super::{PATIENCE, pipeline, records};

/// Extensions, in a schema of their own, and an enum whose labels have any character.
const TYPES: &str = r#"
CREATE SCHEMA s; CREATE SCHEMA ext;
CREATE EXTENSION hstore SCHEMA ext; CREATE EXTENSION ltree SCHEMA ext; CREATE EXTENSION citext SCHEMA ext;
CREATE TYPE s."odd name" AS ENUM ('a b', '"', ',', '''', '{}', '\', 'NULL', 'ä😀');
CREATE DOMAIN s.price AS money CHECK (VALUE > '-92233720368547758.08');
"#;

/// A column: its type, and the values of its rows as SQL.
type Column = (&'static str, &'static [&'static str]);

const TIMES: [Column; 10] = [
    (
        "date",
        &[
            "infinity",
            "-infinity",
            "0044-03-15 BC",
            "4713-01-01 BC",
            "5874897-12-31",
            "10000-01-01",
            "0001-01-01",
        ],
    ),
    (
        "timestamp",
        &[
            "infinity",
            "-infinity",
            "4713-01-01 00:00:00 BC",
            "0001-12-31 23:59:59.999999 BC",
            "294246-12-31 23:59:59.999999",
            "1969-12-31 23:59:59.999999",
        ],
    ),
    (
        "timestamp(3)",
        &[
            "infinity",
            "-infinity",
            "294276-12-31 23:59:59.999",
            "0044-03-15 12:34:56.789 BC",
        ],
    ),
    (
        "timestamptz",
        &[
            "infinity",
            "-infinity",
            "4713-01-01 00:00:00+00 BC",
            "294276-12-31 23:59:59.999999+00",
            "2000-01-01 00:00:00+15:59:59",
            "0001-01-01 00:00:00+00",
        ],
    ),
    ("time", &["24:00:00", "00:00:00", "23:59:59.999999"]),
    ("time(3)", &["24:00:00", "00:00:00.001"]),
    (
        "timetz",
        &[
            "24:00:00+00",
            "24:00:00-15:59:59",
            "12:00:00+05:30:15",
            "00:00:00.000001+15:59",
            "23:59:59.9-08",
        ],
    ),
    (
        "interval",
        &[
            "178000000 years",
            "-178956970 years -8 mons -2147483648 days -2562047788:00:54.775807",
            "1 day -00:00:00.000001",
            "0",
        ],
    ),
    // The same values as text, for good.
    (
        "timestamp /* as text */",
        &[
            "294276-12-31 23:59:59.999999",
            "infinity",
            "0044-03-15 12:00:00 BC",
        ],
    ),
    (
        "date[] /* as text */",
        &["[2:3]={2020-01-01,infinity}", "{{2020-01-01},{NULL}}", "{}"],
    ),
];

const NUMBERS: [Column; 14] = [
    ("bool", &["t", "f"]),
    ("int2", &["-32768", "32767"]),
    ("int4", &["-2147483648", "2147483647"]),
    ("int8", &["-9223372036854775808", "9223372036854775807"]),
    ("oid", &["4294967295", "0"]),
    (
        "real",
        &[
            "NaN",
            "Infinity",
            "-Infinity",
            "-0",
            "1e-45",
            "3.4028235e38",
        ],
    ),
    (
        "float8",
        &[
            "NaN",
            "Infinity",
            "-Infinity",
            "-0",
            "5e-324",
            "1.7976931348623157e308",
        ],
    ),
    (
        "numeric",
        &[
            "NaN",
            "Infinity",
            "-Infinity",
            "1.500",
            "-0.0001",
            "1e999",
            "-9e-999",
        ],
    ),
    ("numeric(1000,500)", &["-1e499", "1e-500", "0"]),
    ("numeric(5,-2)", &["-9999900", "100"]),
    ("numeric(3,5)", &["0.00999", "-0.00001"]),
    (
        "money",
        &[
            "-92233720368547758.08",
            "92233720368547758.07",
            "0",
            "-0.01",
            "1234.5",
        ],
    ),
    ("s.price", &["-1234.56"]),
    ("bit(1)", &["0", "1"]),
];

const TEXTS: [Column; 33] = [
    ("bit(10)", &["0000000001", "1000000000", "0000000000"]),
    (
        "bit(24)",
        &["000000000000000000000001", "100000000000000000000000"],
    ),
    ("bit varying(12)", &["", "0", "000", "101", "000000000000"]),
    (
        "bit varying",
        &[
            "",
            "0101",
            "10000000000000000000000000000000000000000000000000000000000000000",
        ],
    ),
    (
        "text",
        &[
            "",
            "\\",
            "\\N",
            "NULL",
            "infinity",
            "a\tb\nc\r\u{b}\u{1}",
            "\u{10ffff}\u{fffe}e\u{301}\u{202e}\u{2028}😀",
        ],
    ),
    ("varchar(5)", &["", "é😀"]),
    ("char(5)", &["", "ab"]),
    ("\"char\"", &["x", ""]),
    ("name", &["n"]),
    ("ext.citext", &["", "Größe"]),
    (
        "s.\"odd name\"",
        &["a b", "\"", ",", "'", "{}", "\\", "NULL", "ä😀"],
    ),
    ("bytea", &["", "\\x00ff5c27"]),
    ("uuid", &["ffffffff-ffff-ffff-ffff-ffffffffffff"]),
    (
        "json",
        &[
            "{\"a\" : [1, 1e400, null], \"a\":\"\\u0000\"}",
            "null",
            "\"\"",
        ],
    ),
    (
        "jsonb",
        &[
            "{\"b\": 123456789012345678901234567890.10, \"a\": \"x\"}",
            "{}",
        ],
    ),
    ("xml", &["<a b=\"c\">&amp;</a>", ""]),
    (
        "ext.hstore",
        &[
            "",
            "\"a b\"=>\"\\\"\\\\\", k=>NULL, \"\"=>\"\", \"=>\"=>\"NULL\", ü=>😀",
        ],
    ),
    ("ext.ltree", &["", "Top.Science.a_1"]),
    ("ext.lquery", &["Top.*{0,2}.!x"]),
    ("tsvector", &["", "'a b':1A,2 cat 'it''s':16383"]),
    ("tsquery", &["fat & (rat | !cat:AB*)"]),
    ("inet", &["10.0.0.1/8", "::ffff:1.2.3.4/127", "0.0.0.0"]),
    ("cidr", &["10.0.0.0/8", "::/0"]),
    ("macaddr", &["08:00:2b:01:02:03"]),
    ("macaddr8", &["08:00:2b:01:02:03:04:05"]),
    ("int4range", &["empty", "(,)", "[1,5)"]),
    ("tstzrange", &["[\"0044-03-15 00:00:00+00 BC\",infinity)"]),
    ("nummultirange", &["{}", "{[1.5,2),(5,]}"]),
    ("pg_lsn", &["FFFFFFFF/FFFFFFFF", "0/0"]),
    ("xid", &["4294967295"]),
    ("jsonpath", &["$.\"a\"[*] ? (@ > 1)"]),
    ("regclass", &["pg_catalog.pg_class", "s.v"]),
    ("regtype", &["s.\"odd name\"", "ext.hstore[]"]),
];

/// Types and values that no server before version 15 has.
const SINCE_15: [&str; 3] = [
    "numeric(5,-2)",
    "numeric(3,5)",
    "-178956970 years -8 mons -2147483648 days -2562047788:00:54.775807",
];

/// What the server has of all.
fn columns() -> Vec<(&'static str, Vec<&'static str>)> {
    let server = Postgres::from_env().unwrap().unwrap_or_default();
    let has = |it: &&str| server.major() >= 15 || !SINCE_15.contains(it);
    let columns = [&TIMES[..], &NUMBERS, &TEXTS].concat().into_iter();
    let columns = columns.filter(|(sql_type, _)| has(sql_type));
    columns
        .map(|(sql_type, values)| (sql_type, values.iter().copied().filter(has).collect()))
        .collect()
}

/// The statements that create the table and fill it with rows whose keys begin at `first`.
fn rows(first: usize) -> String {
    let columns = columns();
    let count = columns
        .iter()
        .map(|(_, values)| values.len())
        .max()
        .unwrap();
    let tuples: Vec<String> = (0..count)
        .map(|row| {
            let values = columns.iter().map(|(_, values)| {
                values.get(row).map_or("NULL".to_owned(), |value| {
                    format!("'{}'", value.replace('\'', "''"))
                })
            });
            let values: Vec<String> = values.collect();
            format!("({}, {})", first + row, values.join(", "))
        })
        .collect();
    format!(
        "SET search_path = s, ext, public; INSERT INTO s.v VALUES {};",
        tuples.join(",\n")
    )
}

fn create() -> String {
    let columns: Vec<String> = columns()
        .iter()
        .enumerate()
        .map(|(index, (sql_type, _))| format!("c{index} {sql_type}"))
        .collect();
    format!(
        "{TYPES} CREATE TABLE s.v (id int PRIMARY KEY, {})",
        columns.join(", ")
    )
}

/// The SQL text that the oracle's text of a column must equal.
fn expression(index: usize, sql_type: &str) -> String {
    let name = format!("c{index}");
    match sql_type {
        "interval" => format!(
            "(extract(year from {name}) * 12 + extract(month from {name}))::numeric(20) || ' months '
             || extract(day from {name}) || ' days ' || (extract(hour from {name}) * 3600000000
             + extract(minute from {name}) * 60000000 + extract(microseconds from {name}))::numeric(30) || ' us'"
        ),
        "bool" => format!("CASE {name} WHEN true THEN 'true' WHEN false THEN 'false' END"),
        "bit(1)" => format!("CASE {name} WHEN B'1' THEN 'true' WHEN B'0' THEN 'false' END"),
        "money" | "s.price" => format!("({name}::numeric(20,2))::text"),
        "bytea" => format!("encode({name}, 'hex')"),
        "ext.hstore" => format!("ext.hstore_to_json({name})::text"),
        // By the type's output function: a cast to text strips char(n), and adds a mask to inet.
        _ => format!("CASE WHEN {name} IS NOT NULL THEN pg_catalog.format('%s', {name}) END"),
    }
}

/// All rows of the table, by key, as the oracle has them.
async fn expected(client: &Client) -> BTreeMap<String, Vec<Option<String>>> {
    client
        .batch_execute(
            "SET search_path = ''; SET TimeZone = 'UTC'; SET extra_float_digits = 3; SET lc_monetary = 'C'",
        )
        .await
        .unwrap();
    let expressions: Vec<String> = columns()
        .iter()
        .enumerate()
        .map(|(index, (sql_type, _))| expression(index, sql_type))
        .collect();
    let query = format!("SELECT id::text, {} FROM s.v", expressions.join(", "));
    let rows = client.query(&query, &[]).await.unwrap();
    rows.iter()
        .map(|row| {
            (
                row.get(0),
                (1..row.len()).map(|index| row.get(index)).collect(),
            )
        })
        .collect()
}

/// Whether two texts of a column are one value: floats and JSON have several texts for one.
fn same(sql_type: &str, ours: Option<&str>, theirs: Option<&str>) -> bool {
    let (Some(ours), Some(theirs)) = (ours, theirs) else {
        return ours == theirs;
    };
    match sql_type {
        "real" => {
            // The oracle has it as a double.
            let (ours, theirs): (f64, f32) = (ours.parse().unwrap(), theirs.parse().unwrap());
            ours.to_bits() == f64::from(theirs).to_bits()
        }
        "float8" => {
            let (ours, theirs): (f64, f64) = (ours.parse().unwrap(), theirs.parse().unwrap());
            ours.to_bits() == theirs.to_bits()
        }
        "ext.hstore" => {
            let json = |text| serde_json::from_str::<Json>(text).unwrap();
            json(ours) == json(theirs)
        }
        _ => ours == theirs,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn extremes_arrive_as_they_are() {
    let (stack, pipeline, client) = pipeline("extremes", &create()).await;
    client.batch_execute(&rows(0)).await.unwrap();
    let config = format!(
        "{}[[columns]]\nmatch = \"s.v.c8\"\nas = \"text\"\n[[columns]]\nmatch = '*.v.\"c9\"'\nas = \"text\"\n",
        pipeline.source_config()
    );
    let mut source = pipeline.service(Kind::Source, "source", &config).unwrap();
    source.start().unwrap();
    source.wait_ready(PATIENCE).unwrap();
    client.batch_execute(&rows(1000)).await.unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    assert!(
        !source.log().contains("has no Avro form of its own"),
        "{}",
        source.log()
    );

    let expected = expected(&client).await;
    let records = records(&stack, &pipeline, "s.v").await;
    assert_eq!(records.len(), expected.len());
    let mut wrong = Vec::new();
    for record in &records {
        let row = &expected[&record.key["id"]];
        let change = record.change.as_ref().unwrap();
        for (index, (sql_type, _)) in columns().iter().enumerate() {
            let (ours, theirs) = (&change.after[&format!("c{index}")], &row[index]);
            if !same(sql_type, ours.as_deref(), theirs.as_deref()) {
                wrong.push(format!("{} {sql_type}: {ours:?} for {theirs:?}", change.op));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
