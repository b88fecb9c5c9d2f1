//! Topics without rows.

use std::time::Duration;

use tributary_engine::Mark;

use crate::double::{State, Target};
use crate::stage::{Stage, VALUE_SCHEMA, start};

const COMPACTED: [(&str, &str); 2] = [
    ("cleanup.policy", "compact"),
    ("delete.retention.ms", "1000"),
];
/// What Debezium and our source write beside changes of rows, and a flattened row.
const BESIDE: [&str; 3] = [
    r#"{"type":"record","name":"TransactionMetadataValue","namespace":"io.debezium.connector.common","fields":[
        {"name":"status","type":"string"},{"name":"id","type":"string"}]}"#,
    r#"{"type":"record","name":"MessageValue","namespace":"io.debezium.connector.postgresql","fields":[
        {"name":"op","type":"string"},{"name":"message","type":"bytes"}]}"#,
    r#"{"type":"record","name":"Value","namespace":"flat","fields":[{"name":"id","type":"long"}]}"#,
];

fn mark_of<'s>(state: &'s State, topic: &str) -> Option<&'s Mark> {
    state.marks.get(topic)
}

/// Made once, whatever the number of partitions; and each partition still begins where its log does.
#[tokio::test(flavor = "multi_thread")]
async fn targets_of_empty_tables_exist() {
    let stage = Stage::new("empty").await;
    let topic = stage.topic("t");
    // The group has its members before the topic is there.
    stage.create(&stage.topic("other"), 1).await;
    let target = Target::new();
    let sink = start(
        stage.config(&[&format!("{}.*", stage.prefix)]),
        target.clone(),
    );
    sink.until_phase("writing 1 partition").await;
    stage.create_with(&topic, 8, &COMPACTED).await;
    let created = tokio::time::Instant::now();
    stage.register(&topic, VALUE_SCHEMA, true).await;
    target
        .until("the target", |state| !state.founded.is_empty())
        .await;
    let took = created.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    sink.until_phase("writing 9 partitions").await;
    let first = {
        let state = target.state();
        let [(founded, form)] = state.founded.as_slice() else {
            panic!("made {} times", state.founded.len());
        };
        let names = |fields: &[tributary_schemas::record::Field]| -> Vec<String> {
            fields.iter().map(|field| field.name.clone()).collect()
        };
        assert_eq!(founded, &topic);
        assert_eq!(names(&form.key_type.as_ref().unwrap().fields), ["id"]);
        assert_eq!(names(&form.row_type.fields), ["id", "number", "text"]);
        let mark = mark_of(&state, &topic).unwrap();
        assert_eq!((mark.partitions, mark.caught_up_ms.len()), (8, 0));
        mark.generation.clone()
    };
    // Longer than tombstones live: it is the same one, and fits, since nothing was read of any partition.
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < Duration::from_millis(2_500) {
        assert!(
            mark_of(&target.state(), &topic)
                .unwrap()
                .caught_up_ms
                .is_empty()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    sink.stop().await;
    for partition in 0..2 {
        let id = i64::from(partition);
        stage
            .send(&topic, partition, stage.change('c', id, 7, 10))
            .await;
    }
    let sink = start(stage.config(&[&topic]), target.clone());
    target
        .until("the rows", |state| state.live_rows().len() == 2)
        .await;
    sink.stop().await;
    let state = target.state();
    let mark = mark_of(&state, &topic).unwrap();
    assert_eq!((&mark.generation, state.generations), (&first, 1));
    assert!(mark.caught_up_ms.keys().all(|&partition| partition < 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_table_gets_no_target() {
    let stage = Stage::new("none").await;
    let mut topics = vec![stage.topic("unknown")];
    for (number, schema) in BESIDE.iter().enumerate() {
        let topic = stage.topic(&format!("beside{number}"));
        stage.register(&topic, schema, true).await;
        topics.push(topic);
    }
    // A compacted topic has keys: their subject is still to come.
    let late = stage.topic("late");
    stage.register(&late, VALUE_SCHEMA, false).await;
    topics.push(late.clone());
    for topic in &topics {
        stage.create_with(topic, 1, &COMPACTED).await;
    }
    let keyless = stage.topic("keyless");
    stage.create(&keyless, 1).await;
    stage.register(&keyless, VALUE_SCHEMA, false).await;

    let target = Target::new();
    let sink = start(
        stage.config(&[&format!("{}.*", stage.prefix)]),
        target.clone(),
    );
    sink.until_phase("writing 6 partitions").await;
    target
        .until("the one without a key", |state| !state.founded.is_empty())
        .await;
    stage.register(&late, VALUE_SCHEMA, true).await;
    target
        .until("the late one", |state| state.founded.len() == 2)
        .await;
    sink.stop().await;
    let state = target.state();
    let (with_key, without) = (&state.founded[1], &state.founded[0]);
    assert_eq!((&without.0, without.1.key_type.is_none()), (&keyless, true));
    assert_eq!((&with_key.0, with_key.1.key_type.is_some()), (&late, true));
    assert_eq!(state.marks.len(), 2);
}

/// As before: the first row makes it, and the registry is not asked about a topic that has rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_no_subject_names_gets_its_target_with_the_first_row() {
    let stage = Stage::new("rows").await;
    let topic = stage.topic("t");
    stage.create(&topic, 1).await;
    let target = Target::new();
    let sink = start(stage.config(&[&topic]), target.clone());
    sink.until_phase("writing 1 partition").await;
    assert!(target.state().marks.is_empty());
    stage.send(&topic, 0, stage.change('c', 1, 7, 10)).await;
    stage.until_committed(&topic, 0, 1).await;
    sink.stop().await;
    let sink = start(stage.config(&[&topic]), target.clone());
    stage.send(&topic, 0, stage.change('c', 2, 7, 11)).await;
    stage.until_committed(&topic, 0, 2).await;
    sink.stop().await;
    let state = target.state();
    assert_eq!((state.founded.len(), state.generations), (0, 1));
}
