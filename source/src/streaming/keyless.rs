//! The rows of a table without a key, read while the stream stands still.
//!
//! Without a key, rows that were read cannot be merged with those that the stream changes. So they are read
//! under the snapshot of a temporary slot, and the stream waits where that snapshot was taken: all that came
//! before is gone from the log, then all rows enter it, then the stream goes on.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tributary_runtime::{Error, ResultExt};
use tributary_schemas::Lsn;

use super::Streaming;
use crate::catalog::Catalog;
use crate::database::{Database, literal};
use crate::published::{PublishedTable, Registrar};
use crate::replication::ReplicationConnection;
use crate::session::{STATUS_INTERVAL, Session};
use crate::snapshot::{Row, Rows, Task, TidRange, WATERMARK_PREFIX, relations};

/// A table without a key that is to be read.
pub(super) struct Keyless {
    pub(super) topic: Arc<str>,
    preparing: Option<JoinHandle<Result<Prepared, Error>>>,
    prepared: Option<Prepared>,
}

/// A transaction that sees all that was committed before a place in the WAL, and nothing behind it.
struct Prepared {
    consistent_point: Lsn,
    client: Client,
    table: PublishedTable,
    /// Their names, quoted.
    relations: Vec<String>,
}

impl Keyless {
    pub(super) fn start(session: &Session, task: Task) -> Self {
        let topic = Arc::clone(&task.topic);
        let preparing = prepare(
            session.database.clone(),
            Arc::clone(&session.registrar),
            session.config.postgres.plugin.name(),
            task,
        );
        Self {
            topic,
            preparing: Some(tokio::spawn(preparing)),
            prepared: None,
        }
    }

    /// Waits until the snapshot is there; cancel safe.
    pub(super) async fn ready(&mut self) -> Result<(), Error> {
        if let Some(preparing) = &mut self.preparing {
            self.prepared = Some(preparing.await.map_err(Error::retry)??);
            self.preparing = None;
        }
        Ok(())
    }

    pub(super) const fn is_ready(&self) -> bool {
        self.prepared.is_some()
    }

    /// Where the stream has to wait; `None` before that is known.
    pub(super) fn consistent_point(&self) -> Option<Lsn> {
        Some(self.prepared.as_ref()?.consistent_point)
    }
}

impl Drop for Keyless {
    fn drop(&mut self) {
        if let Some(preparing) = &self.preparing {
            preparing.abort();
        }
    }
}

async fn prepare(
    database: Database,
    registrar: Arc<Registrar>,
    plugin: &'static str,
    task: Task,
) -> Result<Prepared, Error> {
    let explain = |error| database.explain(error);
    if task.snapshot.filter.is_some() {
        tracing::warn!(
            table = task.known.table,
            "the table has no key: its rows cannot be told apart, so all of them are read"
        );
    }
    let client = database.connect().await?;
    let changed = || {
        Error::retry_msg(format!(
            "table {} has changed while its snapshot began",
            task.known.table
        ))
    };
    let describe = || async { Catalog::new(&client, &database).table(task.known.oid).await };
    let described = describe().await?.ok_or_else(changed)?;
    // Under another name it has another topic.
    if described.display_name() != task.known.table {
        return Err(changed());
    }
    let published = registrar.publish(described.table.clone(), Some(&task.known));
    let table = published.await?;
    let mut connection = ReplicationConnection::connect(&database.replication())
        .await
        .map_err(|error| database.explain_replication(error))?;
    let slot = format!("tributary_{}", crate::snapshot::now_ns());
    let created = connection
        .create_temporary_slot_exporting_snapshot(&slot, plugin)
        .await
        .map_err(|error| database.explain_replication(error))
        .doing(|| "create a temporary slot")?;
    let begin = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {};
        LOCK TABLE {} IN ACCESS SHARE MODE",
        literal(&created.snapshot_name),
        table.quoted_name()
    );
    client.batch_execute(&begin).await.map_err(explain)?;
    if describe().await? != Some(described) {
        return Err(changed());
    }
    let relations = relations(&client, task.known.oid).await.map_err(explain)?;
    // So that the stream comes there soon, also where nobody else writes.
    let wake =
        format!("SELECT pg_catalog.pg_logical_emit_message(true, '{WATERMARK_PREFIX}', '{slot}')");
    let other = database.connect().await?;
    other.batch_execute(&wake).await.map_err(explain)?;
    Ok(Prepared {
        consistent_point: created.consistent_point,
        client,
        table,
        relations: relations.into_iter().map(|one| one.name).collect(),
    })
}

impl Streaming {
    /// Whether the stream has come to where a table without a key is to be read, without a transaction there.
    pub(super) fn keyless_is_due(&self) -> bool {
        let point = self.chunks.keyless.as_ref();
        point
            .and_then(Keyless::consistent_point)
            .is_some_and(|point| self.translator.position().confirm >= point)
    }

    /// Puts all rows of the table into the log, while the stream stands still.
    pub(super) async fn read_keyless(&mut self) -> Result<(), Error> {
        let Some(prepared) = self
            .chunks
            .keyless
            .take()
            .and_then(|mut it| it.prepared.take())
        else {
            return Ok(());
        };
        let topic = Arc::clone(&prepared.table.topic);
        let known = self.progress.get().tables.get(&*topic);
        let Some(mut state) = known.and_then(|known| known.snapshot.clone()) else {
            return Ok(());
        };
        let lsn = self.read_lsn();
        let below = self.translator.position().seq + 1;
        self.translator
            .append_gone_below(&prepared.table, below, lsn)?;
        let mut count = 0;
        for relation in &prepared.relations {
            count += self.read_relation(&prepared, relation, lsn).await?;
        }
        state.rows = count;
        state.below = None;
        state.relations = Some(Vec::new());
        self.rows_are_read(&prepared.table, state, 0)
    }

    async fn read_relation(
        &mut self,
        prepared: &Prepared,
        relation: &str,
        lsn: Lsn,
    ) -> Result<u64, Error> {
        let table = &prepared.table;
        let (client, database) = (&prepared.client, self.session.database.clone());
        let what = (relation, TidRange::ALL);
        let mut rows = Rows::read(client, &database, &table.table, what, None).await?;
        let mut tick = tokio::time::interval(STATUS_INTERVAL);
        let (mut row, mut count) = (Row::default(), 0);
        loop {
            let line = tokio::select! {
                line = rows.next() => line.doing(|| format!("read table {}", table.display_name()))?,
                _ = tick.tick() => { self.report().await?; continue; }
            };
            let Some(line) = line else { break };
            let (_, cells) = row.parse(&line, &table.table)?;
            self.translator.append_read(table, None, &cells, lsn)?;
            count += 1;
            if self.translator.is_full(usize::MAX) {
                self.publish_rows().await?;
            }
        }
        let (topic, name) = (&table.topic, table.display_name());
        self.session.monitor.rows_read(topic, &name, count);
        Ok(count)
    }

    /// Hands over what is there and waits for room for more.
    async fn publish_rows(&mut self) -> Result<(), Error> {
        self.hand_over().await?;
        while !self.translator.is_empty() {
            let committed = tokio::select! {
                committed = self.publisher.committed() => committed?,
                () = tokio::time::sleep(STATUS_INTERVAL) => { self.report().await?; continue; }
            };
            self.committed(committed);
            self.hand_over().await?;
        }
        Ok(())
    }
}
