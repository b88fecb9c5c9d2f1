//! A poll thread that is held up: the writers must stop by themselves. A test binary of its own: the metrics
//! recorder, which is global, is what holds the thread up.

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

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use double::Target;
use stage::{Stage, start};

const ROWS: i64 = 2_000;

/// Only the poll thread reports this gauge.
const REPORTED_BY_POLL: &str = "tributary_sink_buffered_bytes";

/// A recorder in which the poll thread gets stuck.
#[derive(Clone, Default)]
struct Snare(Arc<(Mutex<bool>, Condvar)>);

impl Snare {
    fn set(&self, is_set: bool) {
        *self.0.0.lock().unwrap() = is_set;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let is_set = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(is_set, |is_set| *is_set).unwrap());
    }
}

impl Recorder for Snare {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        if key.name() == REPORTED_BY_POLL {
            self.pass();
        }
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_stop_while_the_poll_thread_is_held_up() {
    let snare = Snare::default();
    metrics::set_global_recorder(snare.clone()).unwrap();
    let stage = Stage::new("lease").await;
    let topic = stage.topic("t");
    stage.create(&topic, 1).await;
    let rows = (0..ROWS).map(|n| stage.change('c', n, n, 10));
    stage.send_all(&topic, 0, rows).await;
    let target = Target::new();
    target.slow(Duration::from_millis(10));
    let mut config = stage.config(&[&topic]);
    config.batch.rows = 1;
    let sink = start(config, target.clone());
    target
        .until("the sink at work", |state| state.written.len() > 50)
        .await;

    snare.set(true);
    let written = until_nothing_is_written(&target).await;
    assert!(
        written < usize::try_from(ROWS).unwrap(),
        "all was written while the thread that keeps the membership stood still"
    );
    assert_eq!(sink.health.not_ready(), None, "it waits, it has not failed");

    snare.set(false);
    stage.until_committed(&topic, 0, ROWS).await;
    sink.stop().await;
    let expected: Vec<_> = (0..ROWS).collect();
    assert_eq!(target.state().offsets(0), expected);
}

/// Waits until nothing has been written for two seconds; returns how much there is.
async fn until_nothing_is_written(target: &Target) -> usize {
    let (mut written, mut unchanged) = (0, 0);
    while unchanged < 20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = target.state().written.len();
        unchanged = if now == written { unchanged + 1 } else { 0 };
        written = now;
    }
    written
}
