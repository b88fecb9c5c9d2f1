//! `pause` and `resume` of a running sink.

use serde_json::{Value, json};

use crate::double::Target;
use crate::stage::running::Running;
use crate::stage::{Stage, start};

fn ask(sink: &Running, what: &str, topic: Option<&str>) -> Value {
    sink.health
        .control(what, &json!({ "topic": topic }))
        .unwrap()
}

fn is_paused(topic: &Value) -> bool {
    topic["waits_for"] == "paused" && topic["reason"].is_null()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_topic_is_not_written_and_goes_on_where_it_was() {
    let stage = Stage::new("pause").await;
    let (quiet, other) = (stage.topic("quiet"), stage.topic("other"));
    stage.create(&quiet, 1).await;
    stage.create(&other, 1).await;
    let rows = |from: i64, to: i64| (from..to).map(|n| stage.wide_change('c', n, n, 10, 1_000));
    stage.send_all(&quiet, 0, rows(0, 50)).await;
    let target = Target::new();
    let sink = start(stage.config(&[&quiet, &other]), target.clone());
    stage.until_committed(&quiet, 0, 50).await;
    sink.until_phase("writing 2 partitions").await;

    let answer = ask(&sink, "pause", Some(&quiet));
    assert_eq!(answer["paused"], json!({"all": false, "topics": [&quiet]}));
    sink.until_phase("writing 1 partition, 1 paused").await;
    stage.send_all(&quiet, 0, rows(50, 150)).await;
    stage.send_all(&other, 0, rows(1_000, 1_100)).await;
    stage.until_committed(&other, 0, 100).await;
    let told = sink
        .until_topic(&quiet, "behind", |topic| topic["lag_records"] == 100)
        .await;
    assert!(is_paused(&told), "{told}");
    assert_eq!(sink.health.details()["buffered_bytes"], 0);
    assert_eq!(sink.health.not_ready(), None);
    let warning = format!("topic {quiet} is paused in this instance: `resume` goes on");
    assert_eq!(sink.health.warnings(), [warning]);
    assert_eq!(target.state().written.len(), 150);
    assert_eq!(stage.committed(&quiet, 0), Some(50));

    ask(&sink, "resume", Some(&quiet));
    stage.until_committed(&quiet, 0, 150).await;
    assert_eq!(sink.health.warnings(), [""; 0]);
    let is_well = |topic: &Value| topic["waits_for"].is_null() && topic["lag_records"] == 0;
    sink.until_topic(&quiet, "well", is_well).await;
    // Nothing twice.
    assert_eq!(target.state().written.len(), 250);
    for (what, topic) in [("pause", "elsewhere"), ("else", quiet.as_str())] {
        let refused = sink.health.control(what, &json!({ "topic": topic }));
        assert!(refused.unwrap_err().remedy_text().is_some());
    }
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_under_way_is_finished_before_a_pause_and_a_failing_one_is_given_up() {
    let stage = Stage::new("pausing").await;
    let topic = stage.topic("t");
    stage.create(&topic, 1).await;
    stage.send(&topic, 0, stage.change('c', 1, 1, 10)).await;
    let target = Target::new();
    target.hold(true);
    let sink = start(stage.config(&[&topic]), target.clone());
    target.until_writing("the first row").await;
    ask(&sink, "pause", None);
    let told = sink
        .until_topic(&topic, "pausing", |topic| topic["waits_for"] == "paused")
        .await;
    assert!(!is_paused(&told), "{told}");
    target.hold(false);
    sink.until_phase("paused").await;
    stage.until_committed(&topic, 0, 1).await;

    target.fail(1_000);
    stage.send(&topic, 0, stage.change('c', 2, 2, 20)).await;
    ask(&sink, "resume", None);
    sink.until_not_ready(&topic, "the target is away").await;
    ask(&sink, "pause", None);
    // What was in the way is not in the way any more.
    sink.until_phase("paused").await;
    target.fail(0);
    ask(&sink, "resume", None);
    stage.until_committed(&topic, 0, 2).await;
    sink.stop().await;
    assert_eq!(target.state().overlaps, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_outlives_rebalances_and_is_one_instances_own() {
    let stage = Stage::new("pause-group").await;
    let topic = stage.topic("t");
    stage.create(&topic, 2).await;
    let target = Target::new();
    let first = start(stage.config(&[&topic]), target.as_instance("first"));
    first.until_phase("writing 2 partitions").await;
    ask(&first, "pause", None);
    first.until_phase("paused").await;
    for partition in 0..2 {
        let id = i64::from(partition);
        stage
            .send(&topic, partition, stage.change('c', id, id, 10))
            .await;
    }
    let second = start(stage.config(&[&topic]), target.as_instance("second"));
    second.until_phase("writing 1 partition").await;
    target.until("one row", |state| state.rows.len() == 1).await;
    second.stop().await;

    // The partition comes back, to a pause.
    first
        .until_topic(&topic, "both", |topic| {
            topic["partitions"] == 2 && is_paused(topic)
        })
        .await;
    for partition in 0..2 {
        let id = 10 + i64::from(partition);
        stage
            .send(&topic, partition, stage.change('c', id, id, 20))
            .await;
    }
    let is_behind =
        |topic: &Value| topic["lag_records"].as_u64() >= Some(2) || topic["lag_records"].is_null();
    first.until_topic(&topic, "behind", is_behind).await;
    assert!(
        target
            .state()
            .written
            .iter()
            .all(|written| written.instance == "second")
    );
    assert_eq!(target.state().rows.len(), 1);
    ask(&first, "resume", None);
    target
        .until("all rows", |state| state.rows.len() == 4)
        .await;
    first.stop().await;
    assert_eq!(target.state().written.len(), 4, "nothing twice");
}
