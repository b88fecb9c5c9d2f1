//! The rows of a table without a key, read while the stream stands still.
//!
//! Without a key, rows that were read cannot be merged with those that the stream changes. So they are read
//! under the snapshot of a temporary slot, and the stream waits where that snapshot was taken: all that came
//! before is gone from the log, then all rows enter it, then the stream goes on.
//!
//! None of this begins while the stream is farther behind than the snapshot may be held: it would be held until the stream
//! comes there, and the server's clean-up with it.
//!
//! Where that will be is not known before the slot is there, only that it is behind where the log ended before. So from
//! there on no transaction is let in until it is known; and none behind it, until the rows are read.

use std::sync::Arc;

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tributary_runtime::{Error, ResultExt};
use tributary_schemas::Lsn;

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

/// How long the snapshot is held for the stream to come to it. The stream is near the end of the WAL if it comes within this
/// time to where that was: one that is steadily behind by less is in time for the snapshot, too.
const MAX_AHEAD: Duration = Duration::from_secs(60);

/// The stream is too far behind for the rows of any table without a key.
#[derive(Debug, thiserror::Error)]
pub(super) enum Behind {
    #[error(
        "the stream is more than {} s behind, and a snapshot would be held for as long",
        MAX_AHEAD.as_secs()
    )]
    Far,
    #[error("the stream does not come to the place of its snapshot in time")]
    Late,
}

/// A table without a key that is to be read.
pub(super) struct Keyless {
    pub(super) table: String,
    stage: watch::Receiver<Stage>,
    /// How far the stream is.
    passed: watch::Sender<Lsn>,
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
    since: Instant,
}

impl Keyless {
    pub(super) fn start(session: &Session, task: Task) -> Self {
        let (sender, stage) = watch::channel(Stage::Describing);
        let (passed, told) = watch::channel(Lsn::ZERO);
        let table = task.known.table.clone();
        let preparation = Preparation {
            database: session.database.clone(),
            registrar: Arc::clone(&session.registrar),
            plugin: session.config.postgres.plugin.name(),
            task,
            stage: sender,
            passed: told,
        };
        Self {
            table,
            stage,
            passed,
            preparing: Some(tokio::spawn(preparation.run())),
            prepared: None,
        }
    }

    /// The stream has come to here.
    pub(super) fn passes(&self, place: Lsn) {
        self.passed.send_if_modified(|passed| {
            let is_further = place > *passed;
            *passed = place.max(*passed);
            is_further
        });
    }

    /// Waits until the preparation gets further, or the snapshot is held for too long. Cancel safe.
    pub(super) async fn next(&mut self) -> Preparing {
        let Some(preparing) = &mut self.preparing else {
            return self.outlived().await;
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

    async fn outlived(&self) -> Preparing {
        let Some(prepared) = &self.prepared else {
            return std::future::pending().await;
        };
        tokio::time::sleep_until((prepared.since + MAX_AHEAD).into()).await;
        Preparing::Failed(Error::retry(Behind::Late))
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
    passed: watch::Receiver<Lsn>,
}

impl Preparation {
    /// Returns `None` if the table is gone.
    async fn run(mut self) -> Result<Option<Prepared>, Error> {
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
        self.come_near(&other).await?;
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
        // So that the stream comes there soon, also where nobody else writes.
        self.mark(&other).await?;
        Ok(Some(Prepared {
            client,
            table,
            relations,
            since: Instant::now(),
        }))
    }

    /// Makes sure that the stream is near the end of the WAL.
    async fn come_near(&mut self, client: &Client) -> Result<(), Error> {
        let mark = self.mark(client).await?;
        let comes = self.passed.wait_for(|passed| *passed >= mark);
        match tokio::time::timeout(MAX_AHEAD, comes).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(closed)) => Err(Error::retry(closed)),
            Err(_) => Err(Error::retry(Behind::Far)),
        }
    }

    /// Puts a mark into the WAL, so that the stream gets something there. Returns its place.
    async fn mark(&self, client: &Client) -> Result<Lsn, Error> {
        // A commit that waits for a standby would not come before that, and it may be our confirmation that is waited for.
        let local = client.batch_execute("SET synchronous_commit = local").await;
        local.map_err(|error| self.database.explain(error))?;
        let emit = format!(
            "SELECT pg_catalog.pg_logical_emit_message(true, '{WATERMARK_PREFIX}', 'keyless')::text"
        );
        let row = client.query_one(&emit, &[]).await;
        let row = row.map_err(|error| self.database.explain(error))?;
        row.get::<_, &str>(0).parse().map_err(Error::stop)
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
