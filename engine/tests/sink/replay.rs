//! Letters that are replayed.

use serde_json::{Value, json};
use tributary_engine::{OnError, SinkConfig};
use tributary_runtime::cli::{Answer, exit};

use crate::double::Target;
use crate::stage::running::Running;
use crate::stage::{Outgoing, Stage, command, list, start};

/// A sink that puts records aside.
struct Diverting {
    stage: Stage,
    topic: String,
    target: Target,
    config: SinkConfig,
    sink: Running,
}

impl Diverting {
    async fn new(name: &str, partitions: i32, adapt: impl FnOnce(&mut SinkConfig)) -> Self {
        let stage = Stage::new(name).await;
        let topic = stage.topic("t");
        stage.create(&topic, partitions).await;
        let target = Target::new();
        let mut config = stage.config(&[&topic]);
        config.on_error = OnError::DeadLetter;
        adapt(&mut config);
        let sink = start(config.clone(), target.clone());
        Self {
            stage,
            topic,
            target,
            config,
            sink,
        }
    }

    /// Sends a record, and waits until it is in the target or put aside.
    async fn take(&self, record: Outgoing) {
        self.stage.send(&self.topic, 0, record).await;
        let end = self.stage.end(&self.topic, 0);
        self.stage.until_committed(&self.topic, 0, end).await;
    }

    async fn replay(&self, arguments: &[&str]) -> Answer {
        let words: Vec<_> = ["replay"].iter().chain(arguments).copied().collect();
        command(&self.config, self.sink.serve().await, &words).await
    }

    /// What the replay has said of the one topic.
    async fn replayed(&self) -> Value {
        let answer = self.replay(&["--yes"]).await;
        assert_eq!(answer.code, exit::OK, "{answer:?}");
        answer.json["topics"][0].clone()
    }

    fn counts(&self, applied: u64, superseded: u64, put_aside: u64, gone: u64) -> Value {
        json!({
            "topic": self.topic, "applied": applied, "superseded": superseded, "put_aside": put_aside, "gone": gone,
        })
    }

    /// The offsets of the letters that are open.
    async fn open(&self) -> Vec<i64> {
        let listed = list(&self.config, &[]).await;
        let letters = listed.json["letters"].as_array().unwrap();
        letters
            .iter()
            .map(|letter| letter["offset"].as_i64().unwrap())
            .collect()
    }

    /// How often the record at this offset was written.
    fn written(&self, offset: i64) -> usize {
        let state = self.target.state();
        state.offsets(0).iter().filter(|&&at| at == offset).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_letter_applies_its_keys_newest_record_and_nothing_older() {
    let sink = Diverting::new("replay", 1, |_| {}).await;
    let stage = &sink.stage;
    sink.target.refuse([1, 2]);
    for (offset, id, number) in [(0, 1, 1), (1, 2, 2), (2, 3, 3), (3, 2, 20)] {
        sink.take(stage.change('c', id, number, 10 + offset)).await;
    }
    sink.target.mend();
    // The first of them has become good by itself, with a newer record.
    sink.take(stage.change('u', 1, 11, 20)).await;
    assert_eq!(sink.open().await, [0, 1, 3]);

    let plan = sink.replay(&[]).await;
    assert_eq!(plan.code, exit::UNCONFIRMED);
    let line = format!(
        "{}[0]: 3 letters of 2 keys, whose records are read again from offset 0\n",
        sink.topic
    );
    assert!(plan.text.starts_with(&line), "{}", plan.text);
    assert_eq!(plan.json["plan"][0]["keys"], 2);
    let of_another = sink.replay(&["--topic", "another", "--yes"]).await;
    assert!(
        of_another
            .text
            .starts_with("there is nothing to replay on ")
    );
    assert_eq!(sink.target.state().written.len(), 2);

    assert_eq!(sink.replayed().await, sink.counts(1, 1, 0, 0));
    let rows = [(1, 11), (2, 20), (3, 3)];
    assert_eq!(sink.target.state().live_rows(), rows.into());
    assert_eq!(
        (sink.written(0), sink.written(1), sink.written(3)),
        (0, 0, 1)
    );
    assert!(sink.open().await.is_empty());
    // It goes on where it was.
    assert_eq!(stage.committed(&sink.topic, 0), Some(5));
    sink.take(stage.change('u', 2, 21, 30)).await;
    assert_eq!(sink.written(2) + sink.written(5), 2, "nothing twice");
    assert_eq!(sink.target.state().live_rows()[&2], 21);
    let again = sink.replay(&["--yes"]).await;
    assert!(again.text.starts_with("there is nothing to replay on "));
    assert_eq!(sink.target.state().overlaps, 0);
    sink.sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_brings_no_deleted_row_back() {
    let sink = Diverting::new("replay-deleted", 1, |_| {}).await;
    let stage = &sink.stage;
    sink.target.forget_deletes();
    sink.target.refuse([1, 2]);
    sink.take(stage.change('c', 1, 1, 10)).await;
    sink.take(stage.change('c', 2, 2, 11)).await;
    sink.target.mend();
    sink.take(stage.change('d', 1, 0, 12)).await;
    sink.take(stage.tombstone(1, 13)).await;

    // The other one is deleted while its letter is replayed.
    sink.target.hold(true);
    let (replayed, ()) = tokio::join!(sink.replayed(), async {
        sink.target.until_writing("the letters").await;
        stage
            .send(&sink.topic, 0, stage.change('d', 2, 0, 14))
            .await;
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        sink.target.hold(false);
    });
    assert_eq!(replayed, sink.counts(1, 1, 0, 0));
    stage.until_committed(&sink.topic, 0, 5).await;
    assert!(sink.target.state().rows.is_empty());
    assert_eq!((sink.written(0), sink.written(1)), (0, 1));
    assert_eq!(sink.target.state().overlaps, 0, "nothing beside the flow");
    sink.sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_is_still_refused_is_one_letter_again() {
    let sink = Diverting::new("replay-refused", 1, |_| {}).await;
    let stage = &sink.stage;
    sink.target.refuse([1]);
    sink.take(stage.change('c', 1, 1, 10)).await;
    sink.take(stage.change('u', 1, 2, 11)).await;
    assert_eq!(sink.open().await, [0, 1]);
    for _ in 0..2 {
        assert_eq!(sink.replayed().await, sink.counts(0, 0, 1, 0));
        assert_eq!(sink.open().await, [1]);
    }
    sink.target.mend();
    assert_eq!(sink.replayed().await, sink.counts(1, 0, 0, 0));
    assert_eq!(sink.target.state().live_rows(), [(1, 2)].into());
    assert!(sink.open().await.is_empty());
    sink.sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_ends_in_the_middle_is_run_again() {
    let sink = Diverting::new("replay-ends", 1, |_| {}).await;
    sink.target.refuse([1]);
    sink.take(sink.stage.change('c', 1, 1, 10)).await;
    sink.target.mend();
    sink.target.fail(usize::MAX);
    let running = sink.sink.serve().await;
    let orders =
        json!({"orders": [{"topic": sink.topic, "partition": 0, "letters": {"0": [0, 1]}}]});
    running.control("replay", &orders).await.unwrap();
    let twice = running.control("replay", &orders).await.unwrap_err();
    assert!(twice.remedy_text().is_some(), "{twice}");
    sink.sink
        .until_not_ready(&sink.topic, "the target is away")
        .await;
    let Diverting {
        stage,
        topic,
        target,
        config,
        sink: ended,
    } = sink;
    ended.stop().await;

    target.fail(0);
    // The answer of the first write is lost as well.
    target.fail_after_write(1);
    let sink = Diverting {
        sink: start(config.clone(), target.clone()),
        stage,
        topic,
        target,
        config,
    };
    sink.sink.until_phase("writing 1 partition").await;
    assert_eq!(sink.open().await, [0]);
    assert_eq!(sink.replayed().await, sink.counts(1, 0, 0, 0));
    assert_eq!(sink.target.state().live_rows(), [(1, 1)].into());
    assert!(sink.open().await.is_empty());
    sink.sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_partitions_go_on_while_letters_are_replayed() {
    let sink = Diverting::new("replay-others", 2, |_| {}).await;
    sink.target.refuse([1]);
    sink.take(sink.stage.change('c', 1, 1, 10)).await;
    sink.target.mend();
    sink.target.fail_at([1]);
    let (replayed, ()) = tokio::join!(sink.replayed(), async {
        sink.sink
            .until_not_ready(&sink.topic, "the row's place is away")
            .await;
        let row = sink.stage.change('c', 2, 2, 11);
        sink.stage.send(&sink.topic, 1, row).await;
        sink.stage.until_committed(&sink.topic, 1, 1).await;
        let told = sink.sink.health.details()["topics"][0]["reason"].clone();
        assert!(told.as_str().unwrap().contains("away"), "{told}");
        sink.target.fail_at([]);
    });
    assert_eq!(replayed, sink.counts(1, 0, 0, 0));
    sink.sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_from_the_table_or_the_log_is_not_replayed() {
    let sink = Diverting::new("replay-gone", 1, |_| {}).await;
    let stage = &sink.stage;
    sink.target.forget_deletes();
    sink.target.refuse([1, 2]);
    sink.take(stage.change('c', 1, 1, 10)).await;
    sink.take(stage.gone_below(20, 21)).await;
    sink.take(stage.change('c', 2, 2, 22)).await;
    sink.target.mend();
    assert_eq!(sink.replayed().await, sink.counts(1, 1, 0, 0));
    assert_eq!(sink.target.state().live_rows(), [(2, 2)].into());
    assert_eq!(sink.target.state().below, [20], "nothing is swept again");

    sink.target.refuse([3]);
    sink.take(stage.change('c', 3, 3, 23)).await;
    sink.target.mend();
    sink.take(stage.change('c', 4, 4, 24)).await;
    stage.delete_below(&sink.topic, 0, 4).await;
    assert_eq!(sink.replayed().await, sink.counts(0, 0, 0, 1));
    assert_eq!(sink.open().await, [0; 0]);
    assert_eq!(sink.written(3), 0);
    sink.sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_of_records_without_a_version() {
    let sink = Diverting::new("replay-foreign", 1, |_| {}).await;
    let stage = &sink.stage;
    sink.target.forget_deletes();
    sink.target.refuse([1, 2]);
    sink.take(stage.foreign('c', 1, 1)).await;
    sink.take(stage.foreign_truncate()).await;
    sink.take(stage.foreign('c', 2, 2)).await;
    // Nothing mends it.
    let junk = Outgoing {
        key: None,
        value: Some(b"junk".to_vec()),
        headers: Vec::new(),
    };
    sink.take(junk).await;
    sink.target.mend();
    assert_eq!(sink.replayed().await, sink.counts(1, 1, 1, 0));
    assert_eq!(sink.target.state().rows, [(2, (3, Some(2)))].into());
    assert_eq!(sink.open().await, [3]);
    sink.sink.stop().await;

    // Among such that have a version it never gets one.
    let sink = Diverting::new("replay-unversioned", 1, |_| {}).await;
    let stage = &sink.stage;
    sink.take(stage.change('c', 1, 1, 10)).await;
    sink.take(stage.foreign('c', 2, 2)).await;
    assert_eq!(sink.open().await, [1]);
    assert_eq!(sink.replayed().await, sink.counts(0, 0, 1, 0));
    assert_eq!(sink.target.state().live_rows(), [(1, 1)].into());
    sink.sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_without_a_key_are_replayed_unless_the_table_was_emptied_since() {
    let sink = Diverting::new("replay-keyless", 1, |_| {}).await;
    let stage = &sink.stage;
    let keyless = |record| Outgoing {
        key: None,
        ..record
    };
    let row = |id, seq| keyless(stage.change('c', id, id, seq));
    sink.target.refuse([1, 2]);
    sink.take(row(1, 10)).await;
    sink.take(row(2, 11)).await;
    sink.take(keyless(stage.gone_below(11, 12))).await;
    sink.take(row(3, 13)).await;
    sink.target.mend();
    let plan = sink.replay(&[]).await;
    let line = format!(
        "{}[0]: 2 letters of 2 rows without a key, whose records are read again from offset 0\n",
        sink.topic
    );
    assert!(plan.text.starts_with(&line), "{}", plan.text);
    assert_eq!(sink.replayed().await, sink.counts(1, 1, 0, 0));
    let rows = [(2, 2), (3, 3)];
    assert_eq!(sink.target.state().live_rows(), rows.into());
    assert_eq!(
        (sink.written(0), sink.written(1), sink.written(3)),
        (0, 1, 1)
    );
    assert!(sink.open().await.is_empty());

    // One that is still refused stays, until its record is gone; that is said.
    sink.target.refuse([4]);
    sink.take(row(4, 14)).await;
    assert_eq!(sink.replayed().await, sink.counts(0, 0, 1, 0));
    assert_eq!(sink.open().await, [4]);
    sink.target.mend();
    sink.take(row(5, 15)).await;
    stage.delete_below(&sink.topic, 0, 5).await;
    let answer = sink.replay(&["--yes"]).await;
    assert_eq!(answer.json["topics"][0], sink.counts(0, 0, 0, 1));
    let named = format!("{}[0] offset 4: the log has this record", sink.topic);
    assert!(answer.text.contains(&named), "{answer:?}");
    assert_eq!(sink.written(4), 0);
    sink.sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_that_have_no_room_together_are_replayed_in_passes() {
    let sink = Diverting::new("replay-passes", 1, |config| {
        config.batch.bytes = 50_000;
        config.batch.buffer_bytes = 200_000;
    })
    .await;
    sink.target.refuse(0..100);
    let rows = (0..100).map(|n| sink.stage.wide_change('c', n, n, 10, 2_000));
    sink.stage.send_all(&sink.topic, 0, rows).await;
    sink.stage.until_committed(&sink.topic, 0, 100).await;
    sink.target.mend();
    let before = sink.target.state().batches;
    let counts = sink.replayed().await;
    assert_eq!(sink.target.state().live_rows().len(), 100);
    // A key of which a letter stands in two passes is counted twice.
    assert_eq!(counts, sink.counts(100, 0, 0, 0));
    let passes = sink.target.state().batches - before;
    assert!((5..50).contains(&passes), "{passes}");
    assert_eq!(sink.sink.health.details()["buffered_bytes"], 0);
    assert!(sink.open().await.is_empty());
    sink.sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_instance_replays_the_letters_of_its_partitions() {
    let first = Diverting::new("replay-group", 2, |_| {}).await;
    first.target.refuse([0, 1]);
    for partition in 0..2 {
        let id = i64::from(partition);
        let row = first.stage.change('c', id, id, 10);
        first.stage.send(&first.topic, partition, row).await;
        first
            .stage
            .until_committed(&first.topic, partition, 1)
            .await;
    }
    first.target.mend();
    let second = start(first.config.clone(), first.target.as_instance("b"));
    second.until_phase("writing 1 partition").await;
    first.sink.until_phase("writing 1 partition").await;

    let answer = first.replay(&["--yes"]).await;
    assert_eq!(answer.code, exit::PROBLEMS, "{answer:?}");
    assert!(answer.text.contains("another instance has the partition"));
    assert_eq!(first.target.state().rows.len(), 1);
    let words = ["replay", "--yes"];
    let answer = command(&first.config, second.serve().await, &words).await;
    assert_eq!(answer.code, exit::OK, "{answer:?}");
    assert_eq!(first.target.state().rows.len(), 2);

    // What is paused waits.
    first.target.refuse([2]);
    let ask = |what| first.sink.health.control(what, &json!({})).unwrap();
    let row = first.stage.change('c', 2, 2, 10);
    first.stage.send_all(&first.topic, 0, [row]).await;
    first.stage.until_committed(&first.topic, 0, 2).await;
    second.stop().await;
    first.sink.until_phase("writing 2 partitions").await;
    first.target.mend();
    ask("pause");
    first.sink.until_phase("paused").await;
    let answer = first.replay(&["--yes"]).await;
    assert!(answer.text.contains("the topic is paused"), "{answer:?}");
    ask("resume");
    first.sink.until_phase("writing 2 partitions").await;
    assert_eq!(first.replayed().await, first.counts(1, 0, 0, 0));
    first.sink.stop().await;
}
