//! What the slot holds on the server: as little as may be, and never without saying so.

use tokio_postgres::Client;
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::shop;
use tributary_tests::stack::{Postgres, Server, Stack};

use super::{PATIENCE, events, fold, records, source, table, wait_until};

const TABLE: &str = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, name text);
    CREATE TABLE public.noise (text text);
    INSERT INTO s.t SELECT g, 'row ' || g FROM generate_series(1, 100) g";

/// Writes about 40 MB of WAL in tables that no source takes.
const NOISE: &str =
    "INSERT INTO public.noise SELECT repeat(md5(g::text), 10) FROM generate_series(1, 100000) g";

/// A pipeline on a server of its own: a slot keeps the WAL behind the oldest open transaction of any database, and such
/// a transaction keeps the new slots of all waiting.
async fn alone(name: &str) -> (Stack, Pipeline, Client, Server) {
    let stack = Stack::from_env().unwrap();
    let mut pipeline = Pipeline::new(&stack, name).await.unwrap();
    let version = Postgres::from_env().unwrap().unwrap_or_default();
    let server = Server::start_new(pipeline.dir(), "alone", version, &[]).unwrap();
    pipeline.source_url = server.url("postgres");
    pipeline.tables = vec!["s.*".to_owned()];
    let client = pipeline.source().await.unwrap();
    client.batch_execute(TABLE).await.unwrap();
    (stack, pipeline, client, server)
}

/// redpanda-data/connect#3198, supabase/etl#429: the WAL of a busy neighbour piles up behind the slot of a database
/// in which nothing happens.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_database_does_not_hold_the_wal_of_a_busy_one() {
    let (_stack, pipeline, client, server) = alone("idle").await;
    let mut source = source(&pipeline);
    source.wait_ready(PATIENCE).unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    let before = events(&source);
    client
        .batch_execute("CREATE DATABASE neighbour")
        .await
        .unwrap();
    let neighbour = shop::connect(&server.url("neighbour")).await.unwrap();
    neighbour
        .batch_execute("CREATE TABLE public.noise (text text)")
        .await
        .unwrap();
    let start = "SELECT pg_current_wal_lsn()::text";
    let start: String = client.query_one(start, &[]).await.unwrap().get(0);
    neighbour.batch_execute(NOISE).await.unwrap();
    let written = "SELECT (pg_current_wal_lsn() - $1::text::pg_lsn)::bigint";
    let written: i64 = client.query_one(written, &[&start]).await.unwrap().get(0);
    assert!(written > 30_000_000, "{written} bytes");
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    // What is kept follows what is confirmed with the next record of running transactions.
    neighbour.batch_execute("CHECKPOINT").await.unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    wait_until("the release of the WAL", || {
        let held = source.metric("tributary_source_slot_retained_bytes");
        held.is_some_and(|held| held < 10_000_000.0)
    })
    .await;
    assert!(events(&source) - before < 1.0, "nothing happened here");
}

fn limited(pipeline: &Pipeline, on_limit: &str) -> Service {
    let config = format!(
        "{}[slot]\nmax_retained_bytes = 20000000\non_limit = \"{on_limit}\"\n",
        pipeline.source_config()
    );
    let mut source = pipeline.service(Kind::Source, "source", &config).unwrap();
    source.start().unwrap();
    source
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_holds_too_much_is_said_and_flagged() {
    let (_stack, pipeline, client, _server) = alone("alerted").await;
    let mut source = limited(&pipeline, "alert");
    source.wait_ready(PATIENCE).unwrap();
    // An open transaction makes the slot keep all that comes behind it.
    let holder = pipeline.source().await.unwrap();
    holder
        .batch_execute("BEGIN; INSERT INTO s.t VALUES (0, 'held')")
        .await
        .unwrap();
    client.batch_execute(NOISE).await.unwrap();
    wait_until("the warning", || {
        let health = source.get("/health").unwrap();
        assert_eq!(health.0, 200, "it is no reason for a restart");
        health.1.contains("more than slot.max_retained_bytes")
    })
    .await;
    let (code, _, _) = source.command(&["status"]).unwrap();
    assert_eq!(code, 3);
    assert!(source.log().contains("ERROR"), "{}", source.log_tail());
    holder.batch_execute("COMMIT; CHECKPOINT").await.unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    wait_until("the end of the warning", || {
        !source
            .get("/health")
            .unwrap()
            .1
            .contains("max_retained_bytes")
    })
    .await;
    assert_eq!(source.metric("tributary_source_slot_drops_total"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_holds_too_much_is_dropped_and_every_row_read_again() {
    let (stack, pipeline, client, _server) = alone("dropped").await;
    let mut source = limited(&pipeline, "drop-and-resnapshot");
    source.wait_ready(PATIENCE).unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    let holder = pipeline.source().await.unwrap();
    holder
        .batch_execute("BEGIN; DELETE FROM s.t WHERE id % 2 = 0")
        .await
        .unwrap();
    client.batch_execute(NOISE).await.unwrap();
    wait_until("the slot's end", || {
        source
            .metric("tributary_source_slot_drops_total")
            .is_some_and(|drops| drops >= 1.0)
    })
    .await;
    // The new slot waits for all that is open.
    holder.batch_execute("COMMIT").await.unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    client
        .batch_execute("UPDATE s.t SET name = 'after' WHERE id = 1")
        .await
        .unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    let records = records(&stack, &pipeline, "s.t").await;
    assert!(records.iter().any(|record| record.below.is_some()));
    assert!(
        fold(&records) == table(&client).await,
        "the topic, folded, is not the table"
    );
}
