//! A target that hangs must not make the sink's memory grow. A test binary of its own: it reads the process'
//! memory and the metrics.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests panic on what must not happen"
)]

#[allow(dead_code, reason = "shared with other test binaries")]
#[path = "sink/double.rs"]
mod double;
#[allow(dead_code, reason = "shared with other test binaries")]
#[path = "sink/stage.rs"]
mod stage;

use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::sync::{Mutex, MutexGuard};

use double::Target;
use stage::{Stage, start};

const RECORDS: &str = "tributary_sink_records_total";
const PARTITIONS: i32 = 4;
const ROWS: i64 = 2_000;
const ROW_BYTES: usize = 10_000;
const BUFFER_BYTES: usize = 16 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_held_writer_bounds_what_is_buffered() {
    let (_alone, metrics) = alone().await;
    let stage = Stage::new("memory").await;
    let topic = stage.topic("t");
    stage.create(&topic, PARTITIONS).await;
    for partition in 0..PARTITIONS {
        let base = i64::from(partition) * 1_000_000;
        let rows = (0..ROWS).map(|n| stage.wide_change('c', base + n, n, 10, ROW_BYTES));
        stage.send_all(&topic, partition, rows).await;
    }
    let target = Target::new();
    target.hold(true);
    let before = resident_bytes();
    let read_before = value(metrics, RECORDS);
    let changes_before = value(metrics, "tributary_sink_changes_total");
    let config = stage.config(&[&topic]);
    assert_eq!(config.batch.buffer_bytes, BUFFER_BYTES);
    let sink = start(config, target.clone());

    let read = until_no_more_is_read(metrics, read_before).await;
    let buffered = value(metrics, "tributary_sink_buffered_bytes");
    let grown = resident_bytes().saturating_sub(before);
    let rows_in_buffers = (BUFFER_BYTES / ROW_BYTES) as f64;
    assert!(
        read > rows_in_buffers / 2.0 && read < rows_in_buffers * 1.1,
        "{read} records"
    );
    assert!(
        buffered < (BUFFER_BYTES + 8 * ROW_BYTES) as f64,
        "{buffered} bytes"
    );
    assert!(
        grown < 48 * 1024 * 1024,
        "resident memory grew by {grown} bytes"
    );

    target.hold(false);
    let all = usize::try_from(i64::from(PARTITIONS) * ROWS).unwrap();
    target
        .until("all rows", |state| state.rows.len() == all)
        .await;
    for partition in 0..PARTITIONS {
        let expected: Vec<_> = (0..ROWS).collect();
        assert_eq!(target.state().offsets(partition), expected);
        stage.until_committed(&topic, partition, ROWS).await;
    }
    assert_eq!(value(metrics, "tributary_sink_assigned_partitions"), 4.0);
    assert!(value(metrics, "tributary_sink_freshness_seconds_count") > 0.0);
    assert!(value(metrics, "tributary_sink_write_seconds_count") > 0.0);
    until_value(metrics, "tributary_sink_lag_offsets", 0.0).await;
    sink.stop().await;
    assert_eq!(value(metrics, RECORDS) - read_before, all as f64);
    let changes = value(metrics, "tributary_sink_changes_total");
    assert_eq!(changes - changes_before, all as f64);
}

/// The bound holds whatever the number of partitions: with a share for each, 98 MiB were seen under a bound of 16.
#[tokio::test(flavor = "multi_thread")]
async fn memory_bound_with_many_partitions() {
    const MANY: i32 = 100;
    const WIDE_BYTES: usize = 900_000;
    let (_alone, metrics) = alone().await;
    let stage = Stage::new("many").await;
    let topic = stage.topic("t");
    stage.create(&topic, MANY).await;
    for partition in 0..MANY {
        let row = stage.wide_change('c', i64::from(partition), 1, 10, WIDE_BYTES);
        stage.send(&topic, partition, row).await;
    }
    let target = Target::new();
    target.hold(true);
    let mut config = stage.config(&[&topic]);
    config.batch.buffer_bytes = BUFFER_BYTES / 2;
    let before = value(metrics, RECORDS);
    let sink = start(config, target.clone());
    until_no_more_is_read(metrics, before).await;
    let buffered = value(metrics, "tributary_sink_buffered_bytes");
    assert!(
        buffered < (BUFFER_BYTES / 2 + 2 * WIDE_BYTES) as f64,
        "{buffered} bytes"
    );
    target.hold(false);
    let all = usize::try_from(MANY).unwrap();
    target
        .until("all rows", |state| state.rows.len() == all)
        .await;
    sink.stop().await;
}

/// One test at a time has the process' memory and metrics.
async fn alone() -> (MutexGuard<'static, ()>, &'static PrometheusHandle) {
    static ALONE: Mutex<()> = Mutex::const_new(());
    static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();
    let alone = ALONE.lock().await;
    let metrics = METRICS.get_or_init(|| PrometheusBuilder::new().install_recorder().unwrap());
    (alone, metrics)
}

/// Waits until the sink has read records, and has read no more for three seconds; returns how many.
async fn until_no_more_is_read(metrics: &PrometheusHandle, before: f64) -> f64 {
    let (mut read, mut unchanged) = (0.0, 0);
    while read == 0.0 || unchanged < 30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = value(metrics, RECORDS) - before;
        unchanged = if now > read { 0 } else { unchanged + 1 };
        assert!(unchanged < 600, "nothing is read within a minute");
        read = now;
    }
    read
}

async fn until_value(metrics: &PrometheusHandle, name: &str, wanted: f64) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while value(metrics, name) != wanted {
        let now = value(metrics, name);
        assert!(tokio::time::Instant::now() < deadline, "{name} is {now}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The sum of a metric's series; 0 if there is none yet.
fn value(metrics: &PrometheusHandle, name: &str) -> f64 {
    let text = metrics.render();
    let samples = text.lines().filter(|line| line.starts_with(name));
    samples
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib = line.split_whitespace().nth(1).unwrap();
    kib.parse::<u64>().unwrap() * 1024
}
