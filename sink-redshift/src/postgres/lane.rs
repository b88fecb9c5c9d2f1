//! Writes the batches of one topic's partitions, all in one transaction with their offsets.

mod straight;
mod transaction;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::RwLock;
use tributary_engine::{Batch, Known, Lane, Mark, Note, RowForm, Stand, WriteError, Written};
use tributary_runtime::Error;

use crate::postgres::access::Shared;
use crate::postgres::session::Session;
use crate::postgres::sweep::Swept;
use crate::warehouse::batch::Changes;
use crate::warehouse::claims::Claims;
use crate::warehouse::failure::Failure;
use crate::warehouse::name::Qualified;
use crate::warehouse::order;
use straight::Straight;

/// Writes of one table that are under way together: while the server works on one, the next one is sent.
const WIDTH: usize = 2;

/// Writes one topic. All its writes are durable: offsets and rows are committed together.
pub struct PostgresLane {
    shared: Arc<Shared>,
    topic: String,
    target: Qualified,
    claims: Claims,
    /// Held alone by what concerns the whole table, its form or its old rows; by a write together with others.
    table: RwLock<()>,
    straight: Straight,
    /// How far an attempt has swept that was not the last one.
    swept: Mutex<Option<Swept>>,
    /// Rows that were not newer than the target's.
    skipped: AtomicU64,
}

impl PostgresLane {
    pub(crate) fn new(shared: Arc<Shared>, topic: String, target: Qualified) -> Self {
        Self {
            shared,
            claims: Claims::new(&topic),
            topic,
            target,
            table: RwLock::new(()),
            straight: Straight::default(),
            swept: Mutex::new(None),
            skipped: AtomicU64::new(0),
        }
    }

    /// Writes batches; the records that Postgres can never take are found and named, all of them.
    pub(crate) async fn apply(&self, batches: &[impl Changes]) -> Result<(), WriteError> {
        order::write(self, &self.target, &self.topic, batches).await
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
        let done = session
            .deadline
            .within(doing, &self.target, work(shared, session))
            .await
            .map_err(Failure::into_error)?;
        lease.give_back();
        Ok(done)
    }
}

impl Lane for PostgresLane {
    /// Only one where connections are few: a table that somebody has locked leaves the others theirs.
    fn width(&self) -> usize {
        if self.shared.pool.has_plenty() {
            WIDTH
        } else {
            1
        }
    }

    fn passed_over(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    async fn known(&self) -> Result<Known, Error> {
        // Asked before: what is committed while the ledger answers is not missing in what it says.
        let told = self.claims.told();
        self.with_session("look at", async |shared, session| {
            shared
                .known(session, &self.topic, &self.target, &told)
                .await
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
        let told = self.claims.told();
        self.with_session("note how far came", async |shared, session| {
            shared
                .note(session, &self.topic, (generation, notes), &told)
                .await
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
        let at = self.claims.at(partition);
        let entry = self
            .with_session("open", async |shared, session| {
                shared.open(session, &at, &self.target).await
            })
            .await?;
        self.claims.take(partition, &entry);
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
