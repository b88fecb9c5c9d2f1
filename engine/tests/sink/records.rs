//! What arrives, and what is left of it.

use std::time::Duration;

use tributary_engine::{BatchConfig, OnError};

use crate::double::Target;
use crate::stage::{Stage, start};

#[tokio::test(flavor = "multi_thread")]
async fn every_record_arrives_once_and_the_rows_converge() {
    let stage = Stage::new("converge").await;
    let topic = stage.topic("t");
    stage.create(&topic, 3).await;
    for partition in 0..3 {
        let base = i64::from(partition) * 1_000;
        let created = (0..500).map(|n| stage.change('c', base + n, n, 10));
        stage.send_all(&topic, partition, created).await;
    }
    let target = Target::new();
    let mut config = stage.config(&[&topic]);
    config.batch.rows = 100;
    let sink = start(config, target.clone());
    target
        .until("all rows", |state| state.written.len() == 1_500)
        .await;
    for partition in 0..3 {
        let expected: Vec<_> = (0..500).collect();
        assert_eq!(target.state().offsets(partition), expected);
        stage.until_committed(&topic, partition, 500).await;
    }
    stage
        .send(&topic, 1, stage.change('u', 1_007, 70, 20))
        .await;
    stage.send(&topic, 1, stage.change('d', 1_008, 0, 21)).await;
    stage.send(&topic, 1, stage.tombstone(1_008, 22)).await;
    target
        .until("the delete", |state| state.live_rows().len() == 1_499)
        .await;
    assert_eq!(target.state().live_rows().get(&1_007), Some(&70));
    assert!(
        target.state().batches >= 15,
        "batches have 100 rows at most"
    );
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_batch_has_the_newest_record_of_each_key() {
    let stage = Stage::new("coalesce").await;
    let topic = stage.topic("t");
    stage.create(&topic, 1).await;
    let updates = (0..300).map(|n| stage.change('u', n % 3, n, 10 + n.cast_unsigned()));
    stage.send_all(&topic, 0, updates).await;
    stage.send(&topic, 0, stage.gone_below(309, 400)).await;
    let target = Target::new();
    let mut config = stage.config(&[&topic]);
    // All 301 records are there when the sink begins: one batch.
    config.batch = BatchConfig {
        linger_ms: 2_000,
        ..config.batch
    };
    let sink = start(config, target.clone());
    target.until("a batch", |state| state.batches == 1).await;
    assert_eq!(
        target.state().offsets(0),
        [299],
        "two of three are below 309"
    );
    assert_eq!(target.state().below, [309]);
    assert_eq!(target.state().live_rows().get(&2), Some(&299));
    stage.until_committed(&topic, 0, 301).await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_find_new_topics_and_leave_internal_ones_alone() {
    let stage = Stage::new("pattern").await;
    let (first, second) = (stage.topic("first"), stage.topic("second"));
    let internal = format!("{}.progress", stage.prefix);
    let letters = format!("{}.other.dead-letter", stage.prefix);
    for topic in [&first, &internal, &letters] {
        stage.create(topic, 1).await;
    }
    stage.send(&first, 0, stage.change('c', 1, 1, 1)).await;
    // A record that would stop the sink if it were read.
    for topic in [&internal, &letters] {
        let mut record = stage.change('c', 2, 2, 2);
        record.value = Some(b"no Avro".to_vec());
        stage.send(topic, 0, record).await;
    }
    let target = Target::new();
    let pattern = format!("{}.*", stage.prefix);
    let sink = start(stage.config(&[&pattern]), target.clone());
    target
        .until("the first topic", |state| state.rows.contains_key(&1))
        .await;
    stage.create(&second, 1).await;
    stage.send(&second, 0, stage.change('c', 3, 3, 3)).await;
    target
        .until("the second topic", |state| state.rows.contains_key(&3))
        .await;
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_slow_targets_wait_for_each_other() {
    let stage = Stage::new("slow").await;
    let topic = stage.topic("t");
    stage.create(&topic, 2).await;
    for partition in 0..2 {
        let base = i64::from(partition) * 1_000;
        // Written in two seconds: a broker under load may send a partition later than the other, by the time that an empty fetch
        // waits.
        let created = (0..400).map(|n| stage.change('c', base + n, n, 10));
        stage.send_all(&topic, partition, created).await;
    }
    let target = Target::new();
    target.slow(Duration::from_millis(50));
    let mut config = stage.config(&[&topic]);
    config.batch.rows = 10;
    config.batch.in_flight = 1;
    let sink = start(config, target.clone());
    target
        .until("all rows", |state| state.rows.len() == 800)
        .await;
    assert_eq!(target.state().overlaps, 0);
    // With one write at a time, partitions take turns: neither is done before the other begins.
    let written = target.state().written.clone();
    let first_of = |partition| {
        written
            .iter()
            .position(|w| w.partition == partition)
            .unwrap()
    };
    let last_of = |partition| {
        written
            .iter()
            .rposition(|w| w.partition == partition)
            .unwrap()
    };
    assert!(first_of(0) < last_of(1) && first_of(1) < last_of(0));
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_reports_all_that_is_missing_at_once() {
    let stage = Stage::new("check").await;
    let topic = stage.topic("t");
    stage.create(&topic, 1).await;
    let pattern = format!("{}.s.*", stage.prefix);
    assert_eq!(
        tributary_engine::check(&stage.config(&[&topic, &pattern])).await,
        []
    );

    let mut config = stage.config(&[&topic, "loop-no.such.topic", "loop-no.such.*"]);
    config.kafka.registry = "http://127.0.0.1:1".to_owned();
    let problems = tributary_engine::check(&config).await;
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert_eq!(
        problems[0],
        "there is no topic 'loop-no.such.topic' in Kafka; to do: start the source, which creates its topics, or \
         correct `topics`"
    );
    assert!(problems[1].starts_with("there is no topic 'loop-no.such.*' in Kafka"));
    assert!(problems[2].contains("registry"), "{}", problems[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letter_topic_that_matches_topics() {
    let stage = Stage::new("letters-match").await;
    let topic = stage.topic("t");
    stage.create(&topic, 1).await;
    let letters = stage.topic("letters");
    let pattern = format!("{}.*", stage.prefix);
    let mut config = stage.config(&[&pattern]);
    config.dead_letter_topic = Some(letters.clone());
    assert_eq!(config.validate(), [], "nothing is put aside");
    config.on_error = OnError::DeadLetter;
    let expected = format!(
        "the dead-letter topic '{letters}' matches '{pattern}' of `topics`: what is put aside would be read again; \
         to do: give `dead_letter_topic` a name that ends in .dead-letter, which no pattern matches, or leave it out"
    );
    let problems: Vec<_> = config.validate().iter().map(ToString::to_string).collect();
    assert_eq!(problems, [expected.as_str()]);
    let error = start(config.clone(), Target::new()).stops().await;
    assert_eq!(error.to_string(), expected);
    config.topics = vec![topic, letters];
    assert_eq!(config.validate().len(), 1);
    // The remedy.
    config.topics = vec![pattern];
    config.dead_letter_topic = Some(stage.topic("letters.dead-letter"));
    assert_eq!(config.validate(), []);
}
