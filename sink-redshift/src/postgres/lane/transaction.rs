//! The transactions that bring batches into the table.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use tributary_engine::{Rejection, WriteError};
use tributary_runtime::Error;

use super::{Changes, Claim, PostgresLane};
use crate::postgres::failure::Failure;
use crate::postgres::growth::prepare;
use crate::postgres::ledger::{Advance, Entry};
use crate::postgres::load::{Load, Taken, Tally};
use crate::postgres::metric;
use crate::postgres::pool::Lease;
use crate::postgres::row::Way;
use crate::postgres::search::refused;
use crate::postgres::session::Session;
use crate::postgres::sweep::Sweep;
use crate::postgres::target::Target;

impl PostgresLane {
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
        let _beside_others = self.table.read().await;
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
            let mut load = Load::new(
                session,
                &mut lease.stages,
                &self.target,
                target,
                way_of(batches),
            );
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
        let alone = self.table.write().await;
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
        drop(alone);
        if self.attempt(batches).await? {
            return Ok(());
        }
        Err(Error::retry_msg(format_args!(
            "table {} was changed by somebody else at the same moment",
            self.target
        ))
        .into())
    }

    /// Writes batches; false where the table must grow first.
    async fn attempt(&self, batches: &[impl Changes]) -> Result<bool, Failure> {
        let (_alone, _beside_others);
        if batches.iter().any(|batch| batch.below().is_some()) {
            _alone = self.table.write().await;
        } else {
            _beside_others = self.table.read().await;
        }
        if batches.iter().all(Changes::inserts_only) && self.straight.is_tried() {
            match self.attempt_by(Way::Straight, batches).await? {
                End::Refused => self.straight.was_refused(),
                end => {
                    self.straight.was_taken();
                    return Ok(end.is_committed());
                }
            }
        }
        let end = self.attempt_by(way_of(batches), batches).await?;
        Ok(end.is_committed())
    }

    /// One transaction. A connection on which this fails is not used again, so nothing is rolled back here.
    async fn attempt_by(&self, way: Way, batches: &[impl Changes]) -> Result<End, Failure> {
        let mut lease = self.shared.pool.lease_for(&self.target).await?;
        let deadline = Arc::clone(&lease.session.deadline);
        let writing = Box::pin(self.write_batches(way, &mut lease, batches));
        let end = self
            .shared
            .bounded(&deadline, "write", self.name_of(batches), writing)
            .await?;
        match end {
            End::Committed(tally) => {
                lease.give_back();
                metric::committed(tally);
                if tally.incomplete > 0 {
                    tracing::warn!(
                        table = %self.target,
                        rows = tally.incomplete,
                        "writes null in the place of TOASTed values that neither the records nor the table have"
                    );
                }
                self.skipped.fetch_add(tally.skipped, Ordering::Relaxed);
            }
            End::RolledBack | End::Refused => lease.give_back(),
            End::Open => {}
        }
        Ok(end)
    }

    /// The transaction itself.
    async fn write_batches(
        &self,
        way: Way,
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
        let mut load = Load::new(session, &mut lease.stages, &self.target, target, way);
        let pushed = push_all(&mut load, &rest, &entries).await;
        let may_have_staged = way != Way::Straight && !load.is_untouched();
        let loaded = match pushed {
            Ok(Taken::Yes) => load.finish().await,
            Ok(Taken::Unfit) if may_have_staged => return Ok(End::Open),
            Ok(Taken::Unfit) => {
                // Ends a COPY that is under way.
                drop(load);
                session.roll_back().await?;
                return Ok(End::RolledBack);
            }
            Err(failure) => {
                drop(load);
                Err(failure)
            }
        };
        let mut tally = match loaded {
            Ok(tally) => tally,
            // Whatever it is, the other way says it better.
            Err(_) if way == Way::Straight => {
                session.roll_back().await?;
                return Ok(End::Refused);
            }
            Err(failure) => return Err(failure),
        };
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
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        for advance in advances {
            if let Some(claim) = claims.get_mut(&advance.partition) {
                claim.durable = claim.durable.max(advance.next_offset);
            }
        }
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
        loop {
            let deleted = sweep.slice(session).await?;
            if sweep.is_done() {
                return Ok(deleted);
            }
            session.commit().await?;
            metric::swept(deleted);
            session.begin().await?;
            let locked = self.shared.ledger.lock(session, &self.topic, partitions);
            self.held(partitions, &locked.await?)?;
        }
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

    /// Refuses to write once somebody else has taken one of the partitions.
    fn held(
        &self,
        partitions: &[i32],
        locked: &[(i32, Entry)],
    ) -> Result<BTreeMap<i32, Entry>, Failure> {
        let entries: BTreeMap<i32, Entry> = locked.iter().copied().collect();
        let claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
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
            let Claim {
                epoch: ours,
                durable,
            } = claims.get(partition).copied().unwrap_or_default();
            if entry.epoch == ours && entry.next_offset.unwrap_or(0) < durable {
                return Err(Failure::TakenOver(
                    self.went_back(*partition, entry, durable),
                ));
            }
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

    /// A server that took another one's place, or was restored, lacks what was committed: the partition is taken again, and read from
    /// where this one stands.
    fn went_back(&self, partition: i32, entry: &Entry, durable: i64) -> Error {
        Error::retry_msg(format_args!(
            "the ledger {} stands at offset {} of {}, and offset {durable} was committed: the warehouse has gone back in time",
            self.shared.ledger.name(),
            entry.next_offset.unwrap_or(0),
            self.at(partition),
        ))
        .remedy("nothing: what it lacks is read again")
    }
}

fn partitions(batches: &[impl Changes]) -> Vec<i32> {
    batches.iter().map(Changes::partition).collect()
}

/// The way that takes every batch.
fn way_of(batches: &[impl Changes]) -> Way {
    if batches.iter().any(Changes::lacks_values) {
        Way::Completed
    } else {
        Way::Staged
    }
}

/// Takes what the ledger does not cover.
async fn push_all<'a>(
    load: &mut Load<'_, 'a>,
    batches: &[&'a impl Changes],
    entries: &BTreeMap<i32, Entry>,
) -> Result<Taken, Failure> {
    for batch in batches {
        let covered = covered(entries, *batch);
        for change in batch.changes() {
            if change.offset >= covered && load.push(&change).await? == Taken::Unfit {
                return Ok(Taken::Unfit);
            }
        }
    }
    Ok(Taken::Yes)
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
    /// The table does not take the rows on the straight way; nothing is left on the connection.
    Refused,
}

impl End {
    const fn is_committed(&self) -> bool {
        matches!(self, Self::Committed(_))
    }
}
