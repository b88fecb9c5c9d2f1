//! What wal2json's stream does not have: rows that the WAL lacks, and those of tables that were not asked for.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio_postgres::Client;
use tributary_tests::oracle::TopicReader;
use tributary_tests::stack::Stack;

use super::records::RawRecord;
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

impl Side {
    /// Other tables are asked for.
    fn select(&self, from: &str, to: &str) {
        let path = self.service.config_path();
        let config = std::fs::read_to_string(path).unwrap();
        assert!(config.contains(from), "{config}");
        std::fs::write(path, config.replacen(from, to, 1)).unwrap();
    }

    /// A transaction comes in, and the source dies when the first part of it is in the log.
    async fn dies_amid(&mut self, client: &Client, transaction: &str) {
        self.stop();
        client.batch_execute(transaction).await.unwrap();
        self.service.start_armed("committed:3").unwrap();
        assert!(!self.service.wait(PATIENCE).unwrap().success());
    }

    /// It goes on under another selection: first with the rest of that transaction, in a session of its own.
    async fn goes_on(&mut self) {
        let rest = "its rest is read under that one";
        let before = self.service.log().matches(rest).count();
        self.service.start().unwrap();
        logs(self, rest, before + 1).await;
        self.service.wait_ready(PATIENCE).unwrap();
    }
}

/// A change of the selection amid a transaction that is in the log in part: its rest is counted as its beginning was.
#[tokio::test]
async fn another_selection_amid_a_transaction_loses_and_doubles_nothing() {
    let sql = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); CREATE TABLE s.other (id int PRIMARY KEY);
        CREATE TABLE s.mark (id serial PRIMARY KEY)";
    let (stack, mut pipeline, client) = setup("plugins_selection", sql).await;
    pipeline.tables = ["s.t", "s.mark"].map(str::to_owned).to_vec();
    let mut side = Side::started(&pipeline, "wal2json").await;
    let insert = |first: u32| {
        format!(
            "BEGIN; INSERT INTO s.other SELECT generate_series({first}, {first} + 14999);
             INSERT INTO s.t SELECT generate_series({first}, {first} + 49999);
             INSERT INTO s.other SELECT generate_series({first} + 15000, {first} + 19999); COMMIT"
        )
    };
    side.dies_amid(&client, &insert(1)).await;
    side.select("\"s.t\", ", "\"s.t\", \"s.other\", ");
    side.goes_on().await;
    logs(&side, &read("s.other"), 1).await;
    side.caught_up(&client).await;
    assert_eq!(ids(&side, &stack, "s.other").await.len(), 20_000);
    once(&side.records(&stack, "s.t").await, 50_000);

    side.dies_amid(&client, &insert(100_001)).await;
    side.select("\"s.other\", ", "");
    side.goes_on().await;
    side.caught_up(&client).await;
    once(&side.records(&stack, "s.t").await, 100_000);
    side.stop();
}

/// Each record is there once.
fn once(records: &[RawRecord], count: usize) {
    let keys: BTreeSet<_> = records.iter().map(|record| &record.key).collect();
    assert_eq!((records.len(), keys.len()), (count, count));
}

/// The changes of its partitions come under their own names: taken in, it would lack them.
#[tokio::test]
async fn a_partitioned_table_that_comes_later_is_left_out() {
    let sql = "CREATE SCHEMA s; CREATE TABLE s.mark (id serial PRIMARY KEY)";
    let (_stack, pipeline, client) = setup("plugins_parts", sql).await;
    let config = "watch_interval_ms = 200";
    let mut side = Side::started_with(&pipeline, "wal2json", config).await;
    let parts = "CREATE TABLE s.parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
        CREATE TABLE s.part PARTITION OF s.parts DEFAULT; INSERT INTO s.parts VALUES (1);
        CREATE TABLE s.behind (id int PRIMARY KEY)";
    client.batch_execute(parts).await.unwrap();
    logs(&side, &read("s.behind"), 1).await;
    let log = side.service.log();
    assert_eq!(
        log.matches("table s.parts is partitioned").count(),
        1,
        "{log}"
    );
    assert!(!log.contains(&read("s.parts")), "{log}");
    side.caught_up(&client).await;
    side.stop();
}
