//! Snapshots: killed, parallel, beside a workload, and of tables that came later.

use std::time::Instant;

use super::stage::{PATIENCE, Stage};

const MANY: &str = "CREATE TABLE s.t (id int PRIMARY KEY, name text);
    INSERT INTO s.t SELECT g, repeat('x', 700) || g FROM generate_series(1, 20000) g";

/// debezium dbz#2330: a first snapshot that is interrupted begins at its first row again.
#[tokio::test(flavor = "multi_thread")]
async fn dbz_2330_a_killed_snapshot_does_not_start_over() {
    let mut stage = Stage::new("pain_resumed", MANY, "[snapshot]\nchunk_pages = 32\n").await;
    stage.source.start_armed("committed:6").unwrap();
    stage.source.wait(PATIENCE).unwrap();
    let before = stage.records("t").await.len();
    assert!(before > 0, "nothing was read before the kill");
    stage.source.start().unwrap();
    stage.assert_equal("t").await;
    let reads = stage.changes("t", 'r').await.len();
    assert!(
        reads < 20_000 + before,
        "{before} rows were read before the kill, and {reads} in all"
    );
}

/// debezium/debezium#4587: exactly once, but for the snapshot.
#[tokio::test(flavor = "multi_thread")]
async fn debezium_4587_exactly_once_includes_the_snapshot() {
    let mut stage = Stage::new(
        "pain_once",
        MANY,
        "[snapshot]\nchunk_pages = 8\nworkers = 1\n",
    )
    .await;
    // Rows that were produced and not committed are not there; those that were committed do not come again.
    for failpoint in ["produced:5", "committed:5"] {
        stage.source.start_armed(failpoint).unwrap();
        stage.source.wait(PATIENCE).unwrap();
    }
    stage.source.start().unwrap();
    stage.assert_equal("t").await;
}

/// airbyte#18573, peerdb#1750: connections that read in parallel see different states.
#[tokio::test(flavor = "multi_thread")]
async fn peerdb_1750_parallel_readers_see_one_state() {
    let sql = "CREATE TABLE s.t (id int PRIMARY KEY, balance int, filler text);
        INSERT INTO s.t SELECT g, 100, repeat('x', 500) FROM generate_series(1, 8000) g";
    let config = "[snapshot]\nchunk_pages = 16\nworkers = 4\n";
    let mut stage = Stage::new("pain_states", sql, config).await;
    let other = stage.pipeline.source().await.unwrap();
    stage.source.start().unwrap();
    // Money moves between rows that lie far apart, as long as the tables are read.
    let mut n = 0;
    while !stage
        .source
        .get("/ready")
        .is_ok_and(|(status, _)| status == 200)
    {
        n = n % 4000 + 1;
        let (from, to) = (n, 8001 - n);
        other
            .batch_execute(&format!(
                "UPDATE s.t SET balance = balance + CASE id WHEN {from} THEN -7 ELSE 7 END WHERE id IN ({from}, {to})"
            ))
            .await
            .unwrap();
        assert!(
            stage.source.is_running().unwrap(),
            "{}",
            stage.source.log_tail()
        );
    }
    stage.assert_equal("t").await;
    let reads = stage.changes("t", 'r').await;
    let balance = |text: &Option<String>| text.as_ref().unwrap().parse::<i64>().unwrap();
    let sum: i64 = reads
        .iter()
        .map(|read| balance(&read.after["balance"]))
        .sum();
    assert_eq!(
        (reads.len(), sum),
        (8_000, 800_000),
        "money was made or lost between the readers"
    );
}

/// Trendyol/go-pq-cdc#54: the snapshot is complete, and the stream does not begin until a restart.
#[tokio::test(flavor = "multi_thread")]
async fn go_pq_cdc_54_no_stall_between_snapshot_and_stream() {
    let mut stage = Stage::new("pain_stall", MANY, "[snapshot]\nchunk_pages = 32\n").await;
    stage.source.start().unwrap();
    let mut changed = 0;
    let deadline = Instant::now() + PATIENCE;
    while !stage
        .source
        .get("/ready")
        .is_ok_and(|(status, _)| status == 200)
    {
        changed += 1;
        stage
            .sql(&format!(
                "UPDATE s.t SET name = 'changed' WHERE id = {changed}"
            ))
            .await;
        assert!(
            stage.source.is_running().unwrap() && Instant::now() < deadline,
            "{}",
            stage.source.log_tail()
        );
    }
    // Nothing more is written: what was changed meanwhile must come by itself.
    stage.assert_equal("t").await;
    let active = format!(
        "SELECT active::text FROM pg_replication_slots WHERE slot_name = '{}'",
        stage.slot()
    );
    assert_eq!(stage.ask(&active).await.as_deref(), Some("true"));
}

/// Trendyol/go-pq-cdc#151, airbyte#20873: a large transaction is held in memory as a whole.
#[tokio::test(flavor = "multi_thread")]
async fn go_pq_cdc_151_a_large_transaction_in_bounded_memory() {
    let mut stage = Stage::streaming(
        "pain_large",
        "CREATE TABLE s.t (id int PRIMARY KEY, name text)",
    )
    .await;
    stage
        .sql("INSERT INTO s.t SELECT g, repeat('x', 900) FROM generate_series(1, 60000) g")
        .await;
    stage.quiet().await;
    // 54 MB of text in one transaction; what is resident without it is half of the bound.
    let peak = stage.source.peak_resident_bytes().unwrap();
    assert!(peak < 64 << 20, "{} MiB resident", peak >> 20);
    let published = stage.source.metric("tributary_source_events_total");
    assert!(published >= Some(60_000.0), "{published:?}");
}
