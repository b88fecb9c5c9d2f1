//! An in-memory target with faults.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tributary_engine::{
    Action, Batch, Change, Known, Lane, Mark, Note, Rejection, RowForm, Stand, TableName,
    TopicPartition, WriteError, Written as Outcome,
};
use tributary_runtime::Error;
use tributary_schemas::record::{Datum, Row};

/// Several instances of a sink may write to one target: clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    shared: Arc<Shared>,
    instance: &'static str,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
    held: watch::Sender<bool>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    /// What a real target would hold: the newest version of each row, deletes included.
    pub(crate) rows: BTreeMap<i64, (u64, Option<i64>)>,
    /// Every change written, in the order of writing.
    pub(crate) written: Vec<Written>,
    pub(crate) below: Vec<u64>,
    pub(crate) batches: usize,
    /// By topic.
    pub(crate) marks: BTreeMap<String, Mark>,
    /// How many were begun.
    pub(crate) generations: usize,
    /// Those that were made without a row, with the form that was asked for.
    pub(crate) founded: Vec<(String, RowForm)>,
    /// Who writes each partition right now.
    writing: BTreeMap<TopicPartition, &'static str>,
    /// Writes that began while another one of the same partition was under way.
    pub(crate) overlaps: usize,
    faults: Faults,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) instance: &'static str,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// `None` for a row without a key.
    pub(crate) id: Option<i64>,
    /// `None` for a delete.
    pub(crate) number: Option<i64>,
}

#[derive(Debug, Default)]
struct Faults {
    /// Rows that the target refuses for ever.
    refused: BTreeSet<i64>,
    /// Writes that have one of these rows fail.
    failing_rows: BTreeSet<i64>,
    /// A row that was deleted leaves nothing behind, as in a warehouse.
    forgets_deletes: bool,
    /// Writes that fail before anything is written.
    failing: usize,
    /// Writes that are done, but reported as failed.
    failing_after: usize,
    /// What is accepted is durable only after a flush.
    lazy: bool,
    delay: Duration,
    start: BTreeMap<i32, i64>,
}

/// Writes one topic.
#[derive(Debug)]
pub(crate) struct Writer {
    target: Target,
    topic: String,
}

impl Target {
    pub(crate) fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                changed: Notify::new(),
                held: watch::Sender::new(false),
            }),
            instance: "a",
        }
    }

    /// The same target, as another instance writes to it.
    pub(crate) fn as_instance(&self, instance: &'static str) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            instance,
        }
    }

    pub(crate) fn refuse(&self, ids: impl IntoIterator<Item = i64>) {
        self.state().faults.refused.extend(ids);
    }

    /// It refuses nothing any more.
    pub(crate) fn mend(&self) {
        self.state().faults.refused.clear();
    }

    /// Writes with one of these rows fail, others do not.
    pub(crate) fn fail_at(&self, ids: impl IntoIterator<Item = i64>) {
        self.state().faults.failing_rows = ids.into_iter().collect();
    }

    pub(crate) fn forget_deletes(&self) {
        self.state().faults.forgets_deletes = true;
    }

    pub(crate) fn fail(&self, writes: usize) {
        self.state().faults.failing = writes;
    }

    pub(crate) fn fail_after_write(&self, writes: usize) {
        self.state().faults.failing_after = writes;
    }

    pub(crate) fn durable_by_flush_only(&self) {
        self.state().faults.lazy = true;
    }

    pub(crate) fn slow(&self, delay: Duration) {
        self.state().faults.delay = delay;
    }

    /// The target says by itself where a partition begins.
    pub(crate) fn stands_at(&self, partition: i32, offset: i64) {
        self.state().faults.start.insert(partition, offset);
    }

    /// The target is there, and these partitions were begun; it does not know the topic's id.
    pub(crate) fn begun(&self, topic: &str, partitions: impl IntoIterator<Item = i32>) {
        let mark = Mark {
            generation: "earlier".to_owned(),
            topic_id: None,
            partitions: 1,
            versions_are_offsets: false,
            key_schemas: std::collections::BTreeSet::new(),
            caught_up_ms: partitions
                .into_iter()
                .map(|partition| (partition, 0))
                .collect(),
        };
        self.state().marks.insert(topic.to_owned(), mark);
    }

    /// The target is gone, as if somebody had dropped it.
    pub(crate) fn vanish(&self) {
        let mut state = self.state();
        state.marks.clear();
        state.rows.clear();
    }

    /// Writes wait until the next `hold(false)`.
    pub(crate) fn hold(&self, held: bool) {
        self.shared.held.send_replace(held);
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a write is under way.
    pub(crate) async fn until_writing(&self, what: &str) {
        self.until(what, |state| !state.writing.is_empty()).await;
    }

    /// Waits until the target is as wanted; panics after a minute.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&State) -> bool) {
        let waiting = async {
            loop {
                let changed = self.shared.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if wanted(&self.state()) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(60), waiting)
            .await
            .is_err()
        {
            let state = self.state();
            panic!(
                "{what}: not within a minute; {} changes written, {} rows",
                state.written.len(),
                state.rows.len()
            );
        }
    }
}

impl State {
    /// The rows that are there, with their numbers.
    pub(crate) fn live_rows(&self) -> BTreeMap<i64, i64> {
        let rows = self.rows.iter();
        rows.filter_map(|(&id, &(_, number))| Some((id, number?)))
            .collect()
    }

    pub(crate) fn offsets(&self, partition: i32) -> Vec<i64> {
        let written = self.written.iter();
        written
            .filter(|written| written.partition == partition)
            .map(|written| written.offset)
            .collect()
    }

    fn apply(&mut self, instance: &'static str, batch: &Batch) {
        if let Some(below) = batch.below() {
            self.below.push(below);
            self.rows.retain(|_, (seq, _)| *seq >= below);
        }
        let gone_below = self.below.iter().max().copied().unwrap_or_default();
        for change in batch.changes() {
            let number = match &change.action {
                Action::Delete => None,
                Action::Upsert(value) | Action::Append(value) => number_of(&value.row),
            };
            let id = id_of(&change);
            self.written.push(Written {
                instance,
                partition: batch.partition().partition,
                offset: change.offset,
                id,
                number,
            });
            // What a sweep has not found because it came late.
            let id = id.filter(|_| change.seq >= gone_below);
            if let Some(id) = id {
                let newest = self.rows.entry(id).or_default();
                if change.seq >= newest.0 {
                    *newest = (change.seq, number);
                }
                if self.faults.forgets_deletes && newest.1.is_none() {
                    self.rows.remove(&id);
                }
            }
        }
    }
}

/// Of a row without a key, the column says it.
fn id_of(change: &Change<'_>) -> Option<i64> {
    match (&change.key, &change.action) {
        (Some(key), _) => key.row.first().and_then(int),
        (None, Action::Upsert(value) | Action::Append(value)) => value.row.first().and_then(int),
        (None, Action::Delete) => None,
    }
}

fn number_of(row: &Row<'_>) -> Option<i64> {
    row.get(1).and_then(int)
}

fn int(datum: &Datum<'_>) -> Option<i64> {
    match datum {
        Datum::Int(int) => Some(*int),
        _ => None,
    }
}

impl tributary_engine::Target for Target {
    type Lane = Writer;

    async fn lane(&self, topic: &str, _table: &TableName) -> Result<Writer, Error> {
        Ok(Writer {
            target: self.clone(),
            topic: topic.to_owned(),
        })
    }
}

impl Writer {
    fn begin(&self, batches: &[Batch]) -> Result<Duration, WriteError> {
        let mut state = self.target.state();
        if state.faults.failing > 0 {
            state.faults.failing -= 1;
            self.target.shared.changed.notify_waiters();
            return Err(Error::retry_msg("the target is away").into());
        }
        let fails = batches.iter().flat_map(Batch::changes).any(|change| {
            let id = id_of(&change);
            id.is_some_and(|id| state.faults.failing_rows.contains(&id))
        });
        if fails {
            return Err(Error::retry_msg("the row's place is away").into());
        }
        let mut rejections = Vec::new();
        for batch in batches {
            let partition = batch.partition().partition;
            let refused = batch.changes().filter(|change| {
                let id = id_of(change);
                id.is_some_and(|id| state.faults.refused.contains(&id))
            });
            rejections.extend(refused.map(|change| Rejection {
                partition,
                offset: change.offset,
                reason: "the row is too wide".to_owned(),
            }));
        }
        if !rejections.is_empty() {
            return Err(WriteError::Rejected(rejections));
        }
        for batch in batches {
            let partition = batch.partition().clone();
            let earlier = state.writing.insert(partition, self.target.instance);
            state.overlaps += usize::from(earlier.is_some());
        }
        self.target.shared.changed.notify_waiters();
        Ok(state.faults.delay)
    }

    fn end(&self, batches: &[Batch]) -> Result<Outcome, WriteError> {
        let mut state = self.target.state();
        for batch in batches {
            state.writing.remove(batch.partition());
            state.apply(self.target.instance, batch);
        }
        state.batches += 1;
        self.target.shared.changed.notify_waiters();
        if state.faults.failing_after > 0 {
            state.faults.failing_after -= 1;
            return Err(Error::retry_msg("the answer is lost").into());
        }
        Ok(if state.faults.lazy {
            Outcome::Accepted
        } else {
            Outcome::Durable
        })
    }
}

impl Lane for Writer {
    fn width(&self) -> usize {
        usize::MAX
    }

    async fn known(&self) -> Result<Known, Error> {
        let state = self.target.state();
        let mark = state.marks.get(&self.topic).cloned();
        Ok(mark.map_or(Known::Nothing, Known::Marked))
    }

    async fn begin(&self, mark: &Mark) -> Result<(), Error> {
        let mut state = self.target.state();
        state.generations += usize::from(!state.marks.contains_key(&self.topic));
        let topic = self.topic.clone();
        state.marks.entry(topic).or_insert_with(|| mark.clone());
        Ok(())
    }

    async fn found(&self, mark: &Mark, form: &RowForm) -> Result<(), Error> {
        Lane::begin(self, mark).await?;
        let founded = (self.topic.clone(), form.clone());
        self.target.state().founded.push(founded);
        self.target.shared.changed.notify_waiters();
        Ok(())
    }

    async fn note(&self, generation: &str, notes: &[Note]) -> Result<bool, Error> {
        let mut state = self.target.state();
        let mark = state.marks.get_mut(&self.topic);
        let Some(mark) = mark.filter(|mark| mark.generation == generation) else {
            return Ok(false);
        };
        notes.iter().for_each(|note| mark.add(note));
        self.target.shared.changed.notify_waiters();
        Ok(true)
    }

    async fn discard(&self, generation: Option<&str>) -> Result<(), Error> {
        let mut state = self.target.state();
        let mark = state.marks.get(&self.topic);
        if mark.map(|mark| mark.generation.as_str()) == generation {
            state.marks.remove(&self.topic);
            state.rows.clear();
            state.faults.start.clear();
        }
        Ok(())
    }

    async fn take(&self, partition: i32) -> Result<Stand, Error> {
        let start = self.target.state().faults.start.get(&partition).copied();
        Ok(start.map_or(Stand::AsTheGroup, Stand::At))
    }

    async fn write(&self, batches: &[Batch]) -> Result<Outcome, WriteError> {
        let delay = self.begin(batches)?;
        tokio::time::sleep(delay).await;
        let mut held = self.target.shared.held.subscribe();
        let _ = held.wait_for(|held| !held).await;
        self.end(batches)
    }

    async fn settle(&self) -> Result<(), Error> {
        Ok(())
    }
}
