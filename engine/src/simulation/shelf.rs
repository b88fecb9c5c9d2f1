//! The target: its lanes send requests to a [`Store`], over a way that is slow and fails.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use tokio::sync::oneshot;
use tributary_runtime::{Error, Result};
use tributary_schemas::record::{Datum, Row};

use crate::flow::batch::{Action, Batch, Change};
use crate::mark::{Known, Mark, Note};
use crate::target::{Lane, Rejection, Stand, Swept, Target, WriteError, Written};
use crate::topics::TableName;

use super::log::{row_of, topic_number};
use super::plan::Keeps;
use super::scene::{Planted, Scene, Server, World};
use super::store::{FencedOff, Request, Sent, Sweep};
use super::trace::Step;

/// The targets of all topics, as one instance has them.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    scene: Scene,
    who: usize,
}

/// A topic's target, as one lane has it.
#[derive(Debug)]
pub(super) struct ShelfLane {
    scene: Scene,
    who: usize,
    topic: usize,
    number: usize,
    state: Mutex<LaneState>,
}

/// What a lane knows.
#[derive(Debug, Default)]
struct LaneState {
    partitions: BTreeMap<i32, KnownPartition>,
    /// Accepted, and not durable.
    pending: Vec<Request>,
    sweep: Option<Sweep>,
}

/// Of a partition.
#[derive(Debug, Default)]
struct KnownPartition {
    epoch: u64,
    /// How often it was taken.
    takes: usize,
    /// Where the last write that was acknowledged has ended.
    written: Option<i64>,
    is_writing: bool,
}

impl Shelf {
    pub(super) fn new(scene: &Scene, who: usize) -> Self {
        Self {
            scene: scene.clone(),
            who,
        }
    }
}

impl Target for Shelf {
    type Lane = ShelfLane;

    async fn lane(&self, topic: &str, _table: &TableName) -> Result<ShelfLane, Error> {
        self.scene.way(self.who, Server::Target).await?;
        let mut world = self.scene.world();
        world.lanes += 1;
        Ok(ShelfLane {
            scene: self.scene.clone(),
            who: self.who,
            topic: topic_number(topic),
            number: world.lanes,
            state: Mutex::default(),
        })
    }
}

/// While a partition is in it, no other write of the lane may have it.
struct WriteUnderWay<'a> {
    lane: &'a ShelfLane,
    /// With how often each was taken.
    partitions: Vec<(i32, usize)>,
}

impl Drop for WriteUnderWay<'_> {
    fn drop(&mut self) {
        let mut state = self.lane.state();
        for (partition, _) in &self.partitions {
            if let Some(known) = state.partitions.get_mut(partition) {
                known.is_writing = false;
            }
        }
    }
}

impl ShelfLane {
    fn sweeps_apart(&self) -> bool {
        self.scene.world().plan.topics[self.topic].sweeps_apart
    }

    fn state(&self) -> MutexGuard<'_, LaneState> {
        self.state.lock().unwrap()
    }

    async fn way(&self) -> Result<()> {
        self.scene.way(self.who, Server::Target).await
    }

    /// Checks that the batches may be written now, in this order.
    fn begin_writing(&self, batches: &[Batch]) -> WriteUnderWay<'_> {
        let mut world = self.scene.world();
        let mut state = self.state();
        let mut partitions = Vec::new();
        for batch in batches {
            let partition = batch.partition().partition;
            let at = (self.topic, partition);
            let first = batch.records.get(0).map_or(-1, |record| record.offset);
            let next = batch.next_offset();
            let (who, lane) = (self.who, self.number);
            world.step(Step::WriteBegun {
                who,
                lane,
                at,
                first,
                next,
            });
            let known = state.partitions.entry(partition).or_default();
            world.must(!known.is_writing, || {
                format!("lane {lane} of instance {who} has two writes of {at:?} under way")
            });
            known.is_writing = true;
            if batch.is_replay() {
                world.check_replay(who, batch);
            } else if let Some(written) = known.written {
                world.must(first >= written, || {
                    format!("lane {lane} writes {at:?} from {first} on, after up to {written}")
                });
            }
            partitions.push((partition, known.takes));
        }
        drop(state);
        world.check_lease(self.who);
        WriteUnderWay {
            lane: self,
            partitions,
        }
    }

    fn request(&self, batch: &Batch) -> Request {
        let partition = batch.partition().partition;
        let sweeps_apart = self.sweeps_apart();
        // Who sweeps first needs no others.
        let gone = batch.gone().filter(|_| sweeps_apart);
        let changes = batch.changes().chain(gone).map(|change| Sent {
            offset: change.offset,
            id: id(&change),
            seq: change.seq,
            number: match &change.action {
                Action::Delete => None,
                Action::Upsert(value) | Action::Append(value) => int(&value.row, 1),
            },
        });
        let state = self.state();
        Request {
            partition,
            epoch: state.partitions.get(&partition).map_or(0, |of| of.epoch),
            offsets: batch.records.iter().map(|record| record.offset).collect(),
            next: batch.next_offset(),
            is_replay: batch.is_replay(),
            below: batch.below(),
            sweeps_apart,
            changes: changes.collect(),
        }
    }

    /// Those that the target refuses; of many, it may name some only.
    fn refused(&self, requests: &[Request]) -> Vec<Rejection> {
        let mut world = self.scene.world();
        let refuses = i64::try_from(world.plan.topics[self.topic].refuses).unwrap();
        if refuses == 0 || world.stores[self.topic].is_mended {
            return Vec::new();
        }
        let mut rejections = Vec::new();
        for request in requests {
            let partition = request.partition;
            let refused = request.changes.iter();
            let refused =
                refused.filter(|sent| sent.number.is_some_and(|number| number % refuses == 0));
            rejections.extend(refused.map(|sent| Rejection {
                partition,
                offset: sent.offset,
                reason: "it is refused".to_owned(),
            }));
        }
        if world.dice.chance(300) {
            rejections.truncate(1);
        }
        rejections
    }

    /// The request is at the server, whatever becomes of the one who has sent it.
    fn send(&self, requests: Vec<Request>) -> oneshot::Receiver<Result<(), WriteError>> {
        let (answer, answered) = oneshot::channel();
        let (scene, who, topic, number) = (self.scene.clone(), self.who, self.topic, self.number);
        let delay = { scene.world().latency() };
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let done = scene.world().apply(who, topic, number, &requests);
            let _ = answer.send(done);
        });
        answered
    }
}

impl World {
    /// A write begins: by a member that polls, or was seen not to for less than its lease.
    fn check_lease(&mut self, who: usize) {
        let machine = &self.machines[who];
        let silent = machine.polled_at.elapsed();
        let lease_ms = u128::from(tributary_runtime::kafka::SESSION_TIMEOUT_MS) * 2 / 3;
        let was_frozen = machine.frozen_until > machine.polled_at;
        self.must(was_frozen || silent.as_millis() <= lease_ms, || {
            format!("instance {who} begins a write {silent:?} after its last poll")
        });
    }

    /// All of a request or nothing; where the target keeps no offsets, perhaps a part before an error.
    fn apply(
        &mut self,
        who: usize,
        topic: usize,
        lane: usize,
        all: &[Request],
    ) -> Result<(), WriteError> {
        let (keeps, fails) = (self.stores[topic].keeps, self.plan.fails);
        if keeps == Keeps::Offsets
            && let Some(request) = all.iter().find(|one| self.stores[topic].fences(one))
        {
            let at = (topic, request.partition);
            self.step(Step::Fenced { who, at });
            return Err(taken_over());
        }
        if self.stores[topic].mark.is_none() {
            return Err(Error::retry_msg("injected: there is no target").into());
        }
        for request in all {
            if keeps == Keeps::Versions && !self.faults.are_over && self.dice.chance(fails / 4) {
                return Err(Error::retry_msg("injected: a part was written").into());
            }
            let mut request = request.clone();
            if self.planted == Some(Planted::LostRecord) && self.dice.chance(50) {
                request.changes.pop();
                request.offsets.pop();
            }
            let at = (topic, request.partition);
            let next = request.next;
            if let Err(FencedOff) = self.stores[topic].apply(&request) {
                return Err(taken_over());
            }
            self.step(Step::Applied {
                who,
                lane,
                at,
                next,
            });
        }
        Ok(())
    }
}

impl Lane for ShelfLane {
    fn width(&self) -> usize {
        self.scene.world().plan.topics[self.topic].width
    }

    async fn known(&self) -> Result<Known, Error> {
        self.way().await?;
        let known = self.scene.world().stores[self.topic].mark.clone();
        self.way().await?;
        Ok(known.map_or(Known::Nothing, Known::Marked))
    }

    async fn begin(&self, mark: &Mark) -> Result<(), Error> {
        self.way().await?;
        {
            let mut world = self.scene.world();
            let (who, topic) = (self.who, self.topic);
            world.step(Step::Begun { who, topic });
            world.stores[topic].mark.get_or_insert_with(|| mark.clone());
        }
        self.way().await
    }

    async fn note(&self, generation: &str, notes: &[Note]) -> Result<bool, Error> {
        self.way().await?;
        let is_same = {
            let mut world = self.scene.world();
            let mark = world.stores[self.topic].mark.as_mut();
            let mark = mark.filter(|mark| mark.generation == generation);
            let is_same = mark.is_some();
            if let Some(mark) = mark {
                notes.iter().for_each(|note| mark.add(note));
            }
            is_same
        };
        self.way().await?;
        Ok(is_same)
    }

    async fn discard(&self, generation: Option<&str>) -> Result<(), Error> {
        self.way().await?;
        {
            let mut world = self.scene.world();
            let store = &mut world.stores[self.topic];
            if store.generation().map(String::as_str) == generation {
                store.vanish();
                let (who, topic) = (self.who, self.topic);
                world.step(Step::Discarded { who, topic });
            }
        }
        self.way().await
    }

    async fn take(&self, partition: i32) -> Result<Stand, Error> {
        self.way().await?;
        let (epoch, stands_at, keeps) = {
            let mut world = self.scene.world();
            let (who, at) = (self.who, (self.topic, partition));
            world.step(Step::Taken { who, at });
            let store = &mut world.stores[self.topic];
            let (epoch, stands_at) = store.take(partition);
            (epoch, stands_at, store.keeps)
        };
        {
            let mut state = self.state();
            let known = state.partitions.entry(partition).or_default();
            known.epoch = epoch;
            known.takes += 1;
            known.written = None;
        }
        self.way().await?;
        Ok(match (keeps, stands_at) {
            (Keeps::Versions, _) => Stand::AsTheGroup,
            (Keeps::Offsets, Some(offset)) => Stand::At(offset),
            (Keeps::Offsets, None) => Stand::Nowhere,
        })
    }

    async fn write(&self, batches: &[Batch]) -> Result<Written, WriteError> {
        let writing = self.begin_writing(batches);
        let requests: Vec<_> = batches.iter().map(|batch| self.request(batch)).collect();
        let outcome = self.write_all(&writing, requests).await;
        let mut world = self.scene.world();
        let is_ok = outcome.is_ok();
        let (who, lane) = (self.who, self.number);
        for batch in batches {
            let at = (self.topic, batch.partition().partition);
            world.step(Step::WriteEnded {
                who,
                lane,
                at,
                is_ok,
            });
        }
        outcome
    }

    async fn sweep(&self, below: u64) -> Result<Swept, Error> {
        // Another one begins after an error.
        let known = self.state().sweep.take();
        self.way().await?;
        let (sweep, is_done) = {
            let mut world = self.scene.world();
            let (who, topic) = (self.who, self.topic);
            let store = &mut world.stores[topic];
            let mut sweep = known.unwrap_or_else(|| store.find_below(below));
            let is_done = store.go_on(&mut sweep, 1);
            let is_done = is_done.ok_or_else(|| Error::retry_msg("injected: another target"))?;
            world.step(Step::Swept {
                who,
                topic,
                is_done,
            });
            (sweep, is_done)
        };
        self.way().await?;
        if is_done {
            return Ok(Swept::All);
        }
        self.state().sweep = Some(sweep);
        Ok(Swept::Some)
    }

    async fn settle(&self) -> Result<(), Error> {
        {
            let lane = self.number;
            let mut world = self.scene.world();
            let is_writing = self.state().partitions.values().any(|of| of.is_writing);
            world.must(!is_writing, || {
                format!("lane {lane} settles while a write is under way")
            });
        }
        self.way().await?;
        let pending = self.state().pending.clone();
        let count = pending.len();
        let sent = self
            .send(pending)
            .await
            .unwrap_or_else(|_| Err(no_answer()));
        if let Err(WriteError::Target(error) | WriteError::TakenOver(error)) = sent {
            return Err(error);
        }
        self.state().pending.drain(..count);
        let (who, lane, topic) = (self.who, self.number, self.topic);
        self.scene.world().step(Step::Settled { who, lane, topic });
        self.way().await
    }
}

impl ShelfLane {
    async fn write_all(
        &self,
        writing: &WriteUnderWay<'_>,
        requests: Vec<Request>,
    ) -> Result<Written, WriteError> {
        self.way().await?;
        let rejections = self.refused(&requests);
        if !rejections.is_empty() {
            return Err(WriteError::Rejected(rejections));
        }
        let is_durable = self.scene.world().plan.topics[self.topic].is_durable;
        let flows = requests.iter().filter(|one| !one.is_replay);
        let ends: Vec<_> = flows.map(|one| (one.partition, one.next)).collect();
        if is_durable {
            let sent = self.send(requests).await;
            sent.unwrap_or_else(|_| Err(no_answer()))?;
        } else {
            self.state().pending.extend(requests);
        }
        self.way().await?;
        self.acknowledge(writing, &ends);
        let is_early = self.scene.world().planted == Some(Planted::EarlyDurable);
        Ok(if self.sweeps_apart() {
            Written::Unswept
        } else if is_durable || is_early {
            Written::Durable
        } else {
            Written::Accepted
        })
    }

    /// What was written counts, unless the partition was taken anew meanwhile.
    fn acknowledge(&self, writing: &WriteUnderWay<'_>, ends: &[(i32, i64)]) {
        let mut world = self.scene.world();
        let mut state = self.state();
        for &(partition, next) in ends {
            let begun = writing.partitions.iter().find(|(of, _)| *of == partition);
            let known = state.partitions.entry(partition).or_default();
            if begun.is_some_and(|(_, takes)| known.takes == *takes) {
                known.written = Some(next);
                let unwritten = &mut world.machines[self.who].unwritten;
                if let Some(of_partition) = unwritten.get_mut(&(self.topic, partition)) {
                    of_partition.retain(|offset, _| *offset >= next);
                }
            }
        }
    }
}

fn taken_over() -> WriteError {
    WriteError::TakenOver(Error::retry_msg(
        "injected: another instance has taken over",
    ))
}

fn no_answer() -> WriteError {
    Error::retry_msg("injected: no answer").into()
}

/// The row's.
pub(super) fn id(change: &Change<'_>) -> i64 {
    match &change.key {
        Some(key) => int(&key.row, 0).unwrap(),
        None => row_of(change.partition, change.offset),
    }
}

fn int(row: &Row<'_>, column: usize) -> Option<i64> {
    match row.get(column) {
        Some(Datum::Int(int)) => Some(*int),
        _ => None,
    }
}
