//! What wal2json's stream does not have: rows that the WAL lacks.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tributary_tests::oracle::TopicReader;
use tributary_tests::stack::Stack;

use super::{PATIENCE, Side, setup};

/// What the log says when all rows of a table are read beside the stream.
fn read(table: &str) -> String {
    format!("the table's rows are in the log table=\"{table}\"")
}

/// Waits until the log says this so often.
async fn logs(side: &Side, message: &str, times: usize) {
    let deadline = Instant::now() + PATIENCE;
    while side.service.log().matches(message).count() < times {
        let log = side.service.log_tail();
        assert!(
            Instant::now() < deadline,
            "not {times} x {message:?}:\n{log}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The ids of the rows that a topic has ever had.
async fn ids(side: &Side, stack: &Stack, table: &str) -> BTreeSet<String> {
    let mut reader = TopicReader::new(stack.kafka(), stack.registry_url());
    let records = reader.read(&side.topic(table)).await.unwrap();
    let ids = records.iter().filter_map(|record| record.key.get("id"));
    ids.cloned().collect()
}

/// Here nothing keeps a table from being unlogged for a while, and back it looks as before: what was loaded meanwhile is read.
#[tokio::test]
async fn rows_that_were_loaded_unlogged_are_read() {
    let sql = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, note text); CREATE TABLE s.n (id int PRIMARY KEY);
        CREATE TABLE s.mark (id serial PRIMARY KEY)";
    let (stack, pipeline, client) = setup("plugins_unlogged", sql).await;
    let config = "watch_interval_ms = 200";
    let mut side = Side::started_with(&pipeline, "wal2json", config).await;
    let load = |table: &str, first: u32| {
        format!(
            "BEGIN; ALTER TABLE s.{table} SET UNLOGGED; INSERT INTO s.{table} SELECT generate_series({first}, {first} + 9);
             ALTER TABLE s.{table} SET LOGGED; COMMIT"
        )
    };
    for table in ["t", "n"] {
        client.batch_execute(&load(table, 1)).await.unwrap();
        logs(&side, &read(&format!("s.{table}")), 1).await;
    }
    // Who stood still meanwhile has not seen it unlogged at any look.
    side.stop();
    for table in ["t", "n"] {
        let truncate = format!("BEGIN; TRUNCATE s.{table}; COMMIT");
        client.batch_execute(&truncate).await.unwrap();
        client.batch_execute(&load(table, 11)).await.unwrap();
    }
    side.service.start().unwrap();
    side.service.wait_ready(PATIENCE).unwrap();
    for table in ["t", "n"] {
        logs(&side, &read(&format!("s.{table}")), 2).await;
        side.caught_up(&client).await;
        assert_eq!(ids(&side, &stack, &format!("s.{table}")).await.len(), 20);
    }
    // What changes no row is not taken for it, where that can be told.
    client.batch_execute("VACUUM FULL s.t").await.unwrap();
    client.batch_execute("TRUNCATE s.t").await.unwrap();
    client.batch_execute(&load("n", 21)).await.unwrap();
    logs(&side, &read("s.n"), 3).await;
    let log = side.service.log();
    assert_eq!(log.matches(&read("s.t")).count(), 2, "{log}");
    side.stop();
}
