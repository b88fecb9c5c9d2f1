//! Several instances, and the lives of one.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::double::{State, Target};
use crate::stage::{Stage, start};

const PARTITIONS: i32 = 4;

/// `count` rows in each partition, from the row `begin` on.
async fn fill(stage: &Stage, topic: &str, begin: i64, count: i64) {
    for partition in 0..PARTITIONS {
        let base = i64::from(partition) * 1_000_000;
        let rows = (begin..begin + count).map(|n| stage.change('c', base + n, n, 10));
        stage.send_all(topic, partition, rows).await;
    }
}

fn instances(state: &State) -> BTreeSet<&'static str> {
    state
        .written
        .iter()
        .map(|written| written.instance)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_share_partitions_and_one_may_leave() {
    let stage = Stage::new("share").await;
    let topic = stage.topic("t");
    stage.create(&topic, PARTITIONS).await;
    let target = Target::new();
    target.slow(Duration::from_millis(20));
    let mut config = stage.config(&[&topic]);
    config.batch.rows = 10;

    fill(&stage, &topic, 0, 200).await;
    let first = start(config.clone(), target.as_instance("first"));
    target
        .until("the first at work", |state| state.rows.len() > 100)
        .await;
    let second = start(config, target.as_instance("second"));
    second.until_phase("writing 2 partitions").await;
    first.until_phase("writing 2 partitions").await;
    fill(&stage, &topic, 200, 500).await;
    target
        .until("both at work", |state| {
            state.rows.len() > 1_000 && instances(state).len() == 2
        })
        .await;
    first.stop().await;
    let all = 700 * PARTITIONS as usize;
    let written = target.state().rows.len();
    assert!(written < all, "the first left when all was done");
    target
        .until("all rows", |state| state.rows.len() == all)
        .await;
    second.stop().await;

    let expected: Vec<_> = (0..700).collect();
    for partition in 0..PARTITIONS {
        assert_eq!(
            target.state().offsets(partition),
            expected,
            "nothing lost, nothing twice, in order"
        );
        assert_eq!(stage.committed(&topic, partition), Some(700));
    }
    assert_eq!(
        target.state().overlaps,
        0,
        "no partition was written by two at once"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_is_let_go_only_after_its_write_is_finished() {
    let stage = Stage::new("drain").await;
    let topic = stage.topic("t");
    stage.create(&topic, 1).await;
    stage.send(&topic, 0, stage.change('c', 1, 1, 1)).await;
    let target = Target::new();
    target.slow(Duration::from_secs(2));
    let sink = start(stage.config(&[&topic]), target.clone());
    stage.until_committed(&topic, 0, 0).await;
    // The write is under way, or about to begin.
    target.until_writing("the write").await;
    sink.stop().await;
    assert_eq!(target.state().rows.len(), 1);
    assert_eq!(stage.committed(&topic, 0), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_without_partitions_stands_by() {
    let stage = Stage::new("standby").await;
    let topic = stage.topic("t");
    stage.create(&topic, 1).await;
    let target = Target::new();
    let first = start(stage.config(&[&topic]), target.as_instance("first"));
    stage.until_committed(&topic, 0, 0).await;
    let second = start(stage.config(&[&topic]), target.as_instance("second"));
    second.until_phase("standing by").await;
    stage.send(&topic, 0, stage.change('c', 1, 1, 1)).await;
    target.until("the row", |state| state.rows.len() == 1).await;
    let worker = target.state().written[0].instance;
    // Whoever had the partition leaves: the other takes over at once.
    let (leaving, staying) = if worker == "first" {
        (first, second)
    } else {
        (second, first)
    };
    leaving.stop().await;
    stage.send(&topic, 0, stage.change('c', 2, 2, 2)).await;
    target
        .until("the next row", |state| state.rows.len() == 2)
        .await;
    assert_ne!(target.state().written[1].instance, worker);
    staying.stop().await;
}
