//! Writes the batches of one topic's partitions, all in one transaction with their offsets.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tributary_engine::{
    Batch, Change, Known, Lane, Mark, Note, Rejection, RowForm, Stand, TopicPartition, WriteError,
    Written,
};
use tributary_runtime::Error;

use crate::name::Qualified;
use crate::postgres::access::Shared;
use crate::postgres::failure::Failure;
use crate::postgres::growth::prepare;
use crate::postgres::ledger::{Advance, Entry};
use crate::postgres::load::{Load, Taken, Tally};
use crate::postgres::metric;
use crate::postgres::pool::Lease;
use crate::postgres::search::refused;
use crate::postgres::session::Session;
use crate::postgres::sweep::Sweep;
use crate::postgres::target::Target;

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
    /// They stand below what the ledger covers, and are written all the same.
    fn is_replay(&self) -> bool {
        false
    }
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

    fn is_replay(&self) -> bool {
        Self::is_replay(self)
    }
}

/// Writes one topic. All its writes are durable: offsets and rows are committed together.
pub struct PostgresLane {
    shared: Arc<Shared>,
    topic: String,
    target: Qualified,
    /// Of the partitions that this instance has taken.
    epochs: Mutex<BTreeMap<i32, i64>>,
    /// Rows that were not newer than the target's.
    skipped: AtomicU64,
}

impl PostgresLane {
    pub(crate) const fn new(shared: Arc<Shared>, topic: String, target: Qualified) -> Self {
        Self {
            shared,
            topic,
            target,
            epochs: Mutex::new(BTreeMap::new()),
            skipped: AtomicU64::new(0),
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

    /// Writes batches; the records that Postgres can never take are found and named, all of them.
    pub(crate) async fn apply(&self, batches: &[impl Changes]) -> Result<(), WriteError> {
        match self.transact(batches).await {
            Ok(()) => Ok(()),
            Err(Failure::Record { reason, .. }) => {
                let refused = self.locate(batches).await.map_err(Failure::into_error)?;
                if refused.is_empty() {
                    return Err(Error::stop_msg(format_args!(
                        "the warehouse refuses a batch of {} without saying which record: {reason}",
                        self.name_of(batches)
                    ))
                    .into());
                }
                Err(WriteError::Rejected(refused))
            }
            Err(Failure::TakenOver(error)) => Err(WriteError::TakenOver(error)),
            Err(Failure::Target(error)) => Err(WriteError::Target(error)),
        }
    }

    /// Which records are refused. Its connection, with all that was tried on it, is closed.
    async fn locate(&self, batches: &[impl Changes]) -> Result<Vec<Rejection>, Failure> {
        let mut lease = self.shared.pool.lease_for(&self.target).await?;
        let deadline = Arc::clone(&lease.session.deadline);
        let searching = async {
            let session = &lease.session;
            let (entries, target) = self.begin(session, &partitions(batches)).await?;
            let mut changes = Vec::new();
            for batch in batches {
                let covered = covered(&entries, batch);
                changes.extend(batch.changes().filter(|change| change.offset >= covered));
            }
            let mut load = Load::new(session, &mut lease.stages, &self.target, target);
            refused(session, &mut load, &changes).await
        };
        self.shared
            .bounded(
                &deadline,
                "write",
                self.name_of(batches),
                Box::pin(searching),
            )
            .await
    }

    /// Writes batches; where the table must grow for them, that is done before, in a transaction of its own.
    async fn transact(&self, batches: &[impl Changes]) -> Result<(), Failure> {
        if self.attempt(batches).await? {
            return Ok(());
        }
        let lease = self.shared.pool.lease_for(&self.target).await?;
        let session = &lease.session;
        let growing = async {
            self.begin(session, &partitions(batches)).await?;
            let changes = batches.iter().flat_map(Changes::changes);
            prepare(session, &self.target, changes).await?;
            session.commit().await
        };
        let what = self.name_of(batches);
        self.shared
            .bounded(&session.deadline, "write", what, Box::pin(growing))
            .await?;
        lease.give_back();
        if self.attempt(batches).await? {
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
    async fn attempt(&self, batches: &[impl Changes]) -> Result<bool, Failure> {
        let mut lease = self.shared.pool.lease_for(&self.target).await?;
        let deadline = Arc::clone(&lease.session.deadline);
        let writing = Box::pin(self.write_batches(&mut lease, batches));
        let end = self
            .shared
            .bounded(&deadline, "write", self.name_of(batches), writing)
            .await?;
        match end {
            End::Committed(tally) => {
                lease.give_back();
                metric::committed(tally);
                self.skipped.fetch_add(tally.skipped, Ordering::Relaxed);
            }
            End::RolledBack => lease.give_back(),
            End::Open => {}
        }
        Ok(matches!(end, End::Committed(_)))
    }

    /// The transaction itself.
    async fn write_batches(
        &self,
        lease: &mut Lease<'_>,
        batches: &[impl Changes],
    ) -> Result<End, Failure> {
        let session = &lease.session;
        let (entries, target) = self.begin(session, &partitions(batches)).await?;
        let rest: Vec<_> = batches
            .iter()
            .filter(|batch| covered(&entries, *batch) < batch.next_offset())
            .collect();
        if rest.is_empty() {
            session.commit().await?;
            return Ok(End::Committed(Tally::default()));
        }
        let mut swept = 0;
        let below = rest.iter().filter_map(|batch| batch.below()).max();
        if let (Some(below), Some(_)) = (below, &target) {
            swept = self.sweep(session, &partitions(batches), below).await?;
        }
        let mut load = Load::new(session, &mut lease.stages, &self.target, target);
        for batch in &rest {
            let covered = covered(&entries, *batch);
            for change in batch.changes() {
                if change.offset >= covered && load.push(&change).await? == Taken::Unfit {
                    if !load.is_untouched() {
                        return Ok(End::Open);
                    }
                    session.roll_back().await?;
                    return Ok(End::RolledBack);
                }
            }
        }
        let mut tally = load.finish().await?;
        tally.swept = swept;
        let advances: Vec<_> = rest
            .iter()
            .map(|batch| Advance {
                partition: batch.partition(),
                next_offset: batch.next_offset().max(place(&entries, *batch)),
            })
            .collect();
        let loaded = tally.merged > 0;
        self.shared
            .ledger
            .advance(session, &self.topic, &advances, loaded)
            .await?;
        session.commit().await?;
        Ok(End::Committed(tally))
    }

    /// Deletes what is gone below. Each slice of a large table is a transaction of its own, so that others' writes do not
    /// wait for all of it and nothing is done twice; the last one is the batches'.
    async fn sweep(
        &self,
        session: &Session,
        partitions: &[i32],
        below: u64,
    ) -> Result<u64, Failure> {
        let mut sweep = Sweep::begin(session, &self.target, below).await?;
        while !sweep.is_at_last() {
            let deleted = sweep.slice(session).await?;
            session.commit().await?;
            metric::swept(deleted);
            session.begin().await?;
            let locked = self.shared.ledger.lock(session, &self.topic, partitions);
            self.held(partitions, &locked.await?)?;
        }
        sweep.slice(session).await
    }

    /// Begins a transaction that holds partitions: where each stands, and the table as it is.
    async fn begin(
        &self,
        session: &Session,
        partitions: &[i32],
    ) -> Result<(BTreeMap<i32, Entry>, Option<Target>), Failure> {
        let (begun, locked, target) = tokio::join!(
            biased;
            session.begin(),
            self.shared.ledger.lock(session, &self.topic, partitions),
            Target::read(session, &self.target),
        );
        begun?;
        let entries = self.held(partitions, &locked?)?;
        let target = target?;
        if target.is_none() && entries.values().any(|entry| entry.loaded) {
            // What follows is decided once the table was looked at again.
            let is_gone = self.shared.is_gone(&self.topic, &self.target);
            return Err(Error::retry_msg(is_gone).into());
        }
        Ok((entries, target))
    }

    /// Does something on a connection of the pool, within the time of a transaction.
    async fn with_session<A>(
        &self,
        doing: &str,
        work: impl AsyncFnOnce(&Shared, &Session) -> Result<A, Failure>,
    ) -> Result<A, Error> {
        let shared = &*self.shared;
        let lease = shared.pool.lease().await?;
        let session = &lease.session;
        let done = shared
            .bounded(
                &session.deadline,
                doing,
                &self.target,
                work(shared, session),
            )
            .await
            .map_err(Failure::into_error)?;
        lease.give_back();
        Ok(done)
    }

    /// Refuses to write once somebody else has taken one of the partitions.
    fn held(
        &self,
        partitions: &[i32],
        locked: &[(i32, Entry)],
    ) -> Result<BTreeMap<i32, Entry>, Failure> {
        let entries: BTreeMap<i32, Entry> = locked.iter().copied().collect();
        let epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        for partition in partitions {
            let Some(entry) = entries.get(partition) else {
                return Err(Error::stop_msg(format_args!(
                    "the ledger {} has lost the row of {}",
                    self.shared.ledger.name(),
                    self.at(*partition)
                ))
                .remedy("start again; the table asks for a rebuild where that is needed")
                .into());
            };
            let ours = epochs.get(partition).copied().unwrap_or_default();
            if entry.epoch != ours {
                let error = Error::retry_msg(format_args!(
                    "another instance has taken {} over (epoch {}, ours is {ours})",
                    self.at(*partition),
                    entry.epoch
                ))
                .remedy(
                    "nothing while the consumer group rebalances; otherwise look for a second service of this name",
                );
                return Err(Failure::TakenOver(error));
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

    fn passed_over(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    async fn known(&self) -> Result<Known, Error> {
        self.with_session("look at", async |shared, session| {
            shared.known(session, &self.topic, &self.target).await
        })
        .await
    }

    async fn begin(&self, mark: &Mark) -> Result<(), Error> {
        self.with_session("begin", async |shared, session| {
            shared.begin(session, &self.topic, &self.target, mark).await
        })
        .await
    }

    async fn found(&self, mark: &Mark, form: &RowForm) -> Result<(), Error> {
        self.with_session("make", async |shared, session| {
            shared
                .found(session, &self.topic, &self.target, mark, form)
                .await
        })
        .await
    }

    async fn note(&self, generation: &str, notes: &[Note]) -> Result<bool, Error> {
        self.with_session("note how far came", async |shared, session| {
            shared.note(session, &self.topic, generation, notes).await
        })
        .await
    }

    async fn discard(&self, generation: Option<&str>) -> Result<(), Error> {
        self.with_session("empty", async |shared, session| {
            shared
                .discard(session, &self.topic, &self.target, generation)
                .await
        })
        .await
    }

    async fn take(&self, partition: i32) -> Result<Stand, Error> {
        let at = self.at(partition);
        let entry = self
            .with_session("open", async |shared, session| {
                shared.open(session, &at, &self.target).await
            })
            .await?;
        self.epochs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(partition, entry.epoch);
        Ok(entry.next_offset.map_or(Stand::Nowhere, Stand::At))
    }

    async fn write(&self, batches: &[Batch]) -> Result<Written, WriteError> {
        self.apply(batches).await?;
        Ok(Written::Durable)
    }

    async fn settle(&self) -> Result<(), Error> {
        Ok(())
    }
}

fn partitions(batches: &[impl Changes]) -> Vec<i32> {
    batches.iter().map(Changes::partition).collect()
}

/// What of a batch is in the table already, because the ledger covers it.
fn covered(entries: &BTreeMap<i32, Entry>, batch: &impl Changes) -> i64 {
    if batch.is_replay() {
        return 0;
    }
    place(entries, batch)
}

/// Where the ledger stands with a batch's partition; it never goes back.
fn place(entries: &BTreeMap<i32, Entry>, batch: &impl Changes) -> i64 {
    let entry = entries.get(&batch.partition());
    entry.and_then(|entry| entry.next_offset).unwrap_or(0)
}

/// How the transaction of batches ends.
enum End {
    Committed(Tally),
    /// The table must grow first; nothing is left on the connection.
    RolledBack,
    /// The table must grow first; a temporary table may have been made that a rollback would take back.
    Open,
}
