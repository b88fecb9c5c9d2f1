//! Tables without a key that are read again while somebody writes, and what may keep that from beginning.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use tokio::task::JoinHandle;
use tributary_tests::pipeline::Pipeline;

use super::stage::{OFTEN, PATIENCE, READ, Stage};

const TABLES: &str =
    "CREATE TABLE s.journal (n int, line text); CREATE TABLE s.t (id int PRIMARY KEY);
    INSERT INTO s.journal SELECT g, 'before' FROM generate_series(1, 200) g";

const NOT_YET: &str = "the table cannot be read yet";

/// Somebody who inserts without a pause, and now and then truncates.
struct Writer {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU32>,
    running: JoinHandle<()>,
}

impl Writer {
    async fn start(pipeline: &Pipeline, line: String, truncates: bool) -> Self {
        let client = pipeline.source().await.unwrap();
        let (stop, written) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU32::new(0)),
        );
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&written));
        let running = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                let n = count.fetch_add(1, Ordering::Relaxed);
                let sql = if truncates && n % 400 == 399 {
                    "TRUNCATE s.journal".to_owned()
                } else {
                    format!("INSERT INTO s.journal VALUES ({n}, '{line}')")
                };
                client.batch_execute(&sql).await.unwrap();
            }
        });
        Self {
            stop,
            written,
            running,
        }
    }

    /// Waits until so much more is written.
    async fn writes(&self, more: u32) {
        let enough = self.written.load(Ordering::Relaxed) + more;
        let deadline = Instant::now() + PATIENCE;
        while self.written.load(Ordering::Relaxed) < enough {
            assert!(Instant::now() < deadline, "nothing is written");
            tokio::task::yield_now().await;
        }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.running.await.unwrap();
    }
}

/// No session has ended because of a table without a key.
fn none_ended(stage: &Stage) -> bool {
    let log = stage.source.log();
    let mut ended = log
        .lines()
        .filter(|line| line.contains("the session ended"));
    let because = ["temporary slot", "is gone", "s.journal", "s.diary"];
    !ended.any(|line| because.iter().any(|words| line.contains(words)))
}

/// What is committed between the snapshot and the moment at which it is known is behind the rows, never lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_key_is_read_again_beside_its_writers() {
    let mut stage = Stage::begin("journal", TABLES, "").await;
    for round in 0..6 {
        let writers = [
            Writer::start(&stage.pipeline, format!("a {round}"), round % 2 == 1).await,
            Writer::start(&stage.pipeline, format!("b {round}"), false).await,
        ];
        writers[1].writes(50).await;
        stage.read_again("s.journal");
        stage.logs(READ, round + 1).await;
        writers[1].writes(50).await;
        for writer in writers {
            writer.end().await;
        }
        stage.catch_up().await;
        stage.same("s.journal", "s.journal").await;
    }
    assert!(none_ended(&stage), "{}", stage.source.log());
}

/// Neither a slot that cannot be had nor one that waits keeps the other tables.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_cannot_begin_keeps_no_other_table() {
    let settings = [("max_replication_slots", "2")];
    let (mut stage, _server) = Stage::begin_alone("no_slot", TABLES, "", &settings).await;
    stage
        .run("SELECT pg_create_physical_replication_slot('taken')")
        .await;
    stage.read_again("s.journal");
    stage.logs(NOT_YET, 2).await;
    stage
        .run("INSERT INTO s.t VALUES (1); INSERT INTO s.journal VALUES (0, 'streamed')")
        .await;
    stage.has_records("s.t", 1).await;
    stage.run("SELECT pg_drop_replication_slot('taken')").await;
    stage.logs(READ, 1).await;
    stage.converges("s.journal", "s.journal").await;

    let other = stage.pipeline.source().await.unwrap();
    let open = "BEGIN; INSERT INTO s.journal VALUES (0, 'open')";
    other.batch_execute(open).await.unwrap();
    stage.read_again("s.journal");
    stage.creates_slot().await;
    stage
        .run("INSERT INTO s.t VALUES (2); INSERT INTO s.journal VALUES (0, 'meanwhile')")
        .await;
    stage.has_records("s.t", 2).await;
    let waits = "waits for transactions that are open: the stream goes on";
    stage.logs(waits, 1).await;
    other.batch_execute("COMMIT").await.unwrap();
    stage.logs(READ, 2).await;
    stage.catch_up().await;
    stage.same("s.journal", "s.journal").await;
    assert!(none_ended(&stage), "{}", stage.source.log());
}

/// A snapshot that is taken while the stream is far behind would be held, and dead rows with it, until it comes there.
#[tokio::test(flavor = "multi_thread")]
async fn no_snapshot_waits_for_a_stream_that_is_far_behind() {
    let settings = [("max_replication_slots", "2")];
    let (mut stage, _server) = Stage::begin_alone("far", TABLES, "", &settings).await;
    stage
        .run("SELECT pg_create_physical_replication_slot('taken')")
        .await;
    stage.read_again("s.journal");
    stage.logs(NOT_YET, 1).await;
    stage.source.stop(PATIENCE).unwrap();
    stage
        .run("SELECT pg_drop_replication_slot('taken'); ALTER TABLE s.t ADD COLUMN x text")
        .await;
    let backlog = "INSERT INTO s.t SELECT g, repeat('x', 500) FROM generate_series(1, 30000) g";
    stage.run(backlog).await;
    // What comes first is not let through, so the rest is not read.
    let pause = stage.start_paused("produced-records");
    stage.reaches(&pause).await;
    let of_the_source = "pg_stat_activity WHERE application_name LIKE 'tributary-source%'";
    let held = format!("{of_the_source} AND state = 'idle in transaction'");
    let asked = format!("{of_the_source} AND query LIKE '%pg_logical_emit_message%'");
    let either = format!("SELECT EXISTS (SELECT FROM {held}) OR EXISTS (SELECT FROM {asked})");
    stage.until(&either).await;
    let held = format!("SELECT count(*) FROM {held}");
    let held: i64 = stage.client.query_one(&held, &[]).await.unwrap().get(0);
    assert_eq!(held, 0, "{}", stage.source.log_tail());
    std::fs::remove_file(&pause).unwrap();
    stage.logs(READ, 1).await;
    stage.converges("s.journal", "s.journal").await;
    stage.same("s.t", "s.t").await;
}

/// It was asked for, or begun, when the table was there.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_gone_before_it_is_read_keeps_no_other_table() {
    let tables = format!("{TABLES}; CREATE TABLE s.diary (line text)");
    let (mut stage, _server) = Stage::begin_alone("gone", &tables, OFTEN, &[]).await;
    let other = stage.pipeline.source().await.unwrap();
    let open = "BEGIN; INSERT INTO s.t VALUES (1)";
    other.batch_execute(open).await.unwrap();
    stage.read_again("s.journal");
    stage.read_again("s.diary");
    stage.logs("is read again", 2).await;
    stage.creates_slot().await;
    stage.source.stop(PATIENCE).unwrap();
    other.batch_execute("COMMIT").await.unwrap();
    stage
        .run("INSERT INTO s.journal VALUES (0, 'last'); INSERT INTO s.t SELECT g FROM generate_series(100, 30000) g;
            DROP TABLE s.journal; ALTER TABLE s.diary RENAME TO away")
        .await;
    // The watch tells of it once the stream has passed all of this; the rows are to be read before that.
    stage.source.start().unwrap();
    stage.source.wait_ready(PATIENCE).unwrap();
    stage.logs("its topic stays as it is", 2).await;
    stage.run("INSERT INTO s.t VALUES (2)").await;
    stage.converges("s.t", "s.t").await;
    assert_eq!(stage.fold("s.journal").await.len(), 201);
    assert!(none_ended(&stage), "{}", stage.source.log());

    stage.read_again("s.journal");
    stage.logs("no table of this source is s.journal", 1).await;
    stage.run("INSERT INTO s.t VALUES (3)").await;
    stage.converges("s.t", "s.t").await;
    assert!(none_ended(&stage), "{}", stage.source.log());
}

impl Stage {
    /// Waits until a topic has so many records.
    async fn has_records(&self, topic: &str, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.records(topic).await.len() < count {
            let log = self.source.log_tail();
            assert!(Instant::now() < deadline, "not {count} in {topic}:\n{log}");
        }
    }

    /// Waits until the slot to read a table under is being created.
    async fn creates_slot(&self) {
        let deadline = Instant::now() + PATIENCE;
        let query = "SELECT count(*) FROM pg_replication_slots WHERE temporary";
        while self
            .client
            .query_one(query, &[])
            .await
            .unwrap()
            .get::<_, i64>(0)
            == 0
        {
            assert!(Instant::now() < deadline, "no temporary slot appears");
            tokio::task::yield_now().await;
        }
    }
}
