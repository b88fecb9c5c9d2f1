//! Bad records, and targets that fail.

use rdkafka::Message;
use tributary_engine::{OnError, dead_letter};
use tributary_schemas::{header, wire};

use crate::double::Target;
use crate::stage::{Outgoing, Stage, header_of, list, start};

/// Row 1, a bad record at offset 1, row 3.
async fn with_bad_record(stage: &Stage, bad: Outgoing) -> String {
    let topic = stage.topic("t");
    stage.create(&topic, 1).await;
    stage.send(&topic, 0, stage.change('c', 1, 1, 1)).await;
    stage.send(&topic, 0, bad).await;
    stage.send(&topic, 0, stage.change('c', 3, 3, 3)).await;
    topic
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_schema_id_stops_the_sink_with_nothing_lost() {
    let stage = Stage::new("unknown").await;
    let mut bad = stage.change('c', 2, 2, 2);
    bad.value = Some([&wire::prefix(987_654_321)[..], b"body"].concat());
    let topic = with_bad_record(&stage, bad).await;
    let target = Target::new();
    let error = start(stage.config(&[&topic]), target.clone()).stops().await;
    assert_eq!(
        error.to_string(),
        format!(
            "topic {topic} partition 0 offset 1: the value's schema id 987654321 is unknown to the schema registry; \
             to do: set kafka.registry to the registry that the producer uses, or restore its store, or set \
             on_error = \"dead-letter\" to put such records aside"
        )
    );
    let committed = stage.committed(&topic, 0);
    assert!(committed.is_none_or(|offset| offset <= 1), "{committed:?}");

    // With the record put aside, the same sink goes on and has all others.
    let mut config = stage.config(&[&topic]);
    config.on_error = OnError::DeadLetter;
    let sink = start(config, target.clone());
    target
        .until("the good rows", |state| state.rows.len() == 2)
        .await;
    stage.until_committed(&topic, 0, 3).await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_record_stops_the_sink_with_the_place_in_the_body() {
    let stage = Stage::new("corrupt").await;
    let mut bad = stage.change('c', 2, 2, 2);
    bad.value.as_mut().unwrap().truncate(8);
    let topic = with_bad_record(&stage, bad).await;
    let target = Target::new();
    let error = start(stage.config(&[&topic]), target).stops().await;
    let message = error.to_string();
    let expected = format!(
        "topic {topic} partition 0 offset 1: the value does not decode with schema id {}: the body does not fit its \
         schema at after",
        stage.value_id()
    );
    assert!(message.starts_with(&expected), "{message}");
    assert!(
        message.ends_with(
            "; to do: find out what wrote the record, or set on_error = \"dead-letter\" to put such records aside"
        ),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_records_go_to_the_dead_letter_topic_as_received() {
    let stage = Stage::new("letters").await;
    let bad = Outgoing {
        key: stage.change('c', 2, 2, 2).key,
        value: Some(b"{\"id\": 2}".to_vec()),
        headers: vec![
            (header::SEQ, 2_u64.to_be_bytes().to_vec()),
            ("own", b"kept".to_vec()),
        ],
    };
    let (key, value) = (bad.key.clone(), bad.value.clone());
    let topic = with_bad_record(&stage, bad).await;
    let target = Target::new();
    target.refuse([3]);
    let mut config = stage.config(&[&topic]);
    config.on_error = OnError::DeadLetter;
    let name = config.name.clone();
    let letters = config.dead_letter_topic().unwrap();
    assert_eq!(letters, format!("{}.{name}.dead-letter", stage.prefix));
    let mut named = config.clone();
    let sink = start(config, target.clone());
    stage.until_committed(&topic, 0, 3).await;
    assert_eq!(target.state().offsets(0), [0]);

    let letters = stage.read(&letters, 2);
    assert_eq!(
        (letters[0].key(), letters[0].payload()),
        (key.as_deref(), value.as_deref())
    );
    let expected = [
        ("own", "kept"),
        (dead_letter::TOPIC, topic.as_str()),
        (dead_letter::PARTITION, "0"),
        (dead_letter::OFFSET, "1"),
        (
            dead_letter::ERROR,
            "the value is JSON without a schema (schemas.enable=false), not Avro",
        ),
        (dead_letter::SERVICE, name.as_str()),
    ];
    for (header, value) in expected {
        assert_eq!(header_of(&letters[0], header), Some(value), "{header}");
    }
    assert_eq!(header_of(&letters[1], dead_letter::OFFSET), Some("2"));
    assert_eq!(
        header_of(&letters[1], dead_letter::ERROR),
        Some("the target refuses the record: the row is too wide")
    );
    sink.stop().await;

    let listed = list(&named, &[]).await;
    let place = |index: usize| {
        let letter = &listed.json["letters"][index];
        (letter["topic"].clone(), letter["offset"].clone())
    };
    assert_eq!(listed.json["letters"].as_array().unwrap().len(), 2);
    assert_eq!(place(0), (topic.as_str().into(), 1.into()));
    assert_eq!(place(1), (topic.as_str().into(), 2.into()));
    let newest = list(&named, &["--lines", "1"]).await.text;
    let line = format!("{topic}[0] offset 2: the target refuses the record: the row is too wide\n");
    assert!(newest.ends_with(&line), "{newest}");
    assert!(newest.contains("the oldest 1 are left out"), "{newest}");
    named.dead_letter_topic = Some(format!("{}.nobody.dead-letter", stage.prefix));
    let none = list(&named, &[]).await.text;
    assert!(none.starts_with("nothing was put aside on "), "{none}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_record_stops_the_sink() {
    let stage = Stage::new("refused").await;
    let topic = with_bad_record(&stage, stage.change('c', 2, 2, 2)).await;
    let target = Target::new();
    target.refuse([2]);
    let error = start(stage.config(&[&topic]), target).stops().await;
    assert_eq!(
        error.to_string(),
        format!(
            "topic {topic} partition 0 offset 1: the target refuses the record: the row is too wide; to do: make the \
             target take it, or set on_error = \"dead-letter\" to put such records aside"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_away_is_tried_again_and_ready_says_why() {
    let stage = Stage::new("away").await;
    let topic = stage.topic("t");
    stage.create(&topic, 1).await;
    stage.send(&topic, 0, stage.change('c', 1, 1, 1)).await;
    let target = Target::new();
    target.fail(usize::MAX);
    let sink = start(stage.config(&[&topic]), target.clone());
    let reason = format!("{topic}: write {topic}[0]: the target is away");
    target
        .until("the reason", |_| {
            sink.health.not_ready() == Some(reason.clone())
        })
        .await;
    target.fail(0);
    target.until("the row", |state| state.rows.len() == 1).await;
    stage.until_committed(&topic, 0, 1).await;
    assert_eq!(sink.health.not_ready(), None);
    assert_eq!(sink.health.phase(), "writing 1 partition");
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_writes_the_same_batch_again() {
    let stage = Stage::new("again").await;
    let topic = stage.topic("t");
    stage.create(&topic, 1).await;
    let records = (0..5).map(|n| stage.change('c', n, n, 10));
    stage.send_all(&topic, 0, records).await;
    let target = Target::new();
    target.fail_after_write(1);
    let mut config = stage.config(&[&topic]);
    config.batch.linger_ms = 2_000;
    let sink = start(config, target.clone());
    stage.until_committed(&topic, 0, 5).await;
    sink.stop().await;
    assert_eq!(target.state().offsets(0), [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
    assert_eq!(target.state().live_rows().len(), 5);
}
