//! What every target must do, as one list of checks that runs against a real one.
//!
//! Each check panics with what it found. The table has the columns `id` (the key), `number` and `text`.

#![expect(clippy::unwrap_used, reason = "a check panics, as a test does")]

use std::collections::BTreeMap;
use std::sync::Arc;

use tributary_runtime::{Error, Policy};
use tributary_schemas::decode::{KeyPlan, ValuePlan};

use crate::flow::batch::{Batch, Source};
use crate::flow::coalesce::{History, Outcome, coalesce};
use crate::flow::plans::Plans;
use crate::flow::records::Records;
use crate::mark::{Known, Mark, Note};
use crate::sample::{
    Deed, KEY_ID, KEY_SCHEMA, TRUNCATE_ID, TRUNCATE_SCHEMA, VALUE_ID, VALUE_SCHEMA, message,
};
use crate::target::{Lane, Stand, Swept, Target, WriteError, Written};
use crate::topics::{TopicPartition, table_of};

/// A target that is checked.
pub trait Subject: Sync {
    /// How an instance of the service has it.
    type Target: Target;

    /// One more instance of one service.
    fn instance(&self) -> Self::Target;

    /// The numbers of the rows that a reader sees, by id.
    fn rows(&self) -> impl Future<Output = BTreeMap<i64, i64>> + Send;

    /// A text that the target refuses in a row, if there is one.
    fn refused_text(&self) -> Option<String>;
}

/// The rows that are expected.
fn rows<const N: usize>(rows: [(i64, i64); N]) -> BTreeMap<i64, i64> {
    BTreeMap::from(rows)
}

/// Runs all checks on the target of a topic that has none yet.
///
/// # Panics
/// The target does not do what it must.
pub async fn check<S: Subject>(subject: &S, topic: &str) {
    let writes = Writes { topic };
    let (first, second) = (subject.instance(), subject.instance());
    let table = table_of(topic);
    let one = first.lane(topic, &table).await.unwrap();
    let other = second.lane(topic, &table).await.unwrap();

    assert_eq!(generation(&one).await, None, "there is no target yet");
    // As the engine does: a target begins with the first record, when its partitions have been taken.
    for partition in [0, 1] {
        let stand = one.take(partition).await.unwrap();
        let has_none = matches!(stand, Stand::AsTheGroup | Stand::Nowhere);
        assert!(has_none, "{stand:?}, before anything was written");
    }
    begins_once(&one, &other).await;
    notes_of_its_own_generation(&one).await;
    writes_as_often_as_asked(subject, &one, &writes).await;
    keeps_the_newest(subject, &one, &writes).await;
    sweeps(subject, &one, &writes).await;
    names_what_it_refuses(subject, &one, &writes).await;
    replays(subject, &one, &writes).await;
    is_taken_over(subject, &one, &other, &writes).await;
    discards_its_own_generation(subject, &other).await;
}

/// A topic's batches.
struct Writes<'a> {
    topic: &'a str,
}

impl Writes<'_> {
    /// Records of a partition, from an offset on; each with its version.
    fn batch(&self, partition: i32, first: i64, records: &[(u64, Deed, &str)]) -> Batch {
        let partition = TopicPartition {
            topic: self.topic.to_owned(),
            partition,
        };
        let mut of_batch = Records::default();
        for (offset, &(seq, deed, text)) in (first..).zip(records) {
            of_batch.push(&message(&partition, offset, Some(seq), deed, text));
        }
        let table = table_of(self.topic);
        let source = Arc::new(Source { partition, table });
        let mut history = History::default();
        let coalesced = coalesce(source, of_batch, &plans(), &mut history, None);
        match coalesced.unwrap() {
            Outcome::Coalesced(coalesced) => coalesced.batch,
            Outcome::NeedsPartitions(_) => panic!("every record has its version"),
        }
    }
}

fn plans() -> Plans {
    let mut plans = Plans::default();
    for (id, schema) in [(KEY_ID, KEY_SCHEMA), (TRUNCATE_ID, TRUNCATE_SCHEMA)] {
        let plan = KeyPlan::compile(schema).map(Arc::new).map_err(Arc::new);
        plans.keys.insert(id, Some(plan));
    }
    let plan = ValuePlan::compile(VALUE_SCHEMA);
    let plan = plan.map(Arc::new).map_err(Arc::new);
    plans.values.insert(VALUE_ID, Some(plan));
    plans
}

const fn upsert(seq: u64, id: i64, number: i64) -> (u64, Deed, &'static str) {
    (seq, Deed::Upsert { id, number }, "x")
}

const fn delete(seq: u64, id: i64) -> (u64, Deed, &'static str) {
    (seq, Deed::Delete { id }, "")
}

/// Writes, and makes it durable.
async fn write(lane: &impl Lane, batches: &[Batch]) {
    let mut result = lane.write(batches).await;
    for _ in 0..5 {
        match result {
            Ok(Written::Durable) => return,
            Ok(Written::Accepted) => return lane.settle().await.unwrap(),
            Ok(Written::Unswept) => return sweep(lane, batches).await,
            Err(WriteError::Target(error)) if error.policy() == Policy::Retry => {
                result = lane.write(batches).await;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    panic!("{result:?}, again and again");
}

/// Sweeps to the end what the batches ask for.
async fn sweep(lane: &impl Lane, batches: &[Batch]) {
    let Some(below) = batches.iter().filter_map(Batch::below).max() else {
        return;
    };
    for _ in 0..100 {
        match lane.sweep(below).await {
            Ok(Swept::All) => return,
            Ok(Swept::Some) => {}
            Err(error) => assert_eq!(error.policy(), Policy::Retry, "{error}"),
        }
    }
    panic!("a sweep has no end");
}

async fn generation(lane: &impl Lane) -> Option<String> {
    match lane.known().await.unwrap() {
        Known::Nothing => None,
        Known::Marked(mark) => Some(mark.generation),
        Known::Unfit { reason, .. } => panic!("it is unfit: {reason}"),
    }
}

/// Whoever comes second finds what the first has begun.
async fn begins_once(one: &impl Lane, other: &impl Lane) {
    let mark = Mark::new(Some("an-id".to_owned()), 2);
    one.begin(&mark).await.unwrap();
    other.begin(&Mark::new(None, 7)).await.unwrap();
    let known = Known::Marked(mark);
    assert_eq!(one.known().await.unwrap(), known);
    assert_eq!(other.known().await.unwrap(), known);
}

async fn notes_of_its_own_generation(lane: &impl Lane) {
    let ours = generation(lane).await.unwrap();
    let partition = 0;
    let note = |at_ms| [Note::CaughtUp { partition, at_ms }];
    assert!(!lane.note("another", &note(9)).await.unwrap());
    assert!(lane.note(&ours, &note(5)).await.unwrap());
    assert!(lane.note(&ours, &note(3)).await.unwrap());
    let Known::Marked(mark) = lane.known().await.unwrap() else {
        panic!("the mark is gone");
    };
    let caught_up = BTreeMap::from([(0, 5)]);
    assert_eq!(mark.caught_up_ms, caught_up, "the later time of its own");
    assert!(!mark.versions_are_offsets);
    let versions = [Note::VersionsAreOffsets];
    assert!(lane.note(&ours, &versions).await.unwrap());
    let known = lane.known().await.unwrap();
    assert!(matches!(known, Known::Marked(mark) if mark.versions_are_offsets));
}

/// The same records again, and fewer of them, change nothing.
async fn writes_as_often_as_asked<S: Subject>(subject: &S, lane: &impl Lane, writes: &Writes<'_>) {
    let both = || {
        [
            writes.batch(0, 0, &[upsert(10, 1, 1), upsert(11, 2, 2)]),
            writes.batch(1, 0, &[upsert(12, 3, 3)]),
        ]
    };
    write(lane, &both()).await;
    let expected = rows([(1, 1), (2, 2), (3, 3)]);
    assert_eq!(subject.rows().await, expected);
    write(lane, &both()).await;
    let mut fewer = writes.batch(0, 0, &[upsert(10, 1, 1), upsert(11, 2, 2)]);
    fewer.remove(1);
    write(lane, &[fewer]).await;
    write(lane, &[writes.batch(0, 2, &[])]).await;
    assert_eq!(subject.rows().await, expected, "after the same again");
}

/// An older record after a newer one changes nothing; nor does one that comes a second time after a delete of its key.
async fn keeps_the_newest<S: Subject>(subject: &S, lane: &impl Lane, writes: &Writes<'_>) {
    let newer = [upsert(22, 1, 22), delete(23, 2)];
    write(lane, &[writes.batch(0, 2, &newer)]).await;
    let expected = rows([(1, 22), (3, 3)]);
    assert_eq!(subject.rows().await, expected);
    let again = [upsert(10, 1, 1), upsert(11, 2, 2)];
    write(lane, &[writes.batch(0, 0, &again)]).await;
    write(lane, &[writes.batch(0, 4, &[upsert(20, 1, 20)])]).await;
    assert_eq!(subject.rows().await, expected, "after older records");
}

/// What is below is gone, in all partitions; what comes with it is there. An older write that comes late brings nothing back: neither a
/// row that was there, nor one that was read together with the boundary and so never was.
async fn sweeps<S: Subject>(subject: &S, lane: &impl Lane, writes: &Writes<'_>) {
    let below = (31, Deed::Below(30), "");
    let records = [upsert(29, 9, 9), below, upsert(32, 4, 4)];
    write(lane, &[writes.batch(0, 5, &records)]).await;
    assert_eq!(subject.rows().await, rows([(4, 4)]));
    let late = [(2, 1, upsert(22, 1, 22)), (5, 9, upsert(29, 9, 9))];
    for (offset, id, record) in late {
        write(lane, &[writes.batch(0, offset, &[record])]).await;
        assert_eq!(subject.rows().await, rows([(4, 4)]), "after row {id} again");
    }
    write(lane, &[writes.batch(0, 5, &records)]).await;
    assert_eq!(subject.rows().await, rows([(4, 4)]), "after the same again");
}

/// All that is refused is named, and the rest is written without it.
async fn names_what_it_refuses<S: Subject>(subject: &S, lane: &impl Lane, writes: &Writes<'_>) {
    let Some(text) = subject.refused_text() else {
        write(lane, &[writes.batch(0, 8, &[upsert(40, 5, 5)])]).await;
        return;
    };
    let refused = |seq, id| (seq, Deed::Upsert { id, number: 0 }, text.as_str());
    let records = [refused(40, 6), upsert(41, 5, 5), refused(42, 7)];
    let mut batch = [writes.batch(0, 8, &records)];
    // One at a time at worst.
    for _ in 0..2 {
        match lane.write(&batch).await {
            Err(WriteError::Rejected(rejections)) => {
                for refused in rejections {
                    assert_eq!(refused.partition, 0);
                    assert!(batch[0].has(refused.offset), "{refused:?} is not in it");
                    assert_ne!(refused.offset, 9, "{refused:?} can be taken");
                    batch[0].remove(refused.offset);
                }
            }
            Ok(_) => break,
            Err(error) => panic!("{error:?}"),
        }
    }
    write(lane, &batch).await;
    assert_eq!(subject.rows().await, rows([(4, 4), (5, 5)]));
}

/// What is read again from below its place is written, where it is newer than the row; the place stays, as whoever takes over sees.
async fn replays<S: Subject>(subject: &S, lane: &impl Lane, writes: &Writes<'_>) {
    let mut expected = subject.rows().await;
    let mut again = writes.batch(0, 3, &[upsert(45, 4, 44), upsert(39, 5, 1)]);
    again.is_replay = true;
    write(lane, &[again]).await;
    expected.insert(4, 44);
    assert_eq!(subject.rows().await, expected);
}

/// A target that keeps offsets knows where it stands, and takes no more from who had the partition before.
async fn is_taken_over<S: Subject>(
    subject: &S,
    one: &impl Lane,
    other: &impl Lane,
    writes: &Writes<'_>,
) {
    let before = subject.rows().await;
    let stand = other.take(0).await.unwrap();
    let late = writes.batch(0, 20, &[upsert(50, 8, 8)]);
    if stand == Stand::AsTheGroup {
        return;
    }
    assert!(
        matches!(stand, Stand::At(9 | 11)),
        "{stand:?} is not behind the last record"
    );
    let refused = one.write(&[late]).await;
    assert!(
        matches!(refused, Err(WriteError::TakenOver(_))),
        "the earlier holder's write: {refused:?}"
    );
    assert_eq!(subject.rows().await, before);
    write(other, &[writes.batch(0, 20, &[upsert(51, 8, 9)])]).await;
    write(one, &[writes.batch(1, 1, &[upsert(52, 3, 33)])]).await;
    let rows = subject.rows().await;
    assert_eq!((rows.get(&8), rows.get(&3)), (Some(&9), Some(&33)));
}

async fn discards_its_own_generation<S: Subject>(subject: &S, lane: &impl Lane) {
    let ours = generation(lane).await;
    let before = subject.rows().await;
    let done: Result<(), Error> = lane.discard(Some("another")).await;
    done.unwrap();
    assert_eq!(generation(lane).await, ours);
    assert_eq!(subject.rows().await, before);
    lane.discard(ours.as_deref()).await.unwrap();
    assert_eq!(generation(lane).await, None);
    lane.begin(&Mark::new(None, 2)).await.unwrap();
    assert_eq!(subject.rows().await, BTreeMap::new());
    let stand = lane.take(0).await.unwrap();
    assert!(!matches!(stand, Stand::At(_)), "{stand:?} after a discard");
}
