//! What the source holds of the server's table of locks, and for how long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

const TABLES: usize = 60;
/// In each table: so many that reading them all takes long at this rate, and one of them does not.
const ROWS: usize = 100;
const ALL_ROWS: f64 = 6_120.0;
const SLOW: &str = "[snapshot]\nmax_rows_per_second = 600\n";
/// The most locks on relations that one connection of the source may hold, the catalog's included.
const MOST: i64 = 50;

/// What the log says when a table is read beside the stream.
const READ: &str = "the table's rows are in the log";

/// Looks at the locks of the source's connections until it is told to end.
struct Sampler {
    end: Arc<AtomicBool>,
    running: tokio::task::JoinHandle<i64>,
}

impl Sampler {
    async fn start(pipeline: &Pipeline) -> Self {
        let client = pipeline.source().await.unwrap();
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let running = tokio::spawn(async move {
            let query = "SELECT coalesce(max(locks), 0) FROM (SELECT count(*) AS locks FROM pg_locks l
                JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'relation'
                  AND a.application_name LIKE 'tributary-source%' AND a.datname = current_database() GROUP BY pid) one";
            let mut most = 0;
            while !ended.load(Ordering::Relaxed) {
                let row = client.query_one(query, &[]).await.unwrap();
                most = most.max(row.get::<_, i64>(0));
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            most
        });
        Self { end, running }
    }

    /// The most that one connection held at a moment.
    async fn end(self) -> i64 {
        self.end.store(true, Ordering::Relaxed);
        self.running.await.unwrap()
    }
}

fn tables() -> String {
    let mut sql = "CREATE SCHEMA s; CREATE TABLE s.parts (id int PRIMARY KEY, name text) PARTITION BY RANGE (id);
        CREATE TABLE s.bag (id int, name text) PARTITION BY RANGE (id);"
        .to_owned();
    for n in 0..TABLES {
        sql += &format!(
            "CREATE TABLE s.t{n:02} (id int PRIMARY KEY, name text);
             INSERT INTO s.t{n:02} SELECT g, 'row ' || g FROM generate_series(1, {ROWS}) g;
             CREATE TABLE s.parts_{n} PARTITION OF s.parts FOR VALUES FROM ({n}) TO ({n} + 1);
             CREATE TABLE s.bag_{n} PARTITION OF s.bag FOR VALUES FROM ({n}) TO ({n} + 1);"
        );
    }
    sql += &format!(
        "INSERT INTO s.parts SELECT g, 'row ' || g FROM generate_series(0, {TABLES} - 1) g;
         INSERT INTO s.bag SELECT g, 'row ' || g FROM generate_series(0, {TABLES} - 1) g"
    );
    sql
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshot_gives_its_locks_back() {
    let (stack, pipeline, client) = pipeline("locks", &tables()).await;
    let config = pipeline.source_config() + SLOW;
    let mut source = pipeline.service(Kind::Source, "source", &config).unwrap();
    source.start().unwrap();
    // The publications are made by then, which locks what they take in.
    wait_until("the slot to be created", || {
        source.log().contains("creating the slot")
    })
    .await;
    let sampler = Sampler::start(&pipeline).await;
    wait_until("a table to be read", || {
        let read = source.metric("tributary_source_snapshot_rows_total");
        read > Some(2.0 * f64::from(u32::try_from(ROWS).unwrap()))
    })
    .await;
    let read = read_table(&stack, &pipeline).await;
    client
        .batch_execute(&format!("ALTER TABLE s.{read} ADD COLUMN more int"))
        .await
        .unwrap();
    let other = pipeline.source().await.unwrap();
    let query = format!("SELECT count(*) FROM s.{read}");
    other.query_one(&query, &[]).await.unwrap();
    let rows = source.metric("tributary_source_snapshot_rows_total");
    assert!(
        rows < Some(ALL_ROWS),
        "the change of s.{read} has waited until all is read"
    );
    source.wait_ready(PATIENCE).unwrap();
    let most = sampler.end().await;
    println!("at most {most} locks on relations");
    assert!(most <= MOST, "{most} locks in the first snapshot");

    let sampler = Sampler::start(&pipeline).await;
    for table in ["s.parts", "s.bag"] {
        let before = source.log().matches(READ).count();
        let (code, out, err) = source.command(&["snapshot", "--table", table]).unwrap();
        assert_eq!(code, 0, "{out}{err}");
        wait_until("the table to be read again", || {
            source.log().matches(READ).count() > before
        })
        .await;
    }
    let most = sampler.end().await;
    assert!(most <= MOST, "{most} locks beside the stream");
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    for table in ["s.t00", "s.t59", "s.parts"] {
        let topic = fold(&records(&stack, &pipeline, table).await);
        assert_eq!(topic, rows_of(&client, table).await, "{table}");
    }
}

async fn rows_of(client: &Client, table: &str) -> BTreeMap<String, String> {
    let sql = format!("SELECT id::text, name FROM {table}");
    let rows = client.query(&sql, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// A table whose rows are all in the log.
async fn read_table(stack: &Stack, pipeline: &Pipeline) -> String {
    for n in 0..TABLES {
        let table = format!("t{n:02}");
        if records(stack, pipeline, &format!("s.{table}")).await.len() == ROWS {
            return table;
        }
    }
    panic!("no table is read");
}
