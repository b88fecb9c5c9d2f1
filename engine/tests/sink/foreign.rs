//! Records of others: junk among ours, and topics that are not ours.

use rdkafka::Message;
use tributary_engine::OnError;
use tributary_engine::dead_letter;

use crate::double::Target;
use crate::stage::{Outgoing, Stage, header_of, start};

fn junk() -> Outgoing {
    Outgoing {
        key: Some(b"junk".to_vec()),
        value: Some(b"not avro".to_vec()),
        headers: Vec::new(),
    }
}

/// The offsets that the letters had, in order.
fn letters(stage: &Stage, topic: &str, count: i64) -> Vec<String> {
    assert_eq!(stage.end(topic, 0), count, "letters in {topic}");
    let letters = stage.read(topic, usize::try_from(count).unwrap());
    let offsets = letters.iter().map(|letter| {
        let offset = header_of(letter, dead_letter::OFFSET);
        offset.unwrap_or_default().to_owned()
    });
    offsets.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_among_our_records_is_diverted() {
    let stage = Stage::new("junk").await;
    let topic = stage.topic("t");
    stage.create(&topic, 1).await;
    let mut config = stage.config(&[&topic]);
    config.on_error = OnError::DeadLetter;
    let letter_topic = config.dead_letter_topic().unwrap();
    let target = Target::new();

    // Each run begins with junk, has one more between good records, and ends with one.
    for run in 0..3 {
        let id = i64::from(run) * 10;
        let begin = stage.end(&topic, 0);
        let sink = start(config.clone(), target.clone());
        stage.send(&topic, 0, junk()).await;
        stage.until_committed(&topic, 0, begin + 1).await;
        let seq = u64::try_from(begin).unwrap() + 1_000;
        stage.send(&topic, 0, stage.change('c', id, 1, seq)).await;
        stage.send(&topic, 0, junk()).await;
        stage
            .send(&topic, 0, stage.change('c', id + 1, 1, seq + 1))
            .await;
        stage.send(&topic, 0, junk()).await;
        stage.until_committed(&topic, 0, begin + 5).await;
        sink.stop().await;
    }
    let ids: Vec<_> = target.state().live_rows().into_keys().collect();
    assert_eq!(ids, [0, 1, 10, 11, 20, 21]);
    let expected = ["0", "2", "4", "5", "7", "9", "10", "12", "14"];
    assert_eq!(letters(&stage, &letter_topic, 9), expected);
    let letter = &stage.read(&letter_topic, 1)[0];
    assert_eq!(
        (letter.key(), letter.payload()),
        (Some(&b"junk"[..]), Some(&b"not avro"[..]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_without_a_version_among_ours_is_diverted_or_stops_the_sink() {
    let stage = Stage::new("unversioned").await;
    let topic = stage.topic("t");
    stage.create(&topic, 1).await;
    stage.send(&topic, 0, stage.change('c', 1, 1, 1_000)).await;
    stage.send(&topic, 0, stage.foreign('u', 1, 2)).await;
    stage.send(&topic, 0, stage.change('c', 3, 3, 1_001)).await;
    let target = Target::new();
    let mut config = stage.config(&[&topic]);
    let error = start(config.clone(), target.clone()).stops().await;
    assert_eq!(
        error.to_string(),
        format!(
            "topic {topic} partition 0 offset 1: the record lacks the header tributary.seq, which records of the \
             partition have, so that nothing says what of the row is newer; to do: let one source only write to the \
             topic, or set on_error = \"dead-letter\" to put such records aside"
        )
    );

    config.on_error = OnError::DeadLetter;
    let letter_topic = config.dead_letter_topic().unwrap();
    let sink = start(config, target.clone());
    stage.until_committed(&topic, 0, 3).await;
    sink.stop().await;
    let rows: Vec<_> = target.state().live_rows().into_iter().collect();
    assert_eq!(rows, [(1, 1), (3, 3)]);
    assert_eq!(letters(&stage, &letter_topic, 1), ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_truncate_in_one_partition() {
    let stage = Stage::new("truncate").await;
    let topic = stage.topic("t");
    stage.create(&topic, 2).await;
    let long = (0..100).map(|n| stage.foreign('c', n, n));
    stage.send_all(&topic, 1, long).await;
    let short = (0..3).map(|n| stage.foreign('c', 1_000 + n, n));
    stage.send_all(&topic, 0, short).await;
    let target = Target::new();
    let mut config = stage.config(&[&topic]);
    let sink = start(config.clone(), target.clone());
    stage.until_committed(&topic, 1, 100).await;
    stage.until_committed(&topic, 0, 3).await;
    sink.stop().await;

    stage.send(&topic, 1, stage.foreign_truncate()).await;
    let new = (0..5).map(|n| stage.foreign('c', 2_000 + n, n));
    stage.send_all(&topic, 0, new).await;
    let error = start(config.clone(), target.clone()).stops().await;
    assert_eq!(
        error.to_string(),
        format!(
            "topic {topic} partition 1 offset 100: the record says that the table was emptied (op t), and the topic \
             has 2 partitions, between which nothing tells what was before that; to do: set on_error = \
             \"dead-letter\" to put the record aside, and delete from the target the rows that the table has no \
             more; to have such records applied, give the topic one partition, and to have none, leave Debezium's \
             skipped.operations at its default"
        )
    );

    config.on_error = OnError::DeadLetter;
    let letter_topic = config.dead_letter_topic().unwrap();
    let sink = start(config, target.clone());
    stage.until_committed(&topic, 1, 101).await;
    stage.until_committed(&topic, 0, 8).await;
    sink.stop().await;
    assert_eq!(target.state().below, [0_u64; 0], "nothing is swept");
    assert_eq!(target.state().live_rows().len(), 108);
    assert_eq!(letters(&stage, &letter_topic, 1), ["100"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_truncate_in_the_only_partition_empties_the_table() {
    let stage = Stage::new("truncate-one").await;
    let topic = stage.topic("t");
    stage.create(&topic, 1).await;
    let rows = (0..10).map(|n| stage.foreign('c', n, n));
    stage.send_all(&topic, 0, rows).await;
    let target = Target::new();
    let sink = start(stage.config(&[&topic]), target.clone());
    stage.until_committed(&topic, 0, 10).await;
    stage.send(&topic, 0, stage.foreign_truncate()).await;
    stage.send(&topic, 0, stage.foreign('c', 100, 1)).await;
    stage.until_committed(&topic, 0, 12).await;
    sink.stop().await;
    assert_eq!(target.state().below, [11]);
    let ids: Vec<_> = target.state().live_rows().into_keys().collect();
    assert_eq!(ids, [100]);
}
