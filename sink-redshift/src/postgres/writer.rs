//! Writes the batches of one partition, each in one transaction with its offset.

use std::ops::RangeInclusive;
use std::sync::Arc;

use tributary_engine::{
    Batch, Change, PartitionWriter, Progress, Rejection, TopicPartition, WriteError,
};
use tributary_runtime::Error;

use crate::name::Qualified;
use crate::postgres::access::Shared;
use crate::postgres::failure::Failure;
use crate::postgres::ledger::Entry;
use crate::postgres::load::{Load, Tally};
use crate::postgres::metric;
use crate::postgres::pool::Lease;
use crate::postgres::target::Target;

/// All offsets that a record can have.
const ALL: RangeInclusive<i64> = 0..=i64::MAX;

/// What a transaction needs of a batch; the tests bring their own.
pub(crate) trait Changes: Sync {
    /// One past the last record, control records included.
    fn next_offset(&self) -> i64;
    /// Rows with a lower `seq` are gone.
    fn below(&self) -> Option<u64>;
    /// The changes in offset order, at most one per key.
    fn changes(&self) -> impl Iterator<Item = Change<'_>> + Send;
}

impl Changes for Batch {
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

/// Writes one partition. All its writes are durable: offset and rows are committed together.
pub struct PostgresWriter {
    shared: Arc<Shared>,
    partition: TopicPartition,
    target: Qualified,
    epoch: i64,
    next_offset: i64,
}

impl PostgresWriter {
    pub(crate) fn new(
        shared: Arc<Shared>,
        partition: TopicPartition,
        target: Qualified,
        entry: Entry,
    ) -> Self {
        Self {
            shared,
            partition,
            target,
            epoch: entry.epoch,
            next_offset: entry.next_offset.unwrap_or(0),
        }
    }

    const fn progress(&self) -> Progress {
        Progress {
            accepted: self.next_offset,
            durable: self.next_offset,
        }
    }

    /// Writes a batch; a record that Postgres can never take is found and named.
    pub(crate) async fn apply(&mut self, batch: &impl Changes) -> Result<Progress, WriteError> {
        let mut staged = Vec::new();
        match self.transact(batch, ALL, End::Commit, &mut staged).await {
            Ok(()) => {
                self.next_offset = self.next_offset.max(batch.next_offset());
                Ok(self.progress())
            }
            Err(Failure::Target(error)) => Err(WriteError::Target(error)),
            Err(Failure::Record { line, reason }) => {
                let rejection = self.locate(batch, staged, line, reason).await?;
                Err(WriteError::Rejected(vec![rejection]))
            }
        }
    }

    /// Which of the `staged` records is refused: the one on `line` of the COPY; where the merge refused
    /// it, the one that halving the segment comes down to.
    async fn locate(
        &self,
        batch: &impl Changes,
        staged: Vec<i64>,
        line: Option<usize>,
        mut reason: String,
    ) -> Result<Rejection, Error> {
        let line_offset = |staged: &[i64], line: Option<usize>| {
            line.and_then(|line| staged.get(line.checked_sub(1)?).copied())
        };
        if let Some(offset) = line_offset(&staged, line) {
            return Ok(Rejection { offset, reason });
        }
        let mut suspects = &staged[..];
        let mut scratch = Vec::new();
        while suspects.len() > 1 {
            let (first, second) = suspects.split_at(suspects.len() / 2);
            let range = first[0]..=first[first.len() - 1];
            match self
                .transact(batch, range, End::RollBack, &mut scratch)
                .await
            {
                Ok(()) => suspects = second,
                Err(Failure::Target(error)) => return Err(error),
                Err(Failure::Record { line, reason: why }) => {
                    if let Some(offset) = line_offset(&scratch, line) {
                        return Ok(Rejection {
                            offset,
                            reason: why,
                        });
                    }
                    reason = why;
                    suspects = first;
                }
            }
        }
        match suspects.first() {
            Some(&offset) => Ok(Rejection { offset, reason }),
            None => Err(Error::stop_msg(format_args!(
                "the warehouse refuses a batch of {} without saying which record: {reason}",
                self.partition
            ))),
        }
    }

    /// One transaction with the changes in `range` that the ledger does not cover yet.
    async fn transact(
        &self,
        batch: &impl Changes,
        range: RangeInclusive<i64>,
        end: End,
        staged: &mut Vec<i64>,
    ) -> Result<(), Failure> {
        let mut lease = self.shared.pool.lease().await?;
        let writing = self.write_batch(&mut lease, batch, range, end, staged);
        let tally = tokio::time::timeout(self.shared.deadline(), Box::pin(writing))
            .await
            .map_err(|_| self.shared.overdue("write", &self.partition))??;
        if end == End::Commit {
            lease.give_back();
            if let Some(tally) = tally {
                metric::committed(tally);
            }
        }
        Ok(())
    }

    /// The transaction itself; `None` where the ledger covers the whole batch already. A connection on which
    /// this fails is not used again, so nothing is rolled back here.
    async fn write_batch(
        &self,
        lease: &mut Lease<'_>,
        batch: &impl Changes,
        range: RangeInclusive<i64>,
        end: End,
        staged: &mut Vec<i64>,
    ) -> Result<Option<Tally>, Failure> {
        let session = &lease.session;
        let (begun, locked, target) = tokio::join!(
            biased;
            session.begin(),
            self.shared.ledger.lock(session, &self.partition),
            Target::read(session, &self.target),
        );
        begun?;
        let entry = self.held(locked?)?;
        let target = target?;
        if target.is_none() && entry.loaded {
            return Err(self
                .shared
                .dropped(&self.partition.topic, &self.target)
                .into());
        }
        let covered = entry.next_offset.unwrap_or(0);
        if covered >= batch.next_offset() {
            session.commit().await?;
            return Ok(None);
        }
        let mut load = Load::new(
            session,
            &mut lease.stages,
            &self.target,
            self.partition.partition,
            target,
            staged,
        );
        if let Some(below) = batch.below() {
            load.sweep(below).await?;
        }
        for change in batch.changes() {
            if change.offset >= covered && range.contains(&change.offset) {
                load.push(&change).await?;
            }
        }
        let tally = load.finish().await?;
        if end == End::Commit {
            let loaded = tally.merged > 0;
            self.shared
                .ledger
                .advance(session, &self.partition, batch.next_offset(), loaded)
                .await?;
            session.commit().await?;
        }
        Ok(Some(tally))
    }

    /// Refuses to write once somebody else has opened the partition.
    fn held(&self, entry: Option<Entry>) -> Result<Entry, Error> {
        match entry {
            Some(entry) if entry.epoch == self.epoch => Ok(entry),
            Some(entry) => Err(Error::retry_msg(format_args!(
                "another instance has taken {} over (epoch {}, ours is {})",
                self.partition, entry.epoch, self.epoch
            ))
            .remedy(
                "nothing while the consumer group rebalances; otherwise look for a second service of this name",
            )),
            None => Err(Error::stop_msg(format_args!(
                "the ledger {} has lost the row of {}",
                self.shared.ledger.name(),
                self.partition
            ))
            .remedy("start again; the table asks for a rebuild where that is needed")),
        }
    }
}

impl PartitionWriter for PostgresWriter {
    async fn write(&mut self, batch: &Batch) -> Result<Progress, WriteError> {
        self.apply(batch).await
    }

    async fn flush(&mut self) -> Result<Progress, Error> {
        Ok(self.progress())
    }
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Commit,
    /// Only tried, to find a record that is refused.
    RollBack,
}
