//! The transactions that bring batches into the table.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use tributary_engine::Rejection;
use tributary_runtime::Error;

use super::PostgresLane;
use crate::postgres::failure::Attempt;
use crate::postgres::growth::prepare;
use crate::postgres::load::{Load, Taken, Way};
use crate::postgres::pool::Lease;
use crate::postgres::session::Session;
use crate::postgres::sweep::{Sweep, Swept};
use crate::postgres::table;
use crate::warehouse::batch::{Changes, name_of, partitions};
use crate::warehouse::claims::Places;
use crate::warehouse::failure::Failure;
use crate::warehouse::metric::{self, Tally};
use crate::warehouse::order::Write;
use crate::warehouse::search::Search;
use crate::warehouse::target::Target;

impl Write for PostgresLane {
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

    async fn grow(&self, batches: &[impl Changes]) -> Result<(), Failure> {
        let _alone = self.table.write().await;
        let lease = self.shared.pool.lease_for(&self.target).await?;
        let session = &lease.session;
        let growing = async {
            self.begin(session, &partitions(batches)).await?;
            let changes = batches.iter().flat_map(Changes::changes);
            prepare(session, &self.target, changes).await?;
            session.commit().await
        };
        let what = name_of(&self.topic, batches);
        session
            .deadline
            .within("write", what, Box::pin(growing))
            .await?;
        lease.give_back();
        Ok(())
    }

    /// Its connection, with all that was tried on it, is closed.
    async fn refused(&self, batches: &[impl Changes]) -> Result<Vec<Rejection>, Failure> {
        let _beside_others = self.table.read().await;
        let mut lease = self.shared.pool.lease_for(&self.target).await?;
        let deadline = Arc::clone(&lease.session.deadline);
        let searching = async {
            let session = &lease.session;
            let (places, target) = self.begin(session, &partitions(batches)).await?;
            let mut changes = Vec::new();
            for batch in batches {
                let covered = places.covered(batch);
                changes.extend(batch.changes().filter(|change| change.offset >= covered));
            }
            let mut load = Load::new(
                session,
                &mut lease.stages,
                &self.target,
                target,
                way_of(batches),
            );
            load.make_stage().await?;
            run(session, "SAVEPOINT search").await?;
            let mut search = Search::new(&changes);
            while let Some(piece) = search.next_piece() {
                // One piece at a time is what the time-out of a transaction is for.
                session.deadline.restart();
                let tried = load.try_out(piece).await;
                run(session, "ROLLBACK TO SAVEPOINT search").await?;
                search.tried(piece, tried)?;
            }
            Ok(search.refused())
        };
        let what = name_of(&self.topic, batches);
        deadline.within("write", what, Box::pin(searching)).await
    }
}

impl PostgresLane {
    /// One transaction. A connection on which this fails is not used again, so nothing is rolled back here.
    async fn attempt_by(&self, way: Way, batches: &[impl Changes]) -> Result<End, Failure> {
        let mut lease = self.shared.pool.lease_for(&self.target).await?;
        let deadline = Arc::clone(&lease.session.deadline);
        let writing = Box::pin(self.write_batches(way, &mut lease, batches));
        let what = name_of(&self.topic, batches);
        let end = deadline.within("write", what, writing).await?;
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
        let (places, target) = self.begin(session, &partitions(batches)).await?;
        let rest: Vec<_> = batches
            .iter()
            .filter(|batch| places.covered(*batch) < batch.next_offset())
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
        let pushed = push_all(&mut load, &rest, &places).await;
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
        let progress: Vec<_> = rest.iter().map(|batch| places.behind(*batch)).collect();
        let loaded = tally.merged > 0;
        self.shared
            .ledger
            .advance(session, &self.topic, &progress, loaded)
            .await?;
        session.commit().await?;
        if below.is_some() {
            self.swept().take();
        }
        self.claims.committed(&progress);
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
        if let Some(swept) = &*self.swept() {
            sweep.go_on_from(swept, partitions);
        }
        loop {
            let deleted = sweep.slice(session).await?;
            if sweep.is_done() {
                return Ok(deleted);
            }
            session.commit().await?;
            metric::swept(deleted);
            *self.swept() = Some(sweep.swept(partitions));
            session.begin().await?;
            let locked = self.shared.ledger.lock(session, &self.topic, partitions);
            self.claims
                .judge(&self.shared.ledger.meaning, partitions, &locked.await?)?;
        }
    }

    fn swept(&self) -> MutexGuard<'_, Option<Swept>> {
        self.swept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a transaction that holds partitions: where each stands, and the table as it is.
    async fn begin(
        &self,
        session: &Session,
        partitions: &[i32],
    ) -> Result<(Places, Option<Target>), Failure> {
        let ledger = &self.shared.ledger;
        let (begun, locked, target) = tokio::join!(
            biased;
            session.begin(),
            ledger.lock(session, &self.topic, partitions),
            table::read(session, &self.target),
        );
        begun?;
        let places = self.claims.judge(&ledger.meaning, partitions, &locked?)?;
        let target = target?;
        if target.is_none()
            && ledger
                .state(session, &self.topic, &self.target)
                .await?
                .loaded
        {
            // What follows is decided once the table was looked at again.
            let is_gone = ledger.meaning.is_gone(&self.topic, &self.target);
            return Err(Error::retry_msg(is_gone).into());
        }
        Ok((places, target))
    }
}

async fn run(session: &Session, statement: &str) -> Result<(), Failure> {
    session
        .client
        .batch_execute(statement)
        .await
        .attempt(|| "search for refused records".to_owned(), String::new)
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
    places: &Places,
) -> Result<Taken, Failure> {
    for batch in batches {
        let covered = places.covered(*batch);
        for change in batch.changes() {
            if change.offset >= covered && load.push(&change).await? == Taken::Unfit {
                return Ok(Taken::Unfit);
            }
        }
    }
    Ok(Taken::Yes)
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
