//! Statements that commit between a snapshot and what is read under it: the rows are read another way, never lost.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::stage::{OFTEN, PATIENCE, READ, Stage};

const KEYED: &str = "CREATE TABLE s.t (id int PRIMARY KEY, x text);
    CREATE SCHEMA o; CREATE TABLE o.next (LIKE s.t INCLUDING ALL)";
const KEYLESS: &str =
    "CREATE TABLE s.t (id int, x text); CREATE SCHEMA o; CREATE TABLE o.next (LIKE s.t)";
const ROWS: &str = "INSERT INTO s.t SELECT g, 'old ' || g FROM generate_series(1, 20) g;
    INSERT INTO o.next SELECT g, 'next ' || g FROM generate_series(10, 15) g";
/// The source's commits that a standby is awaited for.
const WAITING: &str = "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name LIKE 'tributary-source%'";
/// The last one leaves another table under the name.
const STATEMENTS: [&str; 3] = [
    "ALTER TABLE s.t ALTER COLUMN x TYPE text USING 'v' || x",
    "BEGIN; TRUNCATE s.t; INSERT INTO s.t SELECT g, 'new' FROM generate_series(15, 30) g; COMMIT",
    "BEGIN; ALTER TABLE s.t RENAME TO away; ALTER TABLE o.next SET SCHEMA s; ALTER TABLE s.next RENAME TO t; COMMIT",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_rewrite_between_the_first_snapshot_and_its_reading_loses_nothing() {
    for tables in [KEYED, KEYLESS] {
        for (at, statement) in STATEMENTS.into_iter().enumerate() {
            let sql = format!("{tables}; {ROWS}");
            let name = format!("safe_first_{at}_{}", tables.len());
            let mut stage = Stage::set(&name, &sql, OFTEN).await;
            let pause = stage.start_paused("snapshot-reading");
            stage.meanwhile(&pause, statement).await;
            stage.source.wait_ready(PATIENCE).unwrap();
            stage.converges("s.t", "s.t").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewrite_beside_a_chunk_loses_nothing() {
    read_again_beside("safe_chunk", KEYED, ["chunk-locking", "chunk-snapshot"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewrite_beside_a_table_without_a_key_loses_nothing() {
    let pauses = ["keyless-snapshot", "keyless-reading"];
    read_again_beside("safe_keyless", KEYLESS, pauses).await;
}

/// Each statement at each of the places, while all rows are read again.
async fn read_again_beside(name: &str, tables: &str, pauses: [&str; 2]) {
    for pause in pauses {
        let sql = format!("{tables}; {ROWS}");
        let mut stage = Stage::begin(&format!("{name}_{}", pause.len()), &sql, OFTEN).await;
        for statement in STATEMENTS {
            stage.source.stop(PATIENCE).unwrap();
            let read = stage.source.log().matches(READ).count();
            let pause = stage.start_paused(pause);
            stage.source.wait_ready(PATIENCE).unwrap();
            stage.read_again("s.t");
            stage.meanwhile(&pause, statement).await;
            stage.logs(READ, read + 1).await;
            stage.converges("s.t", "s.t").await;
        }
    }
}

/// A value that the WAL lacks is not taken for one that is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_rewrite_beside_a_look_up_loses_no_value() {
    let sql = "CREATE TABLE s.t (id int PRIMARY KEY, n int, x text); ALTER TABLE s.t ALTER x SET STORAGE EXTERNAL;
        INSERT INTO s.t SELECT g, 0, repeat('x', 9000) || g FROM generate_series(1, 5) g";
    for (name, statement) in [
        (
            "rewrite",
            "ALTER TABLE s.t ALTER COLUMN x TYPE text USING 'v' || x",
        ),
        (
            // Another table with the same keys is not asked.
            "swap",
            "BEGIN; ALTER TABLE s.t RENAME TO away; ALTER TABLE s.other RENAME TO t; COMMIT",
        ),
    ] {
        let sql = format!(
            "{sql}; CREATE TABLE s.other (LIKE s.t INCLUDING ALL);
             INSERT INTO s.other SELECT id, n, 'another' FROM s.t"
        );
        let mut stage = Stage::begin(&format!("safe_lookup_{name}"), &sql, OFTEN).await;
        stage.source.stop(PATIENCE).unwrap();
        let pause = stage.start_paused("lookup-snapshot");
        stage.source.wait_ready(PATIENCE).unwrap();
        stage.run("UPDATE s.t SET n = 1").await;
        stage.meanwhile(&pause, statement).await;
        stage.converges("s.t", "s.t").await;
        let records = stage.records("s.t").await;
        let changes = records.iter().filter_map(|record| record.change.as_ref());
        let lengths: Vec<usize> = changes
            .filter(|change| change.op == 'u')
            .map(|change| change.after["x"].as_ref().map_or(0, String::len))
            .collect();
        assert!(
            lengths.len() == 5 && lengths.iter().all(|length| *length > 9000),
            "{name}: {lengths:?}"
        );
    }
}

/// Where the stream does not come to the watermark, nobody waits for a chunk's lock as long as that lasts, nor until the
/// rest of the chunk is read.
#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_gives_its_lock_back_while_its_watermark_waits() {
    let sql = "CREATE TABLE s.t (id int PRIMARY KEY, x text);
        INSERT INTO s.t SELECT g, repeat('x', 1000) || g FROM generate_series(1, 5000) g;
        CREATE SCHEMA o; CREATE TABLE o.slow AS SELECT 1 AS n";
    let (mut stage, _server) = Stage::begin_alone("safe_behind", sql, OFTEN, &[]).await;
    stage.source.stop(PATIENCE).unwrap();
    let pause = stage.start_paused("chunk-snapshot");
    stage.source.wait_ready(PATIENCE).unwrap();
    // More than the first piece takes minutes.
    let slow = "(SELECT count(*) FROM o.slow) = 0 OR id < 1500 OR pg_sleep(0.1) IS NOT NULL";
    let command = ["snapshot", "--table", "s.t", "--where", slow];
    let (code, out, err) = stage.source.command(&command).unwrap();
    assert_eq!(code, 0, "{out}{err}");
    // Commits wait for a standby that is not there, the watermark's too.
    stage.reaches(&pause).await;
    stage
        .run("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        .await;
    stage.run("SELECT pg_reload_conf()").await;
    stage
        .until("SELECT current_setting('synchronous_standby_names') = 'nobody'")
        .await;
    std::fs::remove_file(&pause).unwrap();
    stage.until(&format!("SELECT EXISTS ({WAITING})")).await;
    stage
        .run("BEGIN; SET LOCAL lock_timeout = '60s'; LOCK TABLE s.t IN ACCESS EXCLUSIVE MODE; ROLLBACK")
        .await;
    stage.until(&format!("SELECT EXISTS ({WAITING})")).await;
    stage
        .run("SET synchronous_commit = local; DELETE FROM o.slow")
        .await;
    stage
        .run("ALTER SYSTEM RESET synchronous_standby_names")
        .await;
    stage.run("SELECT pg_reload_conf()").await;
    stage.logs(READ, 1).await;
    stage.converges("s.t", "s.t").await;
}

/// The reader ends, while its rows wait for the watermark: nobody else would begin again.
#[tokio::test(flavor = "multi_thread")]
async fn a_watermark_that_cannot_be_written_is_not_waited_for() {
    let mut stage = Stage::begin("safe_mark", &format!("{KEYED}; {ROWS}"), OFTEN).await;
    stage.source.stop(PATIENCE).unwrap();
    let pause = stage.start_paused("chunk-snapshot");
    stage.source.wait_ready(PATIENCE).unwrap();
    stage.read_again("s.t");
    stage.reaches(&pause).await;
    let marks =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()
        AND pid <> pg_backend_pid() AND query LIKE '%pg_logical_emit_message%'";
    stage.run(marks).await;
    std::fs::remove_file(&pause).unwrap();
    stage.logs(READ, 1).await;
    stage.converges("s.t", "s.t").await;
}

/// Once the rows from before are gone from the log, no cancel leaves it with a part of those of now.
#[tokio::test(flavor = "multi_thread")]
async fn a_bag_that_is_half_read_cannot_be_cancelled() {
    let sql = "CREATE TABLE s.t (id int, x text) PARTITION BY RANGE (id);
        CREATE TABLE s.t1 PARTITION OF s.t FOR VALUES FROM (0) TO (100);
        CREATE TABLE s.t2 PARTITION OF s.t FOR VALUES FROM (100) TO (200);
        INSERT INTO s.t SELECT g, 'row ' || g FROM generate_series(1, 199) g";
    let mut stage = Stage::begin("safe_cancel", sql, "").await;
    stage.source.stop(PATIENCE).unwrap();
    let pause = stage.start_paused("keyless-reading");
    stage.source.wait_ready(PATIENCE).unwrap();
    stage.read_again("s.t");
    stage.reaches(&pause).await;
    // Its first partition can be read, the second one not before it is let go.
    let other = stage.pipeline.source().await.unwrap();
    let lock = "BEGIN; LOCK TABLE s.t2 IN ACCESS EXCLUSIVE MODE";
    other.batch_execute(lock).await.unwrap();
    let (code, out, err) = stage.source.command(&["snapshot", "cancel"]).unwrap();
    assert_eq!(code, 0, "{out}{err}");
    std::fs::remove_file(&pause).unwrap();
    stage
        .logs("without this snapshot its topic lacks rows", 1)
        .await;
    other.batch_execute("ROLLBACK").await.unwrap();
    stage.logs(READ, 1).await;
    stage.converges("s.t", "s.t").await;
}

impl Stage {
    /// Starts the source, to wait at a place. The file for whose end it waits.
    pub(super) fn start_paused(&mut self, pause: &str) -> PathBuf {
        let file = self.pipeline.dir().join("paused");
        std::fs::write(&file, "").unwrap();
        self.source.start_paused(pause, &file).unwrap();
        file
    }

    /// Waits until the source waits.
    pub(super) async fn reaches(&mut self, pause: &Path) {
        let deadline = Instant::now() + PATIENCE;
        while !pause.with_added_extension("held").exists() {
            let log = self.source.log_tail();
            assert!(self.source.is_running().unwrap(), "{log}");
            assert!(Instant::now() < deadline, "the place is not passed:\n{log}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Runs statements while the source waits. If they wait for a lock of the source's, it goes on.
    async fn meanwhile(&mut self, pause: &Path, sql: &'static str) {
        self.reaches(pause).await;
        let deadline = Instant::now() + PATIENCE;
        let other = self.pipeline.source().await.unwrap();
        let running = tokio::spawn(async move { other.batch_execute(sql).await });
        let waits = "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
            WHERE NOT l.granted AND l.mode = 'AccessExclusiveLock' AND c.relname = 't')";
        while !running.is_finished() {
            let row = self.client.query_one(waits, &[]).await.unwrap();
            if row.get(0) {
                break;
            }
            assert!(Instant::now() < deadline, "{sql} does not end");
        }
        std::fs::remove_file(pause).unwrap();
        running.await.unwrap().unwrap();
    }
}
