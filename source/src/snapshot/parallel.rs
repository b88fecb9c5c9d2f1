//! All tables in parallel ctid chunks, every worker pinned to the snapshot that the slot exported. It locks what it reads,
//! range by range, and nothing else.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tributary_runtime::{Error, ResultExt};
use tributary_schemas::Lsn;
use tributary_schemas::encode::{Change, Snapshot};
use tributary_schemas::record::Op;
use tributary_schemas::table::Cell;

use crate::change::origin::now_ns;
use crate::failpoint;
use crate::log::outbox::Outbox;
use crate::log::table_topic::TableTopic;
use crate::snapshot::relations::{Relation, relations_of};
use crate::snapshot::shape::{self, HeldRelation};
use crate::snapshot::throttle::Throttle;
use tributary_postgres::client::Client;
use tributary_postgres::ctid::{Tid, TidRange};
use tributary_postgres::database::Database;
use tributary_postgres::quote::literal;
use tributary_postgres::rows::{ONE_SCAN, Row, Rows};

/// A range of one relation.
#[derive(Debug, Clone)]
struct Chunk {
    table: Arc<TableTopic>,
    /// The relation's name, quoted.
    relation: Arc<str>,
    oid: u32,
    pages: u32,
    range: TidRange,
}

/// What every row of the snapshot has in common.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotPoint {
    /// The slot's consistent point.
    pub(crate) consistent: Lsn,
    /// The version of every row.
    pub(crate) seq: u64,
    /// The exported snapshot's name.
    pub(crate) exported: String,
}

impl SnapshotPoint {
    /// What a record of this snapshot says. `handled_at_ns`: nanoseconds since 1970.
    pub(crate) fn change<'a>(
        &self,
        op: Op,
        after: Option<&'a [Cell<'a>]>,
        handled_at_ns: i64,
    ) -> Change<'a> {
        Change {
            op,
            before: None,
            after,
            commit_time_us: handled_at_ns / 1000,
            snapshot: Snapshot::True,
            sequence: (None, self.consistent),
            tx_id: None,
            lsn: Some(self.consistent),
            transaction: None,
            handled_at_ns,
        }
    }
}

/// Rows for one Kafka transaction, and what is read with them.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) outbox: Outbox,
    pub(crate) read: Vec<Advance>,
}

/// Rows of a relation that are read.
#[derive(Debug)]
pub(crate) struct Advance {
    pub(crate) table: Arc<TableTopic>,
    pub(crate) oid: u32,
    pub(crate) range: TidRange,
    pub(crate) rows: u64,
}

/// Workers whose transactions all see the slot's consistent point.
pub(crate) struct Workers {
    database: Database,
    clients: Vec<Client>,
    throttle: Arc<Throttle>,
    point: SnapshotPoint,
}

impl Workers {
    /// Connects the workers and pins each to the exported snapshot, which lives until the connection that
    /// created the slot runs its next command.
    pub(crate) async fn pin(
        database: &Database,
        count: usize,
        throttle: &Arc<Throttle>,
        point: SnapshotPoint,
    ) -> Result<Self, Error> {
        let mut clients = Vec::new();
        for _ in 0..count {
            let client = database.connect().await?;
            let pin = format!(
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}; {ONE_SCAN}",
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
            throttle: Arc::clone(throttle),
            point,
        })
    }

    /// The relations of these tables, in the tables' order.
    pub(crate) async fn plan(
        &self,
        tables: &[Arc<TableTopic>],
    ) -> Result<Vec<Vec<Relation>>, Error> {
        let Some(first) = self.clients.first() else {
            return Ok(Vec::new());
        };
        let oids: Vec<u32> = tables.iter().map(|table| table.table.oid).collect();
        let mut found = relations_of(first, &oids)
            .await
            .map_err(|e| self.database.explain(e))?;
        let planned = oids.iter().map(|oid| found.remove(oid).unwrap_or_default());
        Ok(planned.collect())
    }

    /// Reads all tables, of which these are the relations, and hands their rows over, batch by batch; cancel safe in that
    /// dropping it ends the workers.
    pub(crate) async fn read(
        self,
        tables: &[Arc<TableTopic>],
        planned: Vec<Vec<Relation>>,
        chunk_pages: u32,
        output: mpsc::Sender<Batch>,
    ) -> Result<(), Error> {
        let mut queue = VecDeque::new();
        for (table, relations) in tables.iter().zip(planned) {
            queue.extend(relations.into_iter().map(|relation| Chunk {
                table: Arc::clone(table),
                relation: relation.name.into(),
                oid: relation.ranges.oid,
                pages: relation.ranges.pages,
                range: TidRange::ALL,
            }));
        }
        tracing::info!(
            tables = tables.len(),
            relations = queue.len(),
            "reading the first snapshot"
        );
        let queue = Arc::new(Mutex::new(queue));
        // A range is read at once, and its lock given back before the rate is waited for.
        let chunk_pages = chunk_pages.min(self.throttle.pages_in_a_second());
        let mut workers = JoinSet::new();
        for client in self.clients {
            let worker = Worker {
                client,
                database: self.database.clone(),
                queue: Arc::clone(&queue),
                chunk_pages,
                throttle: Arc::clone(&self.throttle),
                point: self.point.clone(),
                output: output.clone(),
                batch: Batch::default(),
            };
            workers.spawn(worker.run());
        }
        drop(output);
        while let Some(worker) = workers.join_next().await {
            worker.map_err(Error::stop)??;
        }
        Ok(())
    }
}

struct Worker {
    client: Client,
    database: Database,
    /// Whole relations, the first one without the chunks that were taken from it.
    queue: Arc<Mutex<VecDeque<Chunk>>>,
    chunk_pages: u32,
    throttle: Arc<Throttle>,
    point: SnapshotPoint,
    output: mpsc::Sender<Batch>,
    batch: Batch,
}

impl Worker {
    async fn run(mut self) -> Result<(), Error> {
        while let Some(chunk) = self.take() {
            let place = || chunk.table.display_name();
            failpoint::pause(failpoint::SNAPSHOT_READING, place).await;
            let doing = || format!("read table {}", chunk.table.display_name());
            let explain = |error| self.database.explain(error);
            let held = HeldRelation {
                oid: chunk.oid,
                name: &chunk.relation,
            };
            let unchanged = shape::hold(&self.client, held).await.map_err(explain);
            if unchanged.doing(doing)? {
                self.read(&chunk).await.doing(doing)?;
            } else {
                self.leave(&chunk);
            }
            // Nobody waits for a lock of ours longer than it takes to read a range.
            let given_back = shape::give_back(&self.client).await;
            given_back.map_err(|error| self.database.explain(error))?;
            self.throttle.settled().await;
        }
        self.send().await
    }

    /// What is not read of a relation stays so: progress has it, and the stream's chunks read it.
    fn leave(&self, chunk: &Chunk) {
        tracing::info!(
            table = chunk.table.display_name(),
            relation = &*chunk.relation,
            "the table is being changed, or was before its rows were read: they are read beside the stream"
        );
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.retain(|other| other.oid != chunk.oid);
    }

    fn take(&self) -> Option<Chunk> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let mut chunk = queue.pop_front()?;
        let (range, rest) = chunk.range.cut(self.chunk_pages, chunk.pages);
        if let Some(range) = rest {
            queue.push_front(Chunk {
                range,
                ..chunk.clone()
            });
        }
        chunk.range = range;
        Some(chunk)
    }

    async fn read(&mut self, chunk: &Chunk) -> Result<(), Error> {
        let table = &chunk.table.table;
        let what = (&*chunk.relation, chunk.range);
        let mut rows = Rows::read(&self.client, &self.database, table, what, None).await?;
        let mut row = Row::default();
        let handled_at_ns = now_ns();
        let (mut after, mut count) = (chunk.range.after, 0);
        while let Some((tid, line)) = rows.next().await? {
            let cells = row.parse(&line, table)?;
            self.append(chunk, &cells, handled_at_ns)?;
            count += 1;
            self.throttle.spend(1);
            let outbox = &self.batch.outbox;
            // Of a second's rows none waits for the rest, of however many tables they are.
            if outbox.is_full() || outbox.records.len() >= self.throttle.rows_per_second() {
                self.advance(chunk, after, Some(tid), count);
                self.send().await?;
                failpoint::hit(failpoint::SNAPSHOT_CHUNK);
                (after, count) = (tid, 0);
            }
        }
        self.advance(chunk, after, chunk.range.to, count);
        Ok(())
    }

    fn advance(&mut self, chunk: &Chunk, after: Tid, to: Option<Tid>, rows: usize) {
        self.batch.read.push(Advance {
            table: Arc::clone(&chunk.table),
            oid: chunk.oid,
            range: TidRange { after, to },
            rows: rows as u64,
        });
    }

    fn append(
        &mut self,
        chunk: &Chunk,
        cells: &[Cell<'_>],
        handled_at_ns: i64,
    ) -> Result<(), Error> {
        let change = self.point.change(Op::Read, Some(cells), handled_at_ns);
        let key = chunk.table.key_bytes(cells)?;
        let outbox = &mut self.batch.outbox;
        chunk.table.append(
            outbox,
            key.as_deref(),
            Some(&change),
            self.point.seq,
            Vec::new(),
        )
    }

    async fn send(&mut self) -> Result<(), Error> {
        if self.batch.read.is_empty() {
            return Ok(());
        }
        self.output
            .send(std::mem::take(&mut self.batch))
            .await
            .map_err(|_| Error::retry_msg("the producer has stopped"))
    }
}
