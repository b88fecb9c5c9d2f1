//! Thousands of partitions. A test binary of its own: it reads the process' time.

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

use std::time::Duration;

use tokio::time::Instant;

use double::Target;
use stage::{Stage, start};

const TOPICS: i32 = 300;
const PARTITIONS: i32 = 8;
/// A restart has begun to read all partitions within this time.
const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes 2,400 partitions"]
async fn restart_with_thousands_of_partitions() {
    let stage = Stage::new("thousands").await;
    let topics: Vec<_> = (0..TOPICS).map(|n| stage.topic(&format!("t{n}"))).collect();
    for topic in &topics {
        stage.create(topic, PARTITIONS).await;
    }
    // A row in each partition, by which it shows that it is read.
    for round in 0..2 {
        for (n, topic) in (0..).zip(&topics) {
            for partition in 0..PARTITIONS {
                let id = i64::from(n * PARTITIONS + partition);
                let row = stage.change('c', id, round, 10 + u64::try_from(round).unwrap());
                stage.send_all(topic, partition, [row]).await;
            }
        }
        let target = Target::new();
        let begun = Instant::now();
        let pattern = format!("{}.*", stage.prefix);
        let sink = start(stage.config(&[&pattern]), target.clone());
        let all = usize::try_from(TOPICS * PARTITIONS).unwrap();
        target
            .until("a row of each partition", |state| state.rows.len() == all)
            .await;
        let took = begun.elapsed();
        eprintln!("round {round}: all partitions are read after {took:?}");
        assert!(round == 0 || took < LIMIT, "{took:?}");

        let used = cpu_time();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let idle = (cpu_time() - used).as_secs_f64() / 10.0;
        eprintln!("idle: {:.1} % of a core", idle * 100.0);
        sink.stop().await;
    }
}

fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
