//! A table read in chunks beside the stream.
//!
//! A chunk is a range of ctids under one snapshot of the server. Before the snapshot is taken a low watermark
//! goes into the WAL, and behind each piece of rows a high one. The streaming loop knows which keys the stream
//! changed between the two: rows with such a key are older than what is in the log, or the same, and are
//! dropped. All others are as they were read, up to the high watermark; there they enter the log.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::Client;
use tributary_runtime::{Error, Policy, ResultExt};

use crate::change::completion::ServerSnapshot;
use crate::change::translate::ReadRows;
use crate::change::watermark::{WATERMARK_PREFIX, Watermark};
use crate::failpoint;
use crate::log::outbox::MAX_RECORDS;
use crate::log::progress::{TableProgress, TableSnapshot};
use crate::log::table_topic::{Registrar, TableTopic};
use crate::snapshot::chunk::{ChunkReading, ChunkStart, Chunker, DescribedTable};
use crate::snapshot::throttle::Throttle;
use tributary_postgres::catalog::Catalog;
use tributary_postgres::client::Client as Connection;
use tributary_postgres::ctid::TidRange;
use tributary_postgres::database::Database;
use tributary_postgres::quote::literal;

/// How many bytes of rows are held until their watermark comes through the stream. Their number is bounded too: all of
/// them become records of one transaction.
const PIECE_BYTES: usize = 1 << 20;
/// How long a chunk may hold its snapshot, which holds the server's clean-up back, and its lock.
const MAX_CHUNK: Duration = Duration::from_secs(20);
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// A table to be read, and how far it is.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) topic: Arc<str>,
    pub(crate) known: TableProgress,
    pub(crate) snapshot: TableSnapshot,
}

/// What the streaming loop makes of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its rows are on their way; go on.
    Taken,
    /// Its rows are on their way; go on under a new snapshot.
    TakenRenew,
    /// Its rows cannot be used: read them again.
    Again,
}

/// Rows up to a high watermark.
pub(crate) struct Piece {
    pub(crate) high: Watermark,
    pub(crate) read: ReadRows,
    /// How far the table is when they are in the log.
    pub(crate) state: TableSnapshot,
    pub(crate) verdict: oneshot::Sender<Verdict>,
}

/// What the reader tells the streaming loop.
pub(crate) enum Progressed {
    /// A low watermark is about to be written.
    Window {
        low: Watermark,
        ready: oneshot::Sender<()>,
    },
    /// A high watermark is about to be written.
    Piece(Box<Piece>),
    /// The table is gone, or has become one that cannot be read so.
    Gone,
    /// The condition of the request cannot be met, or not be read: why.
    Refused(String),
}

/// Reads one table; dropping it ends that.
pub(crate) struct Reader {
    events: mpsc::Receiver<Progressed>,
    task: tokio::task::JoinHandle<Result<(), Error>>,
}

impl Reader {
    pub(crate) fn start(
        database: &Database,
        registrar: &Arc<Registrar>,
        source: &str,
        chunk_pages: u32,
        throttle: &Arc<Throttle>,
        task: Task,
    ) -> Self {
        let (output, events) = mpsc::channel(1);
        let beside = Beside {
            database: database.clone(),
            registrar: Arc::clone(registrar),
            marks: Marks {
                source: source.to_owned(),
                nonce: crate::change::origin::now_ns(),
                count: 0,
            },
            // What a snapshot is held for is read at once, before the rate is waited for.
            chunk_pages: chunk_pages.min(throttle.pages_in_a_second()),
            throttle: Arc::clone(throttle),
            task,
            described: None,
            output,
        };
        let task = tokio::spawn(beside.run());
        Self { events, task }
    }

    /// The next event; `None` when the table is read. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Progressed>, Error> {
        match self.events.recv().await {
            Some(event) => Ok(Some(event)),
            None => match (&mut self.task).await {
                Ok(result) => result.map(|()| None),
                Err(error) => Err(Error::retry(error)),
            },
        }
    }

    /// An event that was told already.
    pub(crate) fn told(&mut self) -> Option<Progressed> {
        self.events.try_recv().ok()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Names watermarks, so that those of other sources and earlier sessions are not taken for ours.
struct Marks {
    source: String,
    nonce: i64,
    count: u64,
}

impl Marks {
    fn next(&mut self) -> Watermark {
        self.count += 1;
        Watermark(format!("{} {} {}", self.source, self.nonce, self.count).into_bytes())
    }
}

struct Beside {
    database: Database,
    registrar: Arc<Registrar>,
    marks: Marks,
    chunk_pages: u32,
    throttle: Arc<Throttle>,
    task: Task,
    described: Option<DescribedTable>,
    output: mpsc::Sender<Progressed>,
}

impl Beside {
    async fn run(mut self) -> Result<(), Error> {
        let marks = self.database.connect().await?;
        // The commit of a watermark comes behind those that it follows, however long these wait for a standby: those that
        // were streamed are visible then. And it is flushed, or the stream would wait for it.
        self.execute(&marks, "SET synchronous_commit = remote_apply")
            .await?;
        let mut reader = None;
        // Also of a table without any relation the loop has to hear.
        loop {
            let client = match reader.take() {
                Some(client) => client,
                None => Chunker::connect(&self.database).await?,
            };
            self.throttle.settled().await;
            let table = self.task.known.table.clone();
            match self.chunk(&marks, client).await {
                Ok(client) => reader = client,
                // A condition of others does not stop the source.
                Err(error)
                    if self.task.snapshot.has_a_condition_of_others()
                        && error.policy() == Policy::Stop =>
                {
                    self.send(Progressed::Refused(error.to_string())).await?;
                    return Ok(());
                }
                Err(error) => return Err(error.context(format!("read table {table}"))),
            }
            if self.output.is_closed() || self.task.snapshot.is_complete() {
                return Ok(());
            }
        }
    }

    /// Reads one chunk. Returns the connection if it can be used again: a COPY that is not wanted any more ends with
    /// its connection.
    async fn chunk(
        &mut self,
        marks: &Client,
        client: Connection,
    ) -> Result<Option<Connection>, Error> {
        let Some(table) = self.describe(&client).await? else {
            self.send(Progressed::Gone).await?;
            return Ok(Some(client));
        };
        self.low_watermark(marks).await?;
        let chunker = Chunker::new(&self.database, &client, self.chunk_pages);
        let state = &mut self.task.snapshot;
        let chunk = match chunker.begin(&table, state).await? {
            ChunkStart::Chunk(chunk) => chunk,
            ChunkStart::Complete(snapshot) => {
                let state = self.task.snapshot.clone();
                self.hand_over(marks, &table.published, snapshot, Vec::new(), state)
                    .await?;
                return Ok(Some(client));
            }
            ChunkStart::Changed => {
                self.execute(&client, "ROLLBACK").await?;
                tokio::time::sleep(RETRY_PAUSE).await;
                return Ok(Some(client));
            }
        };
        self.pieces((marks, client), chunk).await
    }

    /// The table as the catalog has it now, registered; `None` if it is gone.
    async fn describe(&mut self, client: &Client) -> Result<Option<DescribedTable>, Error> {
        let mut catalog = Catalog::new(client, &self.database);
        let Some(found) = catalog.table(self.task.known.oid).await? else {
            return Ok(None);
        };
        let known = &self.task.known;
        // Under another name it has another topic, and other schemas.
        if found.display_name() != known.table {
            return Ok(None);
        }
        let described = self.described.as_ref();
        if let Some(same) = described.filter(|described| described.found == found.table) {
            return Ok(Some(same.clone()));
        }
        let publish = self.registrar.publish(found.table.clone(), Some(known));
        let published = publish.await?;
        if published.has_other_key(known) {
            return Err(Error::retry_msg(format!(
                "the key of table {} has changed while it is read",
                known.table
            )));
        }
        let published = Arc::new(published);
        let found = found.table;
        Ok(Some(
            self.described
                .insert(DescribedTable { found, published })
                .clone(),
        ))
    }

    async fn low_watermark(&mut self, marks: &Client) -> Result<(), Error> {
        let low = self.marks.next();
        let (ready, answered) = oneshot::channel();
        let window = Progressed::Window {
            low: low.clone(),
            ready,
        };
        self.send(window).await?;
        answered.await.map_err(|_| stopped())?;
        self.write(marks, &low).await
    }

    /// Hands the chunk's rows over, piece by piece. Returns the connection if all were read.
    async fn pieces(
        &mut self,
        (marks, client): (&Client, Connection),
        mut chunk: Box<ChunkReading>,
    ) -> Result<Option<Connection>, Error> {
        loop {
            let (mut rows, mut bytes) = (Vec::new(), 0);
            let (mut to, mut whole) = (None, false);
            let max_rows = self.throttle.rows_per_second().min(MAX_RECORDS);
            while bytes < PIECE_BYTES && rows.len() < max_rows {
                let Some((tid, line)) = chunk.rows.next().await? else {
                    whole = true;
                    break;
                };
                bytes += line.len();
                to = Some(tid);
                rows.push(line);
            }
            let read = TidRange {
                after: chunk.range.after,
                to: if whole { chunk.range.to } else { to },
            };
            let mut state = self.task.snapshot.clone();
            state.rows += rows.len() as u64;
            if let Some(relation) = state.relation_mut(chunk.oid) {
                relation.finish(read);
            }
            if whole {
                // The lock is not kept while the stream comes to the watermark.
                self.execute(&client, "COMMIT").await?;
            }
            let behind = self.throttle.spend(rows.len() as u64);
            let (table, snapshot) = (Arc::clone(&chunk.table), chunk.snapshot.clone());
            let mut verdict = pin!(self.hand_over(marks, &table, snapshot, rows, state));
            let left = MAX_CHUNK.saturating_sub(chunk.began.elapsed());
            let Ok(in_time) = tokio::time::timeout(left, &mut verdict).await else {
                // The stream is far behind: neither the lock nor the snapshot is kept for it. They end with the connection:
                // a COMMIT would come behind all rows that are still to be read.
                drop((chunk, client));
                return verdict.await.map(|_| None);
            };
            match in_time? {
                _ if whole => return Ok(Some(client)),
                Verdict::Again => return Ok(None),
                // No snapshot is held while the throttle makes it wait.
                Verdict::Taken if chunk.began.elapsed() < MAX_CHUNK && !behind => {}
                Verdict::Taken | Verdict::TakenRenew => return Ok(None),
            }
            chunk.range.after = to.unwrap_or(chunk.range.after);
        }
    }

    /// Hands rows over. Once they are taken, `state` is how far the table is.
    async fn hand_over(
        &mut self,
        marks: &Client,
        table: &Arc<TableTopic>,
        snapshot: ServerSnapshot,
        rows: Vec<Bytes>,
        state: TableSnapshot,
    ) -> Result<Verdict, Error> {
        let high = self.marks.next();
        let (verdict, answer) = oneshot::channel();
        let piece = Piece {
            high: high.clone(),
            read: ReadRows {
                table: Arc::clone(table),
                snapshot,
                rows,
            },
            state: state.clone(),
            verdict,
        };
        self.send(Progressed::Piece(Box::new(piece))).await?;
        failpoint::hit(failpoint::WATERMARK_CHUNK);
        self.write(marks, &high).await?;
        let verdict = answer.await.map_err(|_| stopped())?;
        if verdict != Verdict::Again {
            self.task.snapshot = state;
        }
        Ok(verdict)
    }

    async fn write(&self, marks: &Client, mark: &Watermark) -> Result<(), Error> {
        let emit = format!(
            "SELECT pg_catalog.pg_logical_emit_message(true, '{WATERMARK_PREFIX}', {})",
            literal(&String::from_utf8_lossy(&mark.0))
        );
        self.execute(marks, &emit)
            .await
            .doing(|| "write a watermark")
    }

    async fn execute(&self, client: &Client, sql: &str) -> Result<(), Error> {
        let done = client.batch_execute(sql).await;
        done.map_err(|e| self.database.explain(e))
    }

    async fn send(&self, event: Progressed) -> Result<(), Error> {
        self.output.send(event).await.map_err(|_| stopped())
    }
}

fn stopped() -> Error {
    Error::retry_msg("the stream has stopped")
}
