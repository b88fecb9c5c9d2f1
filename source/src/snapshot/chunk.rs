//! How a chunk beside the stream begins: which rows it has, their lock, and then its snapshot.

use std::sync::Arc;
use std::time::Instant;

use tokio_postgres::Client;
use tributary_runtime::Error;
use tributary_schemas::table::Table;

use crate::change::completion::ServerSnapshot;
use crate::failpoint;
use crate::log::progress::{RelationRanges, TableSnapshot};
use crate::log::table_topic::TableTopic;
use crate::snapshot::relations::{Relation, relations};
use crate::snapshot::shape::{LOCK_TIMEOUT_MS, cannot_be_had};
use tributary_postgres::catalog::Catalog;
use tributary_postgres::ctid::TidRange;
use tributary_postgres::database::Database;
use tributary_postgres::rows::{ONE_SCAN, Rows};

/// The table as it was found, and what is published of that.
#[derive(Clone)]
pub(super) struct DescribedTable {
    pub(super) found: Table,
    pub(super) published: Arc<TableTopic>,
}

/// A chunk under its snapshot.
pub(super) struct ChunkReading {
    pub(super) table: Arc<TableTopic>,
    pub(super) snapshot: ServerSnapshot,
    pub(super) oid: u32,
    pub(super) range: TidRange,
    pub(super) rows: Rows,
    pub(super) began: Instant,
}

/// What came of the attempt to begin a chunk.
pub(super) enum ChunkStart {
    Chunk(Box<ChunkReading>),
    /// There is nothing to read any more.
    Complete(ServerSnapshot),
    /// The table is being changed: begin again.
    Changed,
}

/// Begins chunks on a connection of its own.
pub(super) struct Chunker<'a> {
    database: &'a Database,
    client: &'a Client,
    chunk_pages: u32,
}

impl<'a> Chunker<'a> {
    /// A connection whose statements let a schema change pass that they would wait for.
    pub(super) async fn connect(
        database: &Database,
    ) -> Result<tributary_postgres::client::Client, Error> {
        let client = database.connect().await?;
        let set = format!("SET lock_timeout = {LOCK_TIMEOUT_MS}");
        let set = client.batch_execute(&set).await;
        set.map_err(|error| database.explain(error))?;
        Ok(client)
    }

    pub(super) const fn new(database: &'a Database, client: &'a Client, chunk_pages: u32) -> Self {
        Self {
            database,
            client,
            chunk_pages,
        }
    }

    /// Takes the chunk's snapshot. The lock on the relation with its rows comes first, so neither its file nor its
    /// columns change behind the snapshot. (`LOCK` takes none.) Which relation that is, is planned before, and again
    /// under the snapshot.
    pub(super) async fn begin(
        &self,
        table: &DescribedTable,
        state: &mut TableSnapshot,
    ) -> Result<ChunkStart, Error> {
        let start = self.try_begin(table, state).await?;
        Ok(start.unwrap_or(ChunkStart::Changed))
    }

    async fn try_begin(
        &self,
        table: &DescribedTable,
        state: &mut TableSnapshot,
    ) -> Result<Option<ChunkStart>, Error> {
        let DescribedTable { found, published } = table;
        let planned = self.plan(found.oid, state).await;
        let Some(planned) = self.unless_changed(table, planned)? else {
            return Ok(None);
        };
        let lock = planned.as_ref().map(|(relation, _)| {
            format!("; LOCK TABLE ONLY {} IN ACCESS SHARE MODE", relation.name)
        });
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {ONE_SCAN}{}",
            lock.unwrap_or_default()
        );
        let place = || published.display_name();
        failpoint::pause(failpoint::CHUNK_LOCKING, place).await;
        let begun = self.client.batch_execute(&begin).await;
        if self.unless_changed(table, begun)?.is_none() {
            return Ok(None);
        }
        let snapshot = self.server_snapshot().await?;
        failpoint::pause(failpoint::CHUNK_SNAPSHOT, place).await;
        let now = Catalog::new(self.client, self.database)
            .table(found.oid)
            .await?;
        if now.is_none_or(|now| now.table != *found) {
            return Ok(None);
        }
        let now = self.plan(found.oid, state).await;
        let Some(now) = self.unless_changed(table, now)? else {
            return Ok(None);
        };
        if now.as_ref().map(locked) != planned.as_ref().map(locked) {
            return Ok(None);
        }
        let Some((relation, range)) = now else {
            let end = self.client.batch_execute("COMMIT").await;
            end.map_err(|error| self.database.explain(error))?;
            return Ok(Some(ChunkStart::Complete(snapshot)));
        };
        let filter = state.filter.as_deref();
        let what = (relation.name.as_str(), range);
        let rows = Rows::read(self.client, self.database, &published.table, what, filter).await?;
        Ok(Some(ChunkStart::Chunk(Box::new(ChunkReading {
            table: Arc::clone(published),
            snapshot,
            oid: relation.ranges.oid,
            range,
            rows,
            began: Instant::now(),
        }))))
    }

    /// The first range that is to be read, cut to a chunk.
    async fn plan(
        &self,
        table: u32,
        state: &mut TableSnapshot,
    ) -> Result<Option<(Relation, TidRange)>, tokio_postgres::Error> {
        let found = relations(self.client, table).await?;
        let unread = found.iter().map(|relation| relation.ranges.clone());
        state.reconcile(unread.collect());
        Ok(next_chunk(state, found, self.chunk_pages))
    }

    /// `None` if a statement has met a change of the table, which is told.
    fn unless_changed<T>(
        &self,
        table: &DescribedTable,
        result: Result<T, tokio_postgres::Error>,
    ) -> Result<Option<T>, Error> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if cannot_be_had(&error) => {
                let (error, table) = (self.database.explain(error), &table.published);
                tracing::info!(%error, table = table.display_name(), "a chunk waits for a change of the table");
                Ok(None)
            }
            Err(error) => Err(self.database.explain(error)),
        }
    }

    async fn server_snapshot(&self) -> Result<ServerSnapshot, Error> {
        let query = "SELECT pg_catalog.pg_current_snapshot()::text";
        let row = self
            .client
            .query_one(query, &[])
            .await
            .map_err(|e| self.database.explain(e))?;
        ServerSnapshot::parse(row.get(0))
            .ok_or_else(|| Error::stop_msg("the server's snapshot has an unknown form"))
    }
}

/// What of a plan the lock was taken for: under this name there is no other relation as long as it is held.
fn locked((relation, _): &(Relation, TidRange)) -> (u32, &str) {
    (relation.ranges.oid, &relation.name)
}

fn next_chunk(
    state: &TableSnapshot,
    found: Vec<Relation>,
    chunk_pages: u32,
) -> Option<(Relation, TidRange)> {
    let planned: &[RelationRanges] = state.relations.as_deref().unwrap_or_default();
    let next = planned.iter().find(|one| !one.pending.is_empty())?;
    let mut found = found.into_iter();
    let relation = found.find(|one| one.ranges.oid == next.oid)?;
    // As large as it is now: it may have grown since it was planned.
    let (chunk, _) = next
        .pending
        .first()?
        .cut(chunk_pages, relation.ranges.pages);
    Some((relation, chunk))
}
