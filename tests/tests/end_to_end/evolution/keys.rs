//! A key that changes while the source runs.

use super::stage::{OFTEN, Stage};

const TABLE: &str = "CREATE TABLE s.t (a int NOT NULL, b int NOT NULL, v text, CONSTRAINT t_key PRIMARY KEY (a));
    INSERT INTO s.t SELECT g, g + 100, 'old' FROM generate_series(1, 20) g; ALTER TABLE s.t ALTER v SET STORAGE EXTERNAL";
const RESNAPSHOT: &str = "on_key_change = \"resnapshot\"\nwatch_interval_ms = 200";

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_key_stops_the_source_or_begins_a_new_generation() {
    let change = "ALTER TABLE s.t DROP CONSTRAINT t_key, ADD CONSTRAINT t_key PRIMARY KEY (b); UPDATE s.t SET v = 'new' WHERE a = 1";
    let mut stage = Stage::begin("key_stop", TABLE, OFTEN).await;
    stage.run(change).await;
    stage.stops_with("the key of table s.t was (a) and is (b) now");
    let mut stage = Stage::begin("key_again", TABLE, RESNAPSHOT).await;
    stage.run("UPDATE s.t SET v = 'before' WHERE a = 2").await;
    stage.run(change).await;
    stage.run("DELETE FROM s.t WHERE a = 3").await;
    stage.logs(super::stage::READ, 1).await;
    stage.converges("s.t", "s.t").await;
    // Another type is another key, too.
    stage
        .run("ALTER TABLE s.t ALTER b TYPE bigint; UPDATE s.t SET v = 'wide' WHERE a = 4")
        .await;
    stage.logs(super::stage::READ, 2).await;
    stage.converges("s.t", "s.t").await;
}

/// With FULL the stream does not tell which columns are the key.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_key_is_noticed_with_full_identity() {
    let sql = format!("{TABLE}; ALTER TABLE s.t REPLICA IDENTITY FULL");
    let mut stage = Stage::begin("key_full", &sql, RESNAPSHOT).await;
    stage
        .run("UPDATE s.t SET v = 'before' WHERE a = 2; ALTER TABLE s.t DROP CONSTRAINT t_key, ADD PRIMARY KEY (b); UPDATE s.t SET a = 0")
        .await;
    stage.logs(super::stage::READ, 1).await;
    stage.converges("s.t", "s.t").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_key_stops_the_source_and_not_the_application() {
    let mut stage = Stage::begin("key_lost", TABLE, RESNAPSHOT).await;
    stage.run("ALTER TABLE s.t DROP CONSTRAINT t_key").await;
    stage.stops_with("table s.t has lost its key (a)");
    stage
        .run("UPDATE s.t SET v = 'on'; DELETE FROM s.t WHERE a = 7")
        .await;
    // With its key back, nothing of that is missing.
    stage
        .run("ALTER TABLE s.t ADD CONSTRAINT t_key PRIMARY KEY (a)")
        .await;
    stage.source.start().unwrap();
    stage.source.wait_ready(super::stage::PATIENCE).unwrap();
    stage.logs(super::stage::READ, 1).await;
    stage.converges("s.t", "s.t").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gained_key_stops_the_source() {
    let table = "CREATE TABLE s.t (a int NOT NULL, v text); INSERT INTO s.t SELECT g, 'old' FROM generate_series(1, 20) g";
    let mut stage = Stage::begin("key_gained", table, OFTEN).await;
    stage.run("ALTER TABLE s.t ADD PRIMARY KEY (a)").await;
    stage.stops_with("table s.t had no key and has one now (a)");
}

/// As a bulk load does it: what comes without the key has all columns, and no row could be changed.
#[tokio::test(flavor = "multi_thread")]
async fn a_load_without_the_key_goes_through() {
    let mut stage = Stage::begin("key_load", TABLE, OFTEN).await;
    for (from, without, with) in [
        (
            101,
            "ALTER TABLE s.t DROP CONSTRAINT t_key",
            "ALTER TABLE s.t ADD CONSTRAINT t_key PRIMARY KEY (a)",
        ),
        (
            201,
            "ALTER TABLE s.t REPLICA IDENTITY NOTHING",
            "ALTER TABLE s.t REPLICA IDENTITY DEFAULT",
        ),
    ] {
        let load = format!(
            "BEGIN; {without}; INSERT INTO s.t SELECT g, g, 'loaded' FROM generate_series({from}, {from} + 9) g; {with};
             UPDATE s.t SET v = 'behind' WHERE a = {from}; COMMIT; DELETE FROM s.t WHERE a = {from} + 1"
        );
        stage.run(&load).await;
        stage.converges("s.t", "s.t").await;
    }
    let sessions = stage.source.metric("tributary_source_sessions_total");
    assert_eq!(sessions, Some(1.0), "{}", stage.source.log_tail());
}
