//! Where reading begins, and what moves the group's offsets.

use std::time::Duration;

use rdkafka::producer::Producer;
use serde_json::Value;

use crate::double::Target;
use crate::stage::{Stage, start, transactional};

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_at_the_committed_offset() {
    let stage = Stage::new("restart").await;
    let topic = stage.topic("t");
    stage.create(&topic, 1).await;
    let records = |range: std::ops::Range<i64>| range.map(|n| stage.change('c', n, n, 10));
    stage.send_all(&topic, 0, records(0..50)).await;
    let target = Target::new();
    let sink = start(stage.config(&[&topic]), target.clone());
    target
        .until("the first half", |state| state.written.len() == 50)
        .await;
    sink.stop().await;
    assert_eq!(stage.committed(&topic, 0), Some(50));

    stage.send_all(&topic, 0, records(50..100)).await;
    let sink = start(stage.config(&[&topic]), target.clone());
    target
        .until("the second half", |state| state.rows.len() == 100)
        .await;
    sink.stop().await;
    let expected: Vec<_> = (0..100).collect();
    assert_eq!(target.state().offsets(0), expected, "nothing twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_read_when_committed_and_lag_ends_at_zero() {
    let stage = Stage::new("transactions").await;
    let topic = stage.topic("t");
    stage.create(&topic, 1).await;
    let mut in_transactions = stage;
    in_transactions.producer = transactional(&in_transactions);
    let stage = in_transactions;
    let wait = Duration::from_secs(30);
    for (seq, is_committed) in [(10, true), (11, false), (12, true)] {
        stage.producer.begin_transaction().unwrap();
        let id = i64::try_from(seq).unwrap();
        stage.send(&topic, 0, stage.change('c', id, id, seq)).await;
        if is_committed {
            stage.producer.commit_transaction(wait).unwrap();
        } else {
            stage.producer.abort_transaction(wait).unwrap();
        }
    }
    let target = Target::new();
    let sink = start(stage.config(&[&topic]), target.clone());
    target
        .until("both rows", |state| state.rows.len() == 2)
        .await;
    assert_eq!(target.state().offsets(0), [0, 4]);
    // The last offset is the end marker of the last transaction.
    assert_eq!(stage.end(&topic, 0), 6);
    stage.until_committed(&topic, 0, 6).await;
    let has_no_lag = |topic: &Value| topic["lag_records"] == 0 && topic["lag_seconds"] == 0.0;
    sink.until_topic(&topic, "no lag", has_no_lag).await;
    sink.stop().await;
    assert_eq!(stage.committed(&topic, 0), Some(6));
}

#[tokio::test(flavor = "multi_thread")]
async fn accepted_moves_no_offset_until_it_is_durable() {
    let stage = Stage::new("durable").await;
    let topic = stage.topic("t");
    stage.create(&topic, 1).await;
    stage.send(&topic, 0, stage.change('c', 1, 1, 1)).await;
    let target = Target::new();
    target.durable_by_flush_only();
    let mut config = stage.config(&[&topic]);
    config.batch.flush_ms = 3_600_000;
    let sink = start(config.clone(), target.clone());
    target.until("the row", |state| state.rows.len() == 1).await;
    stage.send(&topic, 0, stage.change('c', 2, 2, 2)).await;
    target
        .until("the next row", |state| state.rows.len() == 2)
        .await;
    // The start is committed, nothing beyond it.
    stage.until_committed(&topic, 0, 0).await;
    sink.stop().await;
    assert_eq!(stage.committed(&topic, 0), Some(2), "the last flush");

    config.batch.flush_ms = 100;
    stage.send(&topic, 0, stage.change('c', 3, 3, 3)).await;
    let sink = start(config, target.clone());
    stage.until_committed(&topic, 0, 3).await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_with_offsets_of_its_own_decides_where_to_begin() {
    let stage = Stage::new("ledger").await;
    let topic = stage.topic("t");
    stage.create(&topic, 1).await;
    let records = (0..10).map(|n| stage.change('c', n, n, 10));
    stage.send_all(&topic, 0, records).await;
    let target = Target::new();
    target.begun(&topic, [0]);
    target.stands_at(0, 7);
    let sink = start(stage.config(&[&topic]), target.clone());
    target
        .until("the rest", |state| state.rows.len() == 3)
        .await;
    sink.stop().await;
    assert_eq!(target.state().offsets(0), [7, 8, 9]);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_records_are_a_gap_and_stop_the_sink() {
    let stage = Stage::new("gap").await;
    let topic = stage.topic("t");
    stage.create(&topic, 1).await;
    let records = (0..10).map(|n| stage.change('c', n, n, 10));
    stage.send_all(&topic, 0, records).await;
    stage.delete_below(&topic, 0, 5).await;
    let target = Target::new();
    target.begun(&topic, [0]);
    target.stands_at(0, 3);
    let error = start(stage.config(&[&topic]), target.clone()).stops().await;
    assert_eq!(
        error.to_string(),
        format!(
            "open the target of {topic}[0]: topic {topic} partition 0: the target stands at offset 3, but the log begins at \
             5: 2 records were deleted before they were read; to do: start the service once with on_unfit_target = \
             \"rebuild\" (or its environment variable …__ON_UNFIT_TARGET=rebuild): what the target holds is \
             deleted, and it is built again from the beginning of the log"
        )
    );
    assert!(target.state().written.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_beyond_the_log_stops_the_sink() {
    let stage = Stage::new("recreated").await;
    let topic = stage.topic("t");
    stage.create(&topic, 1).await;
    let records = (0..10).map(|n| stage.change('c', n, n, 10));
    stage.send_all(&topic, 0, records).await;
    let target = Target::new();
    target.begun(&topic, [0]);
    target.stands_at(0, 11);
    let error = start(stage.config(&[&topic]), target.clone()).stops().await;
    let message = error.to_string();
    assert!(
        message.starts_with(&format!(
            "open the target of {topic}[0]: topic {topic} partition 0: the target stands at offset 11, but the log ends at 10: \
             the topic was deleted and created again, or has lost records; to do: start the service once with"
        )),
        "{message}"
    );
    assert!(target.state().written.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn records_deleted_before_a_slow_sink_has_read_them_stop_it() {
    let stage = Stage::new("retention").await;
    let topic = stage.topic("t");
    stage.create(&topic, 1).await;
    let records = (0..2_000).map(|n| stage.wide_change('c', n, n, 10, 10_000));
    stage.send_all(&topic, 0, records).await;
    let target = Target::new();
    target.hold(true);
    let mut config = stage.config(&[&topic]);
    // Ten records or so are buffered, and some hundred are fetched ahead; the rest is still in Kafka.
    config.batch.buffer_bytes = 100_000;
    let sink = start(config, target.clone());
    target.until_writing("the first write").await;
    stage.delete_below(&topic, 0, 1_950).await;
    target.hold(false);
    let error = sink.stops().await.to_string();
    let expected = format!("topic {topic} partition 0: the target stands at offset ");
    assert!(error.starts_with(&expected), "{error}");
    let expected = "but the log begins at 1950: ";
    assert!(error.contains(expected), "{error}");
    let written = target.state().written.len();
    assert!(
        written < 1_950,
        "{written} were written: it jumped over the gap"
    );
    let committed = stage.committed(&topic, 0).unwrap();
    assert_eq!(committed, i64::try_from(written).unwrap());
}
