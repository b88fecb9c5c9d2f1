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

use tokio::sync::Mutex;
use tokio::time::Instant;

use double::Target;
use stage::running::Running;
use stage::{Stage, start};

const PARTITIONS: i32 = 8;
/// A restart has begun to read 2,400 partitions within this time.
const LIMIT: Duration = Duration::from_secs(10);
/// What a sink of 4,000 partitions may take of a core with nothing to read.
const IDLE: f64 = 0.03;
/// The offsets of what was read are committed, and the log's ends known.
const CALM: Duration = Duration::from_secs(10);
const MEASURED: Duration = Duration::from_secs(20);

/// Each reads the time of the process.
static ALONE: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes 2,400 partitions"]
async fn restart_with_thousands_of_partitions() {
    let _alone = ALONE.lock().await;
    let many = Many::new(300).await;
    for version in 10..12 {
        many.write(version).await;
        let (sink, took) = many.read().await;
        eprintln!("all partitions are read after {took:?}");
        assert!(version == 10 || took < LIMIT);
        sink.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "makes 4,000 partitions"]
async fn idle_with_thousands_of_partitions() {
    let _alone = ALONE.lock().await;
    let many = Many::new(500).await;
    many.write(10).await;
    let (sink, took) = many.read().await;
    eprintln!("all partitions are read after {took:?}");
    tokio::time::sleep(CALM).await;
    let before = cpu_time();
    tokio::time::sleep(MEASURED).await;
    let idle = (cpu_time() - before).as_secs_f64() / MEASURED.as_secs_f64();
    eprintln!("idle: {:.1} % of a core", idle * 100.0);
    sink.stop().await;
    assert!(idle <= IDLE);
}

/// Many topics.
struct Many {
    stage: Stage,
    topics: Vec<String>,
}

impl Many {
    async fn new(topics: i32) -> Self {
        let stage = Stage::new("thousands").await;
        let topics: Vec<_> = (0..topics).map(|n| stage.topic(&format!("t{n}"))).collect();
        for topic in &topics {
            stage.create(topic, PARTITIONS).await;
        }
        Self { stage, topics }
    }

    /// A row into each partition, by which it shows that it is read.
    async fn write(&self, version: u64) {
        for (n, topic) in (0..).zip(&self.topics) {
            for partition in 0..PARTITIONS {
                let id = i64::from(n * PARTITIONS + partition);
                let row = self
                    .stage
                    .change('c', id, i64::try_from(version).unwrap(), version);
                self.stage.send_all(topic, partition, [row]).await;
            }
        }
    }

    /// A sink that has read a row of each partition, and how long that has taken.
    async fn read(&self) -> (Running, Duration) {
        let target = Target::new();
        let begun = Instant::now();
        let pattern = format!("{}.*", self.stage.prefix);
        let sink = start(self.stage.config(&[&pattern]), target.clone());
        let all = self.topics.len() * usize::try_from(PARTITIONS).unwrap();
        target
            .until("a row of each partition", |state| state.rows.len() == all)
            .await;
        (sink, begun.elapsed())
    }
}

/// Of all threads but the one in which the test's own producer waits.
fn cpu_time() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let stats = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")));
    // A thread that has just ended has none.
    let stats = stats
        .filter_map(Result::ok)
        .filter(|stat| !stat.contains("(producer pollin"));
    let ticks: u64 = stats
        .map(|stat| {
            let (_, fields) = stat.rsplit_once(')').unwrap();
            let mut times = fields.split_whitespace().skip(11).take(2);
            let mut next = || times.next().unwrap().parse::<u64>().unwrap();
            next() + next()
        })
        .sum();
    Duration::from_millis(ticks * 10)
}
