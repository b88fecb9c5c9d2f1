//! The first snapshot: all tables in parallel ctid chunks, under the snapshot that the slot exported.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use futures::TryStreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_postgres::Client;
use tributary_runtime::{Error, ResultExt};
use tributary_schemas::Lsn;
use tributary_schemas::encode::{Change, Snapshot};
use tributary_schemas::record::Op;

use crate::database::{Database, identifier, literal, qualified};
use crate::failpoint;
use crate::outbox::{Outbox, Transaction};
use crate::progress::Position;
use crate::published::PublishedTable;
use crate::telemetry;

mod copy_text;

use copy_text::CopyRow;

/// A range of pages of one relation.
#[derive(Debug, Clone)]
struct Chunk {
    table: Arc<PublishedTable>,
    /// The relation to read, quoted: the table itself or one of its partitions.
    relation: Arc<str>,
    first_page: u32,
    /// `None` for the last chunk, which has no end.
    end_page: Option<u32>,
}

impl Chunk {
    /// The statement that reads it. TID range scans exist since PG14.
    fn copy_statement(&self) -> String {
        let columns: Vec<_> = self
            .table
            .table
            .columns
            .iter()
            .map(|column| identifier(&column.name))
            .collect();
        let end = self
            .end_page
            .map(|page| format!(" AND ctid < '({page},0)'"))
            .unwrap_or_default();
        format!(
            "COPY (SELECT {} FROM ONLY {} WHERE ctid >= '({},0)'{end}) TO STDOUT",
            columns.join(", "),
            self.relation,
            self.first_page
        )
    }
}

/// What every row of the snapshot has in common.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotPoint {
    /// The slot's consistent point.
    pub(crate) consistent: Lsn,
    /// The position to publish with, its `seq` being that of every row.
    pub(crate) position: Position,
    /// The progress record to publish with.
    pub(crate) progress: Arc<[u8]>,
    /// The exported snapshot's name.
    pub(crate) exported: String,
}

/// Workers whose transactions all see the slot's consistent point.
pub(crate) struct Workers {
    database: Database,
    clients: Vec<Client>,
    point: SnapshotPoint,
}

impl Workers {
    /// Connects the workers and pins each to the exported snapshot, which lives until the connection that
    /// created the slot runs its next command.
    pub(crate) async fn pin(
        database: &Database,
        count: usize,
        point: SnapshotPoint,
    ) -> Result<Self, Error> {
        let mut clients = Vec::new();
        for _ in 0..count {
            let client = database.connect().await?;
            let pin = format!(
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
                literal(&point.exported)
            );
            client
                .batch_execute(&pin)
                .await
                .map_err(|e| database.explain(e))
                .doing(|| "take over the slot's snapshot")?;
            clients.push(client);
        }
        Ok(Self {
            database: database.clone(),
            clients,
            point,
        })
    }

    /// Reads all tables and hands their rows over, transaction by transaction. Returns how many transactions
    /// there were; cancel safe in that dropping it ends the workers.
    pub(crate) async fn read(
        self,
        tables: &[Arc<PublishedTable>],
        chunk_pages: u32,
        output: mpsc::Sender<Transaction>,
    ) -> Result<u64, Error> {
        let Some(first) = self.clients.first() else {
            return Ok(0);
        };
        let chunks = chunks(first, &self.database, tables, chunk_pages).await?;
        tracing::info!(
            tables = tables.len(),
            chunks = chunks.len(),
            "reading the first snapshot"
        );
        let queue = Arc::new(Mutex::new(VecDeque::from(chunks)));
        let mut workers = JoinSet::new();
        for client in self.clients {
            let worker = Worker {
                client,
                database: self.database.clone(),
                queue: Arc::clone(&queue),
                point: self.point.clone(),
                output: output.clone(),
                outbox: Outbox::default(),
                sent: 0,
            };
            workers.spawn(worker.run());
        }
        drop(output);
        let mut sent = 0;
        while let Some(worker) = workers.join_next().await {
            sent += worker.map_err(Error::stop)??;
        }
        Ok(sent)
    }
}

/// All tables cut into chunks, largest relations' chunks spread over the workers by the shared queue.
async fn chunks(
    client: &Client,
    database: &Database,
    tables: &[Arc<PublishedTable>],
    chunk_pages: u32,
) -> Result<Vec<Chunk>, Error> {
    const LEAVES: &str = "
        SELECT n.nspname, c.relname,
            pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::bigint
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = $1 AND c.relkind = 'r'
           OR c.relkind = 'r' AND c.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree($1) WHERE isleaf)";
    let mut chunks = Vec::new();
    for table in tables {
        let leaves = client
            .query(LEAVES, &[&table.table.oid])
            .await
            .map_err(|e| database.explain(e))?;
        for leaf in &leaves {
            let relation: Arc<str> = qualified(leaf.get(0), leaf.get(1)).into();
            let pages = u32::try_from(leaf.get::<_, i64>(2)).unwrap_or(u32::MAX);
            let mut first_page: u32 = 0;
            loop {
                let end_page = first_page
                    .checked_add(chunk_pages)
                    .filter(|end| *end < pages);
                let (table, relation) = (Arc::clone(table), Arc::clone(&relation));
                chunks.push(Chunk {
                    table,
                    relation,
                    first_page,
                    end_page,
                });
                match end_page {
                    Some(end) => first_page = end,
                    None => break,
                }
            }
        }
    }
    Ok(chunks)
}

struct Worker {
    client: Client,
    database: Database,
    queue: Arc<Mutex<VecDeque<Chunk>>>,
    point: SnapshotPoint,
    output: mpsc::Sender<Transaction>,
    outbox: Outbox,
    sent: u64,
}

impl Worker {
    async fn run(mut self) -> Result<u64, Error> {
        loop {
            let next = self
                .queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front();
            let Some(chunk) = next else { break };
            self.read(&chunk)
                .await
                .doing(|| format!("read table {}", chunk.table.display_name()))?;
        }
        self.send().await?;
        Ok(self.sent)
    }

    async fn read(&mut self, chunk: &Chunk) -> Result<(), Error> {
        let rows = self
            .client
            .copy_out(&chunk.copy_statement())
            .await
            .map_err(|e| self.database.explain(e))?;
        let mut rows = std::pin::pin!(rows);
        let mut row = CopyRow::default();
        let handled_at_ns = now_ns();
        let mut count = 0;
        while let Some(line) = rows
            .try_next()
            .await
            .map_err(|e| self.database.explain(e))?
        {
            self.append(chunk, &mut row, &line, handled_at_ns)?;
            count += 1;
            if self.outbox.is_full() {
                self.send().await?;
                failpoint::hit(failpoint::SNAPSHOT_CHUNK);
            }
        }
        metrics::counter!(telemetry::SNAPSHOT_ROWS, "table" => chunk.table.display_name())
            .increment(count);
        Ok(())
    }

    fn append(
        &mut self,
        chunk: &Chunk,
        row: &mut CopyRow,
        line: &[u8],
        handled_at_ns: i64,
    ) -> Result<(), Error> {
        let cells = row.parse(line);
        let expected = chunk.table.table.columns.len();
        if cells.len() != expected {
            return Err(Error::stop_msg(format!(
                "a row of {} columns instead of {expected}",
                cells.len()
            )));
        }
        let change = Change {
            op: Op::Read,
            before: None,
            after: Some(&cells),
            commit_time_us: handled_at_ns / 1000,
            snapshot: Snapshot::True,
            sequence: (None, self.point.consistent),
            tx_id: None,
            lsn: Some(self.point.consistent),
            transaction: None,
            handled_at_ns,
        };
        let key = chunk.table.key_bytes(&cells)?;
        chunk.table.append(
            &mut self.outbox,
            key.as_deref(),
            Some(&change),
            self.point.position.seq,
            Vec::new(),
        )
    }

    async fn send(&mut self) -> Result<(), Error> {
        if self.outbox.records.is_empty() {
            return Ok(());
        }
        let transaction = Transaction {
            outbox: std::mem::take(&mut self.outbox),
            progress: self.point.progress.to_vec(),
            position: self.point.position,
        };
        self.sent += 1;
        self.output
            .send(transaction)
            .await
            .map_err(|_| Error::retry_msg("the producer has stopped"))
    }
}

/// Nanoseconds since 1970 now.
pub(crate) fn now_ns() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
