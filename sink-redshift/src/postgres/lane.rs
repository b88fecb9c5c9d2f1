//! Writes the batches of one topic's partitions, all in one transaction with their offsets.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use tributary_engine::{
    Batch, Change, Lane, Rejection, Start, TopicPartition, WriteError, Written,
};
use tributary_runtime::Error;

use crate::name::Qualified;
use crate::postgres::access::Shared;
use crate::postgres::failure::Failure;
use crate::postgres::ledger::{Advance, Entry};
use crate::postgres::load::{Load, Staged, Tally};
use crate::postgres::metric;
use crate::postgres::pool::Lease;
use crate::postgres::target::Target;

/// All changes of a write.
const ALL: Range<usize> = 0..usize::MAX;

/// What a transaction needs of a batch; the tests bring their own.
pub(crate) trait Changes: Send + Sync {
    /// The partition that they come from.
    fn partition(&self) -> i32;
    /// One past the last record, control records included.
    fn next_offset(&self) -> i64;
    /// Rows with a lower `seq` are gone.
    fn below(&self) -> Option<u64>;
    /// The changes in offset order, at most one per key.
    fn changes(&self) -> impl Iterator<Item = Change<'_>> + Send;
}

impl Changes for Batch {
    fn partition(&self) -> i32 {
        Self::partition(self).partition
    }

    fn next_offset(&self) -> i64 {
        Self::next_offset(self)
    }

    fn below(&self) -> Option<u64> {
        Self::below(self)
    }

    fn changes(&self) -> impl Iterator<Item = Change<'_>> + Send {
        Self::changes(self)
    }
}

/// Writes one topic. All its writes are durable: offsets and rows are committed together.
pub struct PostgresLane {
    shared: Arc<Shared>,
    topic: String,
    target: Qualified,
    /// Of the partitions that this instance has taken.
    epochs: Mutex<BTreeMap<i32, i64>>,
}

impl PostgresLane {
    pub(crate) const fn new(shared: Arc<Shared>, topic: String, target: Qualified) -> Self {
        Self {
            shared,
            topic,
            target,
            epochs: Mutex::new(BTreeMap::new()),
        }
    }

    fn at(&self, partition: i32) -> TopicPartition {
        TopicPartition {
            topic: self.topic.clone(),
            partition,
        }
    }

    /// The partitions of batches, as a message names them.
    fn name_of(&self, batches: &[impl Changes]) -> String {
        let numbers: Vec<_> = batches
            .iter()
            .map(|batch| batch.partition().to_string())
            .collect();
        format!("{}[{}]", self.topic, numbers.join(","))
    }

    /// Writes batches; the records that Postgres can never take are found and named.
    pub(crate) async fn apply(&self, batches: &[impl Changes]) -> Result<(), WriteError> {
        let mut staged = Vec::new();
        match self.transact(batches, ALL, End::Commit, &mut staged).await {
            Ok(()) => Ok(()),
            Err(Failure::Target(error)) => Err(WriteError::Target(error)),
            Err(Failure::Record { line, reason }) => {
                let rejection = self.locate(batches, staged, line, reason).await?;
                Err(WriteError::Rejected(vec![rejection]))
            }
        }
    }

    /// Which of the `staged` records is refused: the one on `line` of the COPY; where the merge refused
    /// it, the one that halving the segment comes down to.
    async fn locate(
        &self,
        batches: &[impl Changes],
        staged: Vec<Staged>,
        line: Option<usize>,
        mut reason: String,
    ) -> Result<Rejection, Error> {
        let on_line = |staged: &[Staged], line: Option<usize>| {
            line.and_then(|line| staged.get(line.checked_sub(1)?).copied())
        };
        if let Some(found) = on_line(&staged, line) {
            return Ok(found.rejected(reason));
        }
        let mut suspects = &staged[..];
        let mut scratch = Vec::new();
        while suspects.len() > 1 {
            let (first, second) = suspects.split_at(suspects.len() / 2);
            let range = first[0].ordinal..first[first.len() - 1].ordinal + 1;
            match self
                .transact(batches, range, End::RollBack, &mut scratch)
                .await
            {
                Ok(()) => suspects = second,
                Err(Failure::Target(error)) => return Err(error),
                Err(Failure::Record { line, reason: why }) => {
                    if let Some(found) = on_line(&scratch, line) {
                        return Ok(found.rejected(why));
                    }
                    reason = why;
                    suspects = first;
                }
            }
        }
        match suspects.first() {
            Some(found) => Ok(found.rejected(reason)),
            None => Err(Error::stop_msg(format_args!(
                "the warehouse refuses a batch of {} without saying which record: {reason}",
                self.name_of(batches)
            ))),
        }
    }

    /// One transaction with the changes that the ledger does not cover yet; of those in `range` alone, counted over all.
    async fn transact(
        &self,
        batches: &[impl Changes],
        range: Range<usize>,
        end: End,
        staged: &mut Vec<Staged>,
    ) -> Result<(), Failure> {
        let mut lease = self.shared.pool.lease().await?;
        let writing = self.write_batches(&mut lease, batches, range, end, staged);
        let tally = tokio::time::timeout(self.shared.deadline(), Box::pin(writing))
            .await
            .map_err(|_| self.shared.overdue("write", self.name_of(batches)))??;
        if end == End::Commit {
            lease.give_back();
            if let Some(tally) = tally {
                metric::committed(tally);
            }
        }
        Ok(())
    }

    /// The transaction itself; `None` where the ledger covers all batches already. A connection on which
    /// this fails is not used again, so nothing is rolled back here.
    async fn write_batches(
        &self,
        lease: &mut Lease<'_>,
        batches: &[impl Changes],
        range: Range<usize>,
        end: End,
        staged: &mut Vec<Staged>,
    ) -> Result<Option<Tally>, Failure> {
        let session = &lease.session;
        let partitions: Vec<i32> = batches.iter().map(Changes::partition).collect();
        let (begun, locked, target) = tokio::join!(
            biased;
            session.begin(),
            self.shared.ledger.lock(session, &self.topic, &partitions),
            Target::read(session, &self.target),
        );
        begun?;
        let entries = self.held(&partitions, &locked?)?;
        let target = target?;
        if target.is_none() && entries.values().any(|entry| entry.loaded) {
            return Err(self.shared.dropped(&self.topic, &self.target).into());
        }
        let covered = |partition: i32| {
            let entry = entries.get(&partition);
            entry.and_then(|entry| entry.next_offset).unwrap_or(0)
        };
        let rest: Vec<_> = batches
            .iter()
            .filter(|batch| covered(batch.partition()) < batch.next_offset())
            .collect();
        if rest.is_empty() {
            session.commit().await?;
            return Ok(None);
        }
        let mut load = Load::new(session, &mut lease.stages, &self.target, target, staged);
        if let Some(below) = rest.iter().filter_map(|batch| batch.below()).max() {
            load.sweep(below).await?;
        }
        let mut ordinals = 0..;
        for batch in &rest {
            let covered = covered(batch.partition());
            for change in batch.changes() {
                if change.offset >= covered
                    && let Some(ordinal) = ordinals.next().filter(|at| range.contains(at))
                {
                    load.push(ordinal, &change).await?;
                }
            }
        }
        let tally = load.finish().await?;
        if end == End::Commit {
            let advances: Vec<_> = rest
                .iter()
                .map(|batch| Advance {
                    partition: batch.partition(),
                    next_offset: batch.next_offset(),
                })
                .collect();
            self.shared
                .ledger
                .advance(session, &self.topic, &advances, tally.merged > 0)
                .await?;
            session.commit().await?;
        }
        Ok(Some(tally))
    }

    /// Refuses to write once somebody else has taken one of the partitions.
    fn held(
        &self,
        partitions: &[i32],
        locked: &[(i32, Entry)],
    ) -> Result<BTreeMap<i32, Entry>, Error> {
        let entries: BTreeMap<i32, Entry> = locked.iter().copied().collect();
        let epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        for partition in partitions {
            let Some(entry) = entries.get(partition) else {
                return Err(Error::stop_msg(format_args!(
                    "the ledger {} has lost the row of {}",
                    self.shared.ledger.name(),
                    self.at(*partition)
                ))
                .remedy("start again; the table asks for a rebuild where that is needed"));
            };
            let ours = epochs.get(partition).copied().unwrap_or_default();
            if entry.epoch != ours {
                return Err(Error::retry_msg(format_args!(
                    "another instance has taken {} over (epoch {}, ours is {ours})",
                    self.at(*partition),
                    entry.epoch
                ))
                .remedy(
                    "nothing while the consumer group rebalances; otherwise look for a second service of this name",
                ));
            }
        }
        Ok(entries)
    }
}

impl Lane for PostgresLane {
    /// One: two transactions on one table would wait for each other's rows.
    fn width(&self) -> usize {
        1
    }

    async fn take(&self, partition: i32) -> Result<Start, Error> {
        let shared = &self.shared;
        let at = self.at(partition);
        let lease = shared.pool.lease().await?;
        let opening = shared.open(&lease.session, &at, &self.target);
        let entry = tokio::time::timeout(shared.deadline(), opening)
            .await
            .map_err(|_| shared.overdue("open", &at))?
            .map_err(Failure::into_error)?;
        lease.give_back();
        self.epochs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(partition, entry.epoch);
        Ok(entry.next_offset.map_or(Start::Beginning, Start::At))
    }

    async fn write(&self, batches: &[Batch]) -> Result<Written, WriteError> {
        self.apply(batches).await?;
        Ok(Written::Durable)
    }

    async fn settle(&self) -> Result<(), Error> {
        Ok(())
    }
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Commit,
    /// Only tried, to find a record that is refused.
    RollBack,
}
