//! Kafka is away: nobody knows how far behind a sink is, and it says so.

use std::time::{Duration, Instant};

use serde_json::Value;
use tributary_tests::service::{Kind, Service};
use tributary_tests::stack::{Lifetime, Options, Part, Stack};

use super::{PATIENCE, Stage, until};

/// How soon it is noticed.
const SOON: Duration = Duration::from_secs(15);
/// Longer than the group keeps a silent member: the partitions are lost by then, and a sink that holds none looks like a standby.
const LONGER_THAN_THE_SESSION: Duration = Duration::from_secs(25);

/// Soon, and for as long as Kafka is away.
async fn is_noticed(sink: &Service, what: &str) {
    let is_noticed = |status: &Value| status["ready"] == false && is_lag_unknown(status);
    let status = until(sink, what, SOON, is_noticed).await;
    let reason = status["reason"].as_str().unwrap();
    assert!(reason.contains("Kafka"), "{status}");
    let begun = Instant::now();
    while begun.elapsed() < LONGER_THAN_THE_SESSION {
        let (code, body) = sink.get("/ready").unwrap();
        assert_eq!(code, 503, "{what}: {body}");
        let (_, body) = sink.get("/status").unwrap();
        let status: Value = serde_json::from_str(&body).unwrap();
        assert!(is_noticed(&status), "{what}: {body}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn is_lag_unknown(status: &Value) -> bool {
    let mut topics = status["details"]["topics"].as_array().into_iter().flatten();
    topics.all(|topic| topic["lag_records"].is_null())
}

fn all_is_well(status: &Value) -> bool {
    let topics = status["details"]["topics"].as_array();
    let topics = topics.map_or(&[][..], Vec::as_slice);
    let is_well = |topic: &Value| topic["lag_records"] == 0;
    status["ready"] == true && topics.len() == 2 && topics.iter().all(is_well)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_and_lag_tell_the_truth_while_kafka_is_away() {
    let dir = tempfile::Builder::new()
        .prefix("away-")
        .tempdir_in(tributary_tests::target_dir())
        .unwrap();
    let options = Options {
        parts: vec![Part::Postgres, Part::Kafka, Part::Registry],
        lifetime: Lifetime::Owned,
        ..Options::default()
    };
    let stack = Stack::up(dir.path(), &options).unwrap();
    let stage = Stage::set(&stack, "away", Kind::SinkRedshift).await;
    stage
        .run("INSERT INTO s.a VALUES (1, 1); INSERT INTO s.b VALUES (1, 1)")
        .await;
    stage.until("all is well", all_is_well).await;

    stack.pause(Part::Kafka).unwrap();
    is_noticed(&stage.sink, "frozen").await;
    stack.resume(Part::Kafka).unwrap();
    stage.until("thawed", all_is_well).await;

    stack.stop(Part::Kafka).unwrap();
    is_noticed(&stage.sink, "stopped").await;
    stack.start(Part::Kafka).unwrap();
    stage.until("started", all_is_well).await;

    stage.run("INSERT INTO s.a VALUES (2, 2)").await;
    let is_there = |status: &Value| stage.topic(status, "s.a")["accepted"].as_u64() >= Some(2);
    until(&stage.sink, "the next row", PATIENCE, is_there).await;
}
