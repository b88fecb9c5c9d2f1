//! Positions in the WAL: idle databases, restarts, shared LSNs, slots that are gone.

use std::time::Instant;

use tributary_tests::stack::{Lifetime, Options, Part, Stack};

use super::stage::{PATIENCE, Stage};

const KEYED: &str = "CREATE TABLE s.t (id int PRIMARY KEY, name text)";

/// redpanda-data/connect#3198, supabase/etl#429: other tables and other databases write, ours is idle, and the slot holds
/// all of it.
#[tokio::test(flavor = "multi_thread")]
async fn redpanda_connect_3198_wal_growth_while_idle() {
    let sql = format!("{KEYED}; CREATE TABLE public.unrelated (line text)");
    let mut stage = Stage::streaming("pain_idle", &sql).await;
    for _ in 0..3 {
        stage
            .sql("INSERT INTO public.unrelated SELECT repeat('x', 500) FROM generate_series(1, 4000); CHECKPOINT")
            .await;
        let Stage {
            pipeline, source, ..
        } = &mut stage;
        // Nothing of ours was written: only what the source does by itself moves the slot.
        pipeline.wait_source(source, PATIENCE).await.unwrap();
    }
    let held = format!(
        "SELECT (pg_current_wal_lsn() - restart_lsn < 4000000)::text FROM pg_replication_slots WHERE slot_name = '{}'",
        stage.slot()
    );
    let deadline = Instant::now() + PATIENCE;
    while stage.ask(&held).await.as_deref() != Some("true") {
        assert!(
            Instant::now() < deadline,
            "the slot still holds the WAL of others"
        );
        stage.sql("CHECKPOINT").await;
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

/// debezium/debezium#3620: after a restart the source passes over what came in meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn debezium_3620_rows_skipped_after_a_restart() {
    let mut stage = Stage::streaming("pain_skipped", KEYED).await;
    for round in 0..4 {
        stage.source.kill().unwrap();
        stage
            .sql(&format!(
                "INSERT INTO s.t SELECT {round} * 100 + g, 'while away' FROM generate_series(1, 100) g"
            ))
            .await;
        stage.source.start().unwrap();
        stage.assert_equal("t").await;
    }
    assert_eq!(stage.changes("t", 'c').await.len(), 400);
}

/// debezium/debezium#7531: COPY gives many rows one LSN, and a restart between them loses the rest.
#[tokio::test(flavor = "multi_thread")]
async fn debezium_7531_several_events_at_one_lsn() {
    let mut stage = Stage::streaming("pain_shared_lsn", KEYED).await;
    stage.source.kill().unwrap();
    // More rows than one Kafka transaction takes, so that the kill falls between rows of one LSN.
    stage
        .sql("COPY s.t (id, name) FROM PROGRAM 'seq -f ''%.0f\tx'' 1 30000'")
        .await;
    stage.source.start_armed("committed:2").unwrap();
    let status = stage.source.wait(PATIENCE).unwrap();
    assert_eq!(status.code(), None, "it was to be killed between two rows");
    let some = stage.records("t").await.len();
    assert!(some > 0 && some < 30_000, "{some} rows");
    stage.source.start().unwrap();
    stage.assert_equal("t").await;
    assert_eq!(stage.changes("t", 'c').await.len(), 30_000);
}

/// debezium/debezium#4152, #4357: BEGIN has the LSN of the first row, and COMMIT's may be that of the next BEGIN.
#[tokio::test(flavor = "multi_thread")]
async fn debezium_4152_begin_and_commit_share_the_lsn_of_the_next_row() {
    let mut stage = Stage::streaming("pain_begin_lsn", KEYED).await;
    for id in 1..=5 {
        stage
            .sql(&format!("INSERT INTO s.t VALUES ({id}, 'alone')"))
            .await;
        stage.quiet().await;
        stage.source.stop(PATIENCE).unwrap();
        stage
            .sql(&format!("INSERT INTO s.t VALUES (-{id}, 'next')"))
            .await;
        stage.source.start().unwrap();
    }
    stage.assert_equal("t").await;
    assert_eq!(stage.changes("t", 'c').await.len(), 10);
}

/// debezium/debezium#3970, supabase/etl#935: a slot that was created again begins later, and nobody says so.
#[tokio::test(flavor = "multi_thread")]
async fn debezium_3970_a_recreated_slot_leaves_no_silent_gap() {
    let mut stage = Stage::streaming("pain_recreated", KEYED).await;
    stage.source.stop(PATIENCE).unwrap();
    let slot = stage.slot();
    stage
        .sql(&format!("SELECT pg_drop_replication_slot('{slot}')"))
        .await;
    stage.sql("INSERT INTO s.t VALUES (1, 'in the gap')").await;
    stage
        .sql(&format!(
            "SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"
        ))
        .await;
    stage.source.start().unwrap();
    let told = stage.stops();
    assert!(told.contains(&format!("slot '{slot}' stands at")), "{told}");
}

/// patroni/patroni#1056, #1749: after a failover there is no slot. Going on as if nothing were missing is the pain; the
/// failover itself is the matter of its own tests.
#[tokio::test(flavor = "multi_thread")]
async fn patroni_1056_a_lost_slot_is_told() {
    let mut stage = Stage::streaming("pain_lost", KEYED).await;
    stage.source.stop(PATIENCE).unwrap();
    let slot = stage.slot();
    stage
        .sql(&format!("SELECT pg_drop_replication_slot('{slot}')"))
        .await;
    stage.source.start().unwrap();
    let told = stage.stops();
    assert!(told.contains(&format!("slot '{slot}' is gone")), "{told}");
}

/// sequin#2122: what was in flight when the broker crashed comes twice.
#[tokio::test(flavor = "multi_thread")]
async fn sequin_2122_duplicates_after_a_broker_crash() {
    let dir = tempfile::Builder::new()
        .prefix("pains-")
        .tempdir_in(tributary_tests::target_dir())
        .unwrap();
    let options = Options {
        parts: vec![Part::Postgres, Part::Kafka, Part::Registry],
        lifetime: Lifetime::Owned,
        ..Options::default()
    };
    let stack = Stack::up(dir.path(), &options).unwrap();
    let mut stage = Stage::on(&stack, "pain_broker", KEYED, "").await;
    stage.source.start().unwrap();
    stage.quiet().await;
    for round in 0..40 {
        stage
            .sql(&format!(
                "INSERT INTO s.t SELECT {round} * 100 + g, repeat('x', 100) FROM generate_series(1, 100) g"
            ))
            .await;
        if round == 20 {
            stack.kill(Part::Kafka).unwrap();
        }
    }
    stack.start(Part::Kafka).unwrap();
    stage.assert_equal("t").await;
    assert_eq!(stage.changes("t", 'c').await.len(), 4_000);
}
