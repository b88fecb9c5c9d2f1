//! Settings of the database that decide how values print.

use tributary_tests::pipeline::Pipeline;
use tributary_tests::stack::{Postgres, Stack};

use super::stage::{PATIENCE, Row, Stage};

const SETTINGS: [&str; 5] = [
    "intervalstyle = 'sql_standard'",
    "extra_float_digits = 0",
    "bytea_output = 'escape'",
    "datestyle = 'German, DMY'",
    "timezone = 'Africa/Monrovia'",
];
/// Its local time was 44 minutes and 30 seconds behind UTC until 1972.
const TABLE: &str = "CREATE TABLE s.t (k float8 PRIMARY KEY, id int, i interval, f float4, b bytea, tz timetz, at timestamptz, d date,
    r tstzrange, dr daterange, a timestamptz[], fa float8[], fr numrange)";
const ROWS: &str = "INSERT INTO s.t SELECT id + 0.1::float8 + 0.2::float8, id, '-1 year 2 mons -3 days 04:05:06.7', 1.1::float4 / 3, '\\x00ff5c27',
    '12:00:00+05:30:15', '1971-12-31 23:59:59.123456+00', '2024-02-03', '[1971-01-02 03:04:05+00, 2024-02-03 04:05:06+00)',
    '[2024-02-03, 2024-05-06)', ARRAY['1969-07-20 20:17:40+00'::timestamptz], ARRAY[0.1::float8 + 0.2::float8, '-0', 'NaN'],
    '[1.5, 2.5)' FROM generate_series";
/// All columns as a connection prints them.
const PRINTED: &str = "SELECT t::text FROM s.t WHERE id = 1";

/// The rows of a source on a database with these settings, half of them read, half of them streamed.
async fn rows(name: &str, plugin: &str, settings: &[&str]) -> Vec<(Row, Row)> {
    let postgres = format!("plugin = \"{plugin}\"");
    let mut stage = Stage::set(name, TABLE, &postgres).await;
    stage.run(&format!("{ROWS}(1, 5) id")).await;
    for setting in settings {
        let alter = format!(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET {}', current_database()); END $$",
            setting.replace('\'', "''")
        );
        stage.run(&alter).await;
    }
    differs(&stage.pipeline, &stage.client, !settings.is_empty()).await;
    stage.source.start().unwrap();
    stage.source.wait_ready(PATIENCE).unwrap();
    stage
        .run(&format!("{ROWS}(6, 10) id; UPDATE s.t SET f = f * 7 WHERE id = 7; DELETE FROM s.t WHERE id IN (2, 8)"))
        .await;
    stage.catch_up().await;
    let mut records = stage.records("s.t").await;
    records.sort_by_key(|record| record.seq);
    let rows = records.into_iter().map(|record| {
        let key = record
            .key
            .into_iter()
            .map(|(name, value)| (name, Some(value)));
        let after = record.change.map(|change| change.after);
        (key.collect(), after.unwrap_or_default())
    });
    let mut rows: Vec<(Row, Row)> = rows.collect();
    rows.sort_unstable();
    rows
}

/// Fails unless a connection that pins nothing prints the values differently, or not.
async fn differs(pipeline: &Pipeline, before: &tokio_postgres::Client, differs: bool) {
    let unpinned = pipeline.source().await.unwrap();
    let before: String = before.query_one(PRINTED, &[]).await.unwrap().get(0);
    let unpinned: String = unpinned.query_one(PRINTED, &[]).await.unwrap().get(0);
    assert_eq!(unpinned != before, differs, "{before}\n{unpinned}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_the_database_change_no_value() {
    let wanted = rows("settings_none", "pgoutput", &[]).await;
    assert_eq!(wanted.len(), 15);
    // Only Debian's servers come with the other plug-in.
    let has_both = Stack::from_env().unwrap().postgres() == Postgres::DEBIAN;
    let plugins = if has_both {
        &["pgoutput", "wal2json"][..]
    } else {
        &["pgoutput"]
    };
    for plugin in plugins {
        let found = rows(&format!("settings_{plugin}"), plugin, &SETTINGS).await;
        assert_eq!(found, wanted, "{plugin}");
    }
}
