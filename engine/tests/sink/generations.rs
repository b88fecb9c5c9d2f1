//! Targets that do not fit their log any more.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tributary_engine::{OnUnfitTarget, SinkConfig};

use serde_json::Value;

use crate::double::Target;
use crate::stage::{Stage, start};

const REBUILD: &str = "to do: start the service once with on_unfit_target = \"rebuild\"";

/// Rows 0, 1, … in partition 0.
async fn fill(stage: &Stage, topic: &str, range: std::ops::Range<i64>) {
    let rows = range.map(|n| stage.change('c', n, n, 10));
    stage.send_all(topic, 0, rows).await;
}

fn rebuilding(mut config: SinkConfig) -> SinkConfig {
    config.on_unfit_target = OnUnfitTarget::Rebuild;
    config
}

/// Runs the sink until it has so many rows, then stops it.
async fn read(config: SinkConfig, target: &Target, rows: usize) {
    let sink = start(config, target.clone());
    let has_all = |state: &crate::double::State| state.live_rows().len() == rows;
    target.until("all rows", has_all).await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_gone_is_built_from_the_beginning() {
    let stage = Stage::new("gone").await;
    let topic = stage.topic("t");
    stage.create(&topic, 1).await;
    fill(&stage, &topic, 0..10).await;
    let target = Target::new();
    read(stage.config(&[&topic]), &target, 10).await;
    assert_eq!(stage.committed(&topic, 0), Some(10));
    target.vanish();
    read(stage.config(&[&topic]), &target, 10).await;
    assert_eq!(target.state().generations, 2);
}

/// The target is there, the partition was not begun: what the group had of an earlier target does not count.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_was_killed_at_the_targets_creation_begins_anew() {
    let stage = Stage::new("creation").await;
    let topic = stage.topic("t");
    stage.create(&topic, 1).await;
    fill(&stage, &topic, 0..10).await;
    let target = Target::new();
    read(stage.config(&[&topic]), &target, 10).await;
    target.vanish();
    target.begun(&topic, []);
    read(stage.config(&[&topic]), &target, 10).await;
}

/// Of two instances one begins late: its partitions were not begun in the new target.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_of_a_second_instance_that_comes_late_begin_anew() {
    let stage = Stage::new("late").await;
    let topic = stage.topic("t");
    stage.create(&topic, 2).await;
    for partition in 0..2 {
        let rows = (0..50).map(|n| stage.change('c', i64::from(partition) * 100 + n, n, 10));
        stage.send_all(&topic, partition, rows).await;
    }
    let target = Target::new();
    read(stage.config(&[&topic]), &target, 100).await;
    target.vanish();
    target.begun(&topic, [0]);
    // Partition 1 was not begun; and what the group has of partition 0 is of the target before.
    read(stage.config(&[&topic]), &target, 100).await;
    let mut written = target.state().offsets(1);
    written.sort_unstable();
    assert_eq!(written.len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recreated_topic_stops_the_sink_or_has_its_target_built_again() {
    let stage = Stage::new("recreated").await;
    let topic = stage.topic("t");
    stage.create(&topic, 1).await;
    fill(&stage, &topic, 0..50).await;
    let target = Target::new();
    read(stage.config(&[&topic]), &target, 50).await;

    // Longer than before, so that no offset tells.
    stage.recreate(&topic, 1).await;
    fill(&stage, &topic, 100..160).await;
    let error = start(stage.config(&[&topic]), target.clone()).stops().await;
    let error = error.to_string();
    assert!(
        error.contains("was deleted and made again since its target was built"),
        "{error}"
    );
    assert!(error.contains(REBUILD), "{error}");
    assert_eq!(target.state().live_rows().len(), 50, "nothing was written");

    read(rebuilding(stage.config(&[&topic])), &target, 60).await;
    assert!(target.state().live_rows().keys().all(|&id| id >= 100));
    // Once is enough.
    read(stage.config(&[&topic]), &target, 60).await;
    assert_eq!(target.state().generations, 2);
}

/// librdkafka goes on at the old offset of the new topic, and tells nothing.
#[tokio::test(flavor = "multi_thread")]
async fn recreated_topic_under_a_running_sink() {
    let stage = Stage::new("under").await;
    let topic = stage.topic("t");
    stage.create(&topic, 1).await;
    fill(&stage, &topic, 0..50).await;
    let target = Target::new();
    let sink = start(rebuilding(stage.config(&[&topic])), target.clone());
    stage.until_committed(&topic, 0, 50).await;
    stage.recreate(&topic, 1).await;
    fill(&stage, &topic, 100..160).await;
    let begun = tokio::time::Instant::now();
    target
        .until("the new topic's rows alone", |state| {
            let rows = state.live_rows();
            rows.len() == 60 && rows.keys().all(|&id| id >= 100)
        })
        .await;
    let noticed = begun.elapsed();
    assert!(noticed < Duration::from_secs(30), "{noticed:?}");
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absence_longer_than_tombstones_live_is_noticed() {
    let stage = Stage::new("absence").await;
    let topic = stage.topic("t");
    let settings = [
        ("cleanup.policy", "compact"),
        ("delete.retention.ms", "1000"),
    ];
    stage.create_with(&topic, 1, &settings).await;
    fill(&stage, &topic, 0..20).await;
    let target = Target::new();
    read(stage.config(&[&topic]), &target, 20).await;
    // Read to its end, and nothing was written since: it may stay away for as long as it likes.
    until_older(&target, &topic, 1_100).await;
    read(stage.config(&[&topic]), &target, 20).await;

    stage.send(&topic, 0, stage.change('d', 1, 0, 20)).await;
    stage.send(&topic, 0, stage.tombstone(1, 21)).await;
    until_older(&target, &topic, 1_100).await;
    let error = start(stage.config(&[&topic]), target.clone()).stops().await;
    let error = error.to_string();
    assert!(error.contains("deletes may have been missed"), "{error}");
    assert!(error.contains(REBUILD), "{error}");
    read(rebuilding(stage.config(&[&topic])), &target, 19).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_longer_than_tombstones_live_is_noticed() {
    let stage = Stage::new("long-pause").await;
    let topic = stage.topic("t");
    let settings = [
        ("cleanup.policy", "compact"),
        ("delete.retention.ms", "1000"),
    ];
    stage.create_with(&topic, 1, &settings).await;
    fill(&stage, &topic, 0..20).await;
    let target = Target::new();
    let sink = start(stage.config(&[&topic]), target.clone());
    stage.until_committed(&topic, 0, 20).await;
    sink.health.control("pause", &Value::Null).unwrap();
    sink.until_phase("paused").await;
    stage.send(&topic, 0, stage.change('d', 1, 0, 20)).await;
    stage.send(&topic, 0, stage.tombstone(1, 21)).await;
    until_older(&target, &topic, 1_100).await;
    sink.health.control("resume", &Value::Null).unwrap();
    let error = sink.stops().await.to_string();
    assert!(error.contains("deletes may have been missed"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_offsets_are_harmless_as_long_as_tombstones_live() {
    let stage = Stage::new("lost").await;
    let topic = stage.topic("t");
    let settings = [
        ("cleanup.policy", "compact"),
        ("delete.retention.ms", "1000"),
    ];
    stage.create_with(&topic, 1, &settings).await;
    fill(&stage, &topic, 0..20).await;
    let target = Target::new();
    read(stage.config(&[&topic]), &target, 20).await;
    stage.forget_offsets().await;
    until_older(&target, &topic, 1_100).await;
    let error = start(stage.config(&[&topic]), target.clone()).stops().await;
    let error = error.to_string();
    assert!(
        error.contains(&format!(
            "the offset of {topic}[0] is lost while its target holds rows"
        )),
        "{error}"
    );
    read(rebuilding(stage.config(&[&topic])), &target, 20).await;

    let settings = [
        ("cleanup.policy", "compact"),
        ("delete.retention.ms", "86400000"),
    ];
    let topic = stage.topic("longer");
    stage.create_with(&topic, 1, &settings).await;
    fill(&stage, &topic, 50..70).await;
    read(stage.config(&[&topic]), &target, 40).await;
    stage.forget_offsets().await;
    stage.send(&topic, 0, stage.change('d', 50, 0, 20)).await;
    read(stage.config(&[&topic]), &target, 39).await;
}

/// Versions that are offsets say nothing of two partitions, and keys move when there are more.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_topic_gets_partitions() {
    let mut stage = Stage::new("grown").await;
    let topic = stage.topic("t");
    stage.create(&topic, 1).await;
    let foreign = (0..50).map(|id| {
        let mut record = stage.change('c', id, id, 1);
        record.headers.clear();
        record
    });
    stage.send_all(&topic, 0, foreign).await;
    let target = Target::new();
    let sink = start(stage.config(&[&topic]), target.clone());
    target
        .until("all rows, and what their versions are", |state| {
            let marks = state.marks.values();
            state.rows.len() == 50 && marks.into_iter().any(|mark| mark.versions_are_offsets)
        })
        .await;
    stage.grow(&topic, 2).await;
    let error = sink.stops().await.to_string();
    assert!(
        error.contains("had 1 partitions and has 2 now: keys have moved"),
        "{error}"
    );
    // With an order of their own, more partitions are no matter.
    let topic = stage.topic("own");
    stage.create(&topic, 1).await;
    fill(&stage, &topic, 100..110).await;
    let sink = start(stage.config(&[&topic]), target.clone());
    target
        .until("our rows", |state| state.rows.len() == 60)
        .await;
    stage.grow(&topic, 2).await;
    stage.send(&topic, 1, stage.change('u', 100, 7, 11)).await;
    target
        .until("the change", |state| {
            state.live_rows().get(&100) == Some(&7)
        })
        .await;
    sink.stop().await;
}

/// Waits until what the target has noted of partition 0 is older than so many milliseconds.
async fn until_older(target: &Target, topic: &str, ms: i64) {
    let noted = target.state().marks[topic].caught_up_ms[&0];
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let age = i64::try_from(now.as_millis()).unwrap() - noted;
    let rest = u64::try_from(ms - age).unwrap_or(0);
    tokio::time::sleep(Duration::from_millis(rest)).await;
}
