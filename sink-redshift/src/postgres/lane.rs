//! Writes the batches of one topic's partitions, all in one transaction with their offsets.

mod straight;
mod transaction;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::RwLock;
use tributary_engine::{
    Batch, Change, Known, Lane, Mark, Note, RowForm, Stand, TopicPartition, WriteError, Written,
};
use tributary_runtime::Error;

use crate::name::Qualified;
use crate::postgres::access::Shared;
use crate::postgres::failure::Failure;
use crate::postgres::session::Session;
use straight::Straight;

/// Writes of one table that are under way together: while the server works on one, the next one is sent.
const WIDTH: usize = 2;

/// What a transaction needs of a batch; the tests bring their own.
pub(crate) trait Changes: Send + Sync {
    /// The partition that they come from.
    fn partition(&self) -> i32;
    /// One past the last record, control records included.
    fn next_offset(&self) -> i64;
    /// Rows with a lower `seq` are gone.
    fn below(&self) -> Option<u64>;
    /// Whether its rows were all read or inserted at the source.
    fn inserts_only(&self) -> bool;
    /// The changes in offset order, at most one per key.
    fn changes(&self) -> impl Iterator<Item = Change<'_>> + Send;
    /// Whether rows among them may lack values, for which the table's are kept.
    fn lacks_values(&self) -> bool {
        false
    }
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

    fn inserts_only(&self) -> bool {
        Self::inserts_only(self)
    }

    fn changes(&self) -> impl Iterator<Item = Change<'_>> + Send {
        Self::changes(self)
    }

    fn lacks_values(&self) -> bool {
        Self::lacks_values(self)
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
    /// The partitions that this instance has taken.
    claims: Mutex<BTreeMap<i32, Claim>>,
    /// Held alone by what concerns the whole table, its form or its old rows; by a write together with others.
    table: RwLock<()>,
    straight: Straight,
    /// Rows that were not newer than the target's.
    skipped: AtomicU64,
}

/// What the ledger has said of a partition that was taken.
#[derive(Debug, Clone, Copy, Default)]
struct Claim {
    epoch: i64,
    /// It has said that everything below is committed.
    durable: i64,
}

impl PostgresLane {
    pub(crate) fn new(shared: Arc<Shared>, topic: String, target: Qualified) -> Self {
        Self {
            shared,
            topic,
            target,
            claims: Mutex::new(BTreeMap::new()),
            table: RwLock::new(()),
            straight: Straight::default(),
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
        let claim = Claim {
            epoch: entry.epoch,
            durable: entry.next_offset.unwrap_or(0),
        };
        self.claims
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(partition, claim);
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
