//! The rows of a table without a key, read while the stream stands still.
//!
//! Without a key, rows that were read cannot be merged with those that the stream changes. So they are read
//! under the snapshot of a temporary slot, and the stream waits where that snapshot was taken: all that came
//! before is gone from the log, then all rows enter it, then the stream goes on.
//!
//! Where that will be is not known before the slot is there, only that it is behind where the log ended before. So from
//! there on no transaction is let in until it is known; and none behind it, until the rows are read.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tributary_runtime::{Error, ResultExt};

use super::gate::Stage;
use crate::change::watermark::WATERMARK_PREFIX;
use crate::failpoint;
use crate::log::table_topic::{Registrar, TableTopic};
use crate::run::session::Session;
use crate::snapshot::beside::Task;
use crate::snapshot::relations::{Relation, relations};
use tributary_postgres::catalog::{Catalog, CatalogTable};
use tributary_postgres::database::Database;
use tributary_postgres::quote::literal;
use tributary_postgres::replication::ReplicationConnection;
use tributary_postgres::rows::ONE_SCAN;
use tributary_postgres::slot::{Awaited, Reminder, SlotCreation};

/// A table without a key that is to be read.
pub(super) struct Keyless {
    pub(super) table: String,
    stage: watch::Receiver<Stage>,
    pub(super) preparing: Option<JoinHandle<Result<Option<Prepared>, Error>>>,
    pub(super) prepared: Option<Prepared>,
}

/// What a preparation comes to.
pub(super) enum Preparing {
    /// It is at another [`Stage`].
    Further,
    /// The snapshot is there.
    Ready,
    /// The table is dropped, or has another name.
    Gone,
    Failed(Error),
}

/// A transaction that sees all that was committed before a place in the WAL, and nothing behind it.
pub(super) struct Prepared {
    pub(super) client: tributary_postgres::client::Client,
    pub(super) table: TableTopic,
    /// As the snapshot has them.
    pub(super) relations: Vec<Relation>,
}

impl Keyless {
    pub(super) fn start(session: &Session, task: Task) -> Self {
        let (sender, stage) = watch::channel(Stage::Describing);
        let table = task.known.table.clone();
        let preparation = Preparation {
            database: session.database.clone(),
            registrar: Arc::clone(&session.registrar),
            plugin: session.config.postgres.plugin.name(),
            task,
            stage: sender,
        };
        Self {
            table,
            stage,
            preparing: Some(tokio::spawn(preparation.run())),
            prepared: None,
        }
    }

    /// Waits until the preparation gets further; never ready behind its end. Cancel safe.
    pub(super) async fn next(&mut self) -> Preparing {
        let Some(preparing) = &mut self.preparing else {
            return std::future::pending().await;
        };
        let prepared = tokio::select! {
            Ok(()) = self.stage.changed() => return Preparing::Further,
            prepared = preparing => prepared,
        };
        self.preparing = None;
        match prepared.map_err(Error::retry).flatten() {
            Ok(Some(prepared)) => {
                self.prepared = Some(prepared);
                Preparing::Ready
            }
            Ok(None) => Preparing::Gone,
            Err(error) => Preparing::Failed(error),
        }
    }

    /// How far it is, at this moment.
    pub(super) fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// Whether the snapshot is there.
    pub(super) const fn is_prepared(&self) -> bool {
        self.prepared.is_some()
    }
}

impl Drop for Keyless {
    fn drop(&mut self) {
        if let Some(preparing) = &self.preparing {
            preparing.abort();
        }
    }
}

/// On its way to a [`Prepared`].
struct Preparation {
    database: Database,
    registrar: Arc<Registrar>,
    plugin: &'static str,
    task: Task,
    stage: watch::Sender<Stage>,
}

impl Preparation {
    /// Returns `None` if the table is gone.
    async fn run(self) -> Result<Option<Prepared>, Error> {
        if self.task.snapshot.filter.is_some() {
            tracing::warn!(
                table = self.task.known.table,
                "the table has no key: its rows cannot be told apart, so all of them are read"
            );
        }
        let (client, other) = (
            self.database.connect().await?,
            self.database.connect().await?,
        );
        let Some(described) = self.describe(&other).await? else {
            return Ok(None);
        };
        let known = Some(&self.task.known);
        let published = self.registrar.publish(described.table.clone(), known);
        let table = published.await?;
        let slot = format!("tributary_{}", crate::change::origin::now_ns());
        let (snapshot, _slot) = self.create_slot(&other, &slot).await?;
        // From here on the stream waits.
        failpoint::pause(failpoint::KEYLESS_SNAPSHOT, String::new).await;
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}; {ONE_SCAN}",
            literal(&snapshot)
        );
        let explain = |error| self.database.explain(error);
        client.batch_execute(&begin).await.map_err(explain)?;
        // What has changed by now need not be waited for. What changes later is found when a relation is read.
        if self.describe(&other).await? != Some(described) {
            return Err(Error::retry_msg(
                "the table has changed while its snapshot began",
            ));
        }
        let relations = relations(&client, self.task.known.oid)
            .await
            .map_err(explain)?;
        // So that the stream comes there soon, also where nobody else writes. A commit that waits for a standby would
        // not come before that, and it may be our confirmation that is waited for.
        let wake = format!(
            "SET synchronous_commit = local;
            SELECT pg_catalog.pg_logical_emit_message(true, '{WATERMARK_PREFIX}', '{slot}')"
        );
        let woken = other.batch_execute(&wake).await;
        woken.map_err(|error| self.database.explain(error))?;
        Ok(Some(Prepared {
            client,
            table,
            relations,
        }))
    }

    /// The table as the catalog has it now; `None` if it is gone. Under another name it has another topic.
    async fn describe(&self, client: &Client) -> Result<Option<CatalogTable>, Error> {
        let known = &self.task.known;
        let found = Catalog::new(client, &self.database)
            .table(known.oid)
            .await?;
        Ok(found.filter(|found| found.display_name() == known.table))
    }

    /// Creates a temporary slot. Returns the name of its snapshot, and the connection with which both go.
    async fn create_slot(
        &self,
        client: &Client,
        slot: &str,
    ) -> Result<(String, ReplicationConnection), Error> {
        let mut connection = self.database.connect_replication().await?;
        let since = self.database.insert_lsn(client).await?;
        self.stage.send_replace(Stage::Creating(since));
        let creation = SlotCreation {
            client,
            name: slot,
            plugin: self.plugin,
            temporary: true,
        };
        let mut reminder = Reminder::default();
        let told = |awaited: &Awaited| {
            if reminder.is_due(awaited) {
                let table = &self.task.known.table;
                tracing::warn!(
                    table,
                    "the slot to read the table under waits for {awaited}"
                );
            }
        };
        let created = creation
            .run(&mut connection, told)
            .await
            .map_err(|error| self.database.explain_replication(error))
            .doing(|| "create a temporary slot")?;
        self.stage
            .send_replace(Stage::Created(created.consistent_point));
        Ok((created.snapshot_name, connection))
    }
}
