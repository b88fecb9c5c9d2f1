//! Records the seeds of the fuzz targets: what a real server sends for the workload.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use tokio_postgres::{Client, SimpleQueryMessage};

use super::{setup, workload};

/// Longer payloads teach a fuzzer nothing, and would fill the repository.
const LONGEST: usize = 8 << 10;

/// What START_REPLICATION asks of wal2json, as the source does.
const WAL2JSON: &str = "'format-version', '2', 'include-xids', 'true', 'include-timestamp', 'true', 'include-lsn', 'true',
    'include-pk', 'true', 'include-type-oids', 'true', 'add-tables', 's.*'";

async fn texts(client: &Client, sql: &str) -> Vec<Vec<Option<String>>> {
    let messages = client.simple_query(sql).await.unwrap();
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    rows.map(|row| {
        (0..row.len())
            .map(|at| row.get(at).map(str::to_owned))
            .collect()
    })
    .collect()
}

fn write(file: &str, lines: impl Iterator<Item = String>) {
    let mut text = String::new();
    for line in lines.filter(|line| line.len() <= LONGEST) {
        writeln!(text, "{line}").unwrap();
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    fs::write(folder.join(file), text).unwrap();
}

#[tokio::test]
#[ignore = "writes into fuzz/seeds: make fuzz-seeds"]
async fn record_the_seeds() {
    let (_stack, _pipeline, client) = setup("plugins_seeds", workload::TABLES).await;
    let publication = "CREATE PUBLICATION seeds FOR TABLES IN SCHEMA s";
    client.batch_execute(publication).await.unwrap();
    let name = format!("seeds_{}", std::process::id());
    for (suffix, plugin) in [("p", "pgoutput"), ("w", "wal2json")] {
        let create =
            format!("SELECT pg_create_logical_replication_slot('{name}_{suffix}', '{plugin}')");
        client.batch_execute(&create).await.unwrap();
    }
    client
        .batch_execute("ALTER TABLE s.bag REPLICA IDENTITY FULL")
        .await
        .unwrap();
    let settings = "SET TimeZone = 'UTC'; SET extra_float_digits = 3; SET search_path = ''; SET IntervalStyle = 'postgres';
        SET lc_monetary = 'C'; CREATE EXTENSION hstore SCHEMA s; CREATE EXTENSION ltree SCHEMA s";
    client.batch_execute(settings).await.unwrap();
    let mut values = Vec::new();
    for (type_name, literals) in LITERALS {
        for literal in *literals {
            let sql = format!(
                "SELECT '{}'::{type_name}::text",
                literal.replace('\'', "''")
            );
            let text = texts(&client, &sql).await.remove(0).remove(0).unwrap();
            values.push(line(type_name.trim_start_matches("s."), &text));
        }
    }
    values.push(line("boolean[][]", "{{t,f},{f,NULL}}"));
    for transaction in workload::STEPS.iter().copied().flatten() {
        client.batch_execute(transaction).await.unwrap();
        values.extend(values_of(&client).await);
    }
    values.sort();
    values.dedup();
    let pgoutput = format!(
        "SELECT encode(data, 'hex') FROM pg_logical_slot_get_binary_changes('{name}_p', NULL, NULL,
            'proto_version', '1', 'publication_names', 'seeds', 'messages', 'true')"
    );
    let wal2json =
        format!("SELECT data FROM pg_logical_slot_get_changes('{name}_w', NULL, NULL, {WAL2JSON})");
    for (file, sql) in [("pgoutput.hex", pgoutput), ("wal2json.jsonl", wal2json)] {
        let rows = texts(&client, &sql).await;
        write(file, rows.into_iter().map(|mut row| row.remove(0).unwrap()));
    }
    write("values.tsv", values.into_iter());
    for suffix in ["p", "w"] {
        let drop = format!("SELECT pg_drop_replication_slot('{name}_{suffix}')");
        client.batch_execute(&drop).await.unwrap();
    }
}

/// Literals of types that the workload has not, or hardly; the server prints them.
const LITERALS: &[(&str, &[&str])] = &[
    ("money", &["-12.34", "92233720368547758.07", "0"]),
    ("bit(1)", &["1", "0"]),
    ("bit(11)", &["10101010101"]),
    ("bit varying(12)", &["", "1", "101010101010"]),
    ("bit varying", &["1111000011110000111100001111"]),
    ("s.hstore", &[r#"a=>1, "b c"=>NULL, "d\\"=>"\"x""#, ""]),
    ("s.ltree", &["Top.Science.Astronomy", ""]),
    ("tsvector", &["the 'quick'' fox':1A,2B jumps:3"]),
    ("xml", &[r#"<a b="c">d</a>"#]),
    (
        "interval",
        &[
            "1 year -2 mons 3 days -04:05:06.789",
            "178000000 years",
            "-00:00:00.000001",
            "0",
        ],
    ),
    (
        "numeric",
        &["NaN", "Infinity", "-Infinity", "1e-100", "1e130"],
    ),
    ("numeric(5,-2)", &["1234500"]),
    ("numeric(2,4)", &["0.0012"]),
    ("real", &["NaN", "Infinity", "3.4028235e38", "1e-45"]),
    ("double precision", &["NaN", "-Infinity", "5e-324", "0.1"]),
    (
        "date",
        &["infinity", "-infinity", "5874897-12-31", "4714-11-24 BC"],
    ),
    (
        "timestamp without time zone",
        &[
            "-infinity",
            "294276-12-31 23:59:59.999999",
            "4713-01-01 00:00:00 BC",
        ],
    ),
    (
        "timestamp with time zone",
        &["infinity", "294276-12-31 23:59:59.999999", "0001-01-01 BC"],
    ),
    (
        "time with time zone",
        &["00:00:00-15:59:59", "24:00:00+15:59"],
    ),
    ("bytea", &["", r"\xdeadbeef"]),
    ("bytea[]", &[r#"{"\\\\x00",NULL}"#]),
    (
        "timestamp with time zone[]",
        &[r#"{infinity,"2026-11-21 12:00:00.5+05:30"}"#],
    ),
    ("box[]", &["{(1,2),(3,4);(5,6),(7,8)}"]),
    ("integer[]", &["{}", "[0:1]={1,2}", "{{1,2},{3,4}}"]),
    ("text[]", &[r#"{NULL,"NULL","","a b"}"#]),
    ("point", &["(1.5,-0)"]),
    (
        "geometry",
        &["0101000020E6100000000000000000F03F0000000000000040"],
    ),
    (
        "geography[]",
        &["{0101000020E6100000000000000000F03F0000000000000040:NULL}"],
    ),
    ("vector", &["[1,-2.5,3e-05]"]),
    ("halfvec[]", &[r#"{"[1,2]",NULL}"#]),
    (
        "pair",
        &[r#"("(1.25,""(1,2)"")","{a,""b \\"" c"",NULL}")"#, "(,)"],
    ),
    ("pair[]", &[r#"{"(\"(1.25,)\",\"{x,y}\")",NULL}"#]),
];

/// `type<TAB>text` of every value in the table of all types.
async fn values_of(client: &Client) -> Vec<String> {
    let columns = "SELECT quote_ident(attname), format_type(coalesce(nullif(typbasetype, 0), atttypid), atttypmod)
        FROM pg_attribute JOIN pg_type t ON t.oid = atttypid
        WHERE attrelid = 's.many'::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''";
    let mut values = Vec::new();
    for row in texts(client, columns).await {
        let [Some(column), Some(type_name)] = row.as_slice() else {
            continue;
        };
        let type_name = match type_name.as_str() {
            "character varying(20)" | "character(5)" => "text",
            "json" => "jsonb",
            other if other.contains("Odd Type") || other.contains("Mood") => "mood",
            other => other,
        };
        let sql = format!("SELECT {column}::text FROM s.many WHERE {column} IS NOT NULL");
        for mut value in texts(client, &sql).await {
            values.push(line(type_name, &value.remove(0).unwrap()));
        }
    }
    values
}

fn line(type_name: &str, text: &str) -> String {
    let text = text
        .replace('\\', "\\\\")
        .replace('\n', "\\n")
        .replace('\t', "\\t");
    format!("{type_name}\t{text}")
}
