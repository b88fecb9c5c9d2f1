//! Writes the batches of one partition, each in one transaction with its offset.

use std::sync::Arc;

use tributary_engine::{
    Batch, Change, PartitionWriter, Progress, Rejection, TopicPartition, WriteError,
};
use tributary_runtime::Error;

use crate::name::Qualified;
use crate::postgres::access::Shared;
use crate::postgres::failure::Failure;
use crate::postgres::growth::prepare;
use crate::postgres::ledger::Entry;
use crate::postgres::load::{Load, Taken, Tally};
use crate::postgres::metric;
use crate::postgres::pool::Lease;
use crate::postgres::search::refused;
use crate::postgres::session::Session;
use crate::postgres::stage::Stages;
use crate::postgres::sweep::Sweep;
use crate::postgres::target::Target;

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

    /// Writes a batch; the records that Postgres can never take are found and named, all of them.
    pub(crate) async fn apply(&mut self, batch: &impl Changes) -> Result<Progress, WriteError> {
        match self.transact(batch).await {
            Ok(()) => {
                self.next_offset = self.next_offset.max(batch.next_offset());
                Ok(self.progress())
            }
            Err(Failure::Target(error)) => Err(WriteError::Target(error)),
            Err(Failure::Record { reason, .. }) => {
                let refused = self.locate(batch).await.map_err(Failure::into_error)?;
                if refused.is_empty() {
                    return Err(Error::stop_msg(format_args!(
                        "the warehouse refuses a batch of {} without saying which record: {reason}",
                        self.partition
                    ))
                    .into());
                }
                Err(WriteError::Rejected(refused))
            }
        }
    }

    /// Which records of a batch are refused. Its connection, with all that was tried on it, is closed.
    async fn locate(&self, batch: &impl Changes) -> Result<Vec<Rejection>, Failure> {
        let mut lease = self.shared.pool.lease_for(&self.target).await?;
        let deadline = Arc::clone(&lease.session.deadline);
        let searching = async {
            let session = &lease.session;
            let (entry, target) = self.begin(session).await?;
            let covered = entry.next_offset.unwrap_or(0);
            let changes: Vec<_> = batch
                .changes()
                .filter(|change| change.offset >= covered)
                .collect();
            let mut load = self.load(session, &mut lease.stages, target);
            refused(session, &mut load, &changes).await
        };
        self.shared
            .bounded(&deadline, "write", &self.partition, Box::pin(searching))
            .await
    }

    /// Writes a batch; where the table must grow for it, that is done before, in a transaction of its own.
    async fn transact(&self, batch: &impl Changes) -> Result<(), Failure> {
        if self.attempt(batch).await? {
            return Ok(());
        }
        let lease = self.shared.pool.lease_for(&self.target).await?;
        let session = &lease.session;
        let growing = async {
            self.begin(session).await?;
            prepare(session, &self.target, batch.changes()).await?;
            session.commit().await
        };
        self.shared
            .bounded(
                &session.deadline,
                "write",
                &self.partition,
                Box::pin(growing),
            )
            .await?;
        lease.give_back();
        if self.attempt(batch).await? {
            return Ok(());
        }
        Err(Error::retry_msg(format_args!(
            "table {} was changed by somebody else at the same moment",
            self.target
        ))
        .into())
    }

    /// One transaction; false where the table must grow first. A connection on which this fails is not used again, so
    /// nothing is rolled back here.
    async fn attempt(&self, batch: &impl Changes) -> Result<bool, Failure> {
        let mut lease = self.shared.pool.lease_for(&self.target).await?;
        let deadline = Arc::clone(&lease.session.deadline);
        let writing = Box::pin(self.write_batch(&mut lease, batch));
        let end = self
            .shared
            .bounded(&deadline, "write", &self.partition, writing)
            .await?;
        match end {
            End::Committed(tally) => {
                lease.give_back();
                metric::committed(tally);
            }
            End::RolledBack => lease.give_back(),
            End::Open => {}
        }
        Ok(matches!(end, End::Committed(_)))
    }

    /// The transaction itself.
    async fn write_batch(
        &self,
        lease: &mut Lease<'_>,
        batch: &impl Changes,
    ) -> Result<End, Failure> {
        let session = &lease.session;
        let (entry, target) = self.begin(session).await?;
        let covered = entry.next_offset.unwrap_or(0);
        if covered >= batch.next_offset() {
            session.commit().await?;
            return Ok(End::Committed(Tally::default()));
        }
        let mut swept = 0;
        if let (Some(below), Some(_)) = (batch.below(), &target) {
            swept = self.sweep(session, below).await?;
        }
        let mut load = self.load(session, &mut lease.stages, target);
        for change in batch.changes() {
            if change.offset >= covered && load.push(&change).await? == Taken::Unfit {
                if !load.is_untouched() {
                    return Ok(End::Open);
                }
                session.roll_back().await?;
                return Ok(End::RolledBack);
            }
        }
        let mut tally = load.finish().await?;
        tally.swept = swept;
        self.shared
            .ledger
            .advance(
                session,
                &self.partition,
                batch.next_offset(),
                tally.merged > 0,
            )
            .await?;
        session.commit().await?;
        Ok(End::Committed(tally))
    }

    fn load<'s, 'a>(
        &'s self,
        session: &'s Session,
        stages: &'s mut Stages,
        target: Option<Target>,
    ) -> Load<'s, 'a> {
        Load::new(
            session,
            stages,
            &self.target,
            self.partition.partition,
            target,
        )
    }

    /// Deletes what is gone below. Each slice of a large table is a transaction of its own, so that others' writes do not
    /// wait for all of it and nothing is done twice; the last one is the batch's.
    async fn sweep(&self, session: &Session, below: u64) -> Result<u64, Failure> {
        let mut sweep = Sweep::begin(session, &self.target, below).await?;
        while !sweep.is_at_last() {
            let deleted = sweep.slice(session).await?;
            session.commit().await?;
            metric::swept(deleted);
            session.begin().await?;
            self.held(self.shared.ledger.lock(session, &self.partition).await?)?;
        }
        sweep.slice(session).await
    }

    /// Begins a transaction that holds the partition: where it stands, and the table as it is.
    async fn begin(&self, session: &Session) -> Result<(Entry, Option<Target>), Failure> {
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
        Ok((entry, target))
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

/// How the transaction of a batch ends.
enum End {
    Committed(Tally),
    /// The table must grow first; nothing is left on the connection.
    RolledBack,
    /// The table must grow first; a temporary table may have been made that a rollback would take back.
    Open,
}
