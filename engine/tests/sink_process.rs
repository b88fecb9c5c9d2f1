//! Sinks as processes of their own, killed and frozen. This binary starts itself as the sink.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests panic on what must not happen"
)]

#[path = "sink/journal.rs"]
mod journal;
#[allow(dead_code, reason = "shared with other test binaries")]
#[path = "sink/stage.rs"]
mod stage;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use journal::{Entry, Journal};
use stage::{Stage, start};

const PARTITIONS: i32 = 4;
const ROWS: i64 = 2_000;

/// A sink process; killed when dropped.
struct Process {
    child: Child,
}

impl Process {
    fn start(stage: &Stage, name: &str, journal: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sink_process", "--ignored", "--nocapture"])
            .env("SINK_NAME", name)
            .env("SINK_GROUP", format!("{}-sink", stage.prefix))
            .env("SINK_TOPIC", stage.topic("t"))
            .env("SINK_JOURNAL", journal)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends `STOP` or `CONT`.
    fn signal(&self, signal: &str) {
        let mut kill = Command::new("kill");
        let status = kill
            .arg(format!("-{signal}"))
            .arg(self.child.id().to_string());
        assert!(status.status().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The body of the processes; not a test of its own.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the body of the processes that the other tests start"]
async fn sink_process() {
    let variable = |name: &str| std::env::var(name).unwrap();
    let stage = Stage::new("process").await;
    let mut config = stage.config(&[&variable("SINK_TOPIC")]);
    config.name = variable("SINK_GROUP");
    config.batch.rows = 2;
    let journal = Journal::open(Path::new(&variable("SINK_JOURNAL")), variable("SINK_NAME"));
    let sink = start(config, journal);
    panic!("the sink stops: {}", sink.stops().await);
}

async fn filled(name: &str) -> Stage {
    let stage = Stage::new(name).await;
    let topic = stage.topic("t");
    stage.create(&topic, PARTITIONS).await;
    for partition in 0..PARTITIONS {
        let base = i64::from(partition) * 1_000_000;
        let rows = (0..ROWS).map(|n| stage.change('c', base + n, n, 10));
        stage.send_all(&topic, partition, rows).await;
    }
    stage
}

/// Waits until the journal is as wanted; panics after a minute.
async fn until(journal: &Path, what: &str, wanted: impl Fn(&[Entry]) -> bool) -> Vec<Entry> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let entries = journal::read(journal);
        if wanted(&entries) {
            return entries;
        }
        assert!(
            Instant::now() < deadline,
            "{what}: {} entries",
            entries.len()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn written(entries: &[Entry], name: &str) -> i64 {
    let ends = entries
        .iter()
        .filter(|entry| entry.name == name && entry.is_end);
    ends.map(|entry| entry.next - entry.first).sum()
}

fn is_complete(entries: &[Entry]) -> bool {
    (0..PARTITIONS).all(|partition| {
        let ends = entries.iter().filter(|entry| entry.is_end);
        ends.filter(|entry| entry.partition == partition)
            .any(|entry| entry.next == ROWS)
    })
}

/// No offset is jumped over, whoever wrote it.
fn assert_no_gap(entries: &[Entry]) {
    for partition in 0..PARTITIONS {
        let mut reached = 0;
        for entry in entries {
            if entry.partition == partition && entry.is_end {
                assert!(entry.first <= reached, "a gap before {entry:?}");
                reached = reached.max(entry.next);
            }
        }
        assert_eq!(reached, ROWS);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_sink_goes_on_where_it_was() {
    let stage = filled("killed").await;
    let directory = tempfile::tempdir().unwrap();
    let journal = directory.path().join("journal");
    let topic = stage.topic("t");
    let mut committed = 0;
    for name in ["first", "second"] {
        let process = Process::start(&stage, name, &journal);
        let what = format!("{name} at work");
        until(&journal, &what, |entries| written(entries, name) > 0).await;
        committed = stage.until_committed_beyond(&topic, 0, committed).await;
        process.kill();
    }
    assert!(
        !is_complete(&journal::read(&journal)),
        "killed in the middle"
    );
    let last = Process::start(&stage, "last", &journal);
    let entries = until(&journal, "all rows", is_complete).await;
    assert_no_gap(&entries);
    let of_last = entries.iter().filter(|entry| entry.name == "last");
    let begun_at = of_last
        .filter(|entry| entry.partition == 0)
        .map(|entry| entry.first)
        .min();
    assert!(
        begun_at >= Some(committed),
        "begins at {begun_at:?}, {committed} was committed"
    );
    last.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_sink_begins_no_write_after_its_partitions_are_anothers() {
    let stage = filled("frozen").await;
    let directory = tempfile::tempdir().unwrap();
    let journal = directory.path().join("journal");
    let frozen = Process::start(&stage, "frozen", &journal);
    until(&journal, "at work", |entries| {
        written(entries, "frozen") >= 100
    })
    .await;
    frozen.signal("STOP");
    let successor = Process::start(&stage, "successor", &journal);
    until(&journal, "the successor at work", |entries| {
        written(entries, "successor") >= 100
    })
    .await;
    frozen.signal("CONT");
    let entries = until(&journal, "all rows", is_complete).await;
    assert_no_gap(&entries);
    for partition in 0..PARTITIONS {
        let of_partition = entries.iter().filter(|entry| entry.partition == partition);
        let begun: Vec<_> = of_partition
            .filter(|entry| !entry.is_end)
            .map(|entry| entry.name.as_str())
            .collect();
        let Some(taken_over) = begun.iter().position(|&name| name == "successor") else {
            continue;
        };
        // Once the frozen one has joined again it may be given the partition back: that is a new assignment,
        // and then the successor writes no more. So the names change hands, they never alternate.
        let changes = begun[taken_over..]
            .windows(2)
            .filter(|pair| pair[0] != pair[1]);
        assert!(
            changes.count() <= 1,
            "partition {partition}: both wrote it after write {taken_over}"
        );
    }
    successor.kill();
    frozen.kill();
}
