//! The start order: slot, producer, progress, comparison, stream.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;
use tributary_runtime::cli::Context;
use tributary_runtime::{Error, ResultExt};
use tributary_schemas::Lsn;

use crate::catalog::{Catalog, CatalogTable, server_facts};
use crate::config::SourceConfig;
use crate::database::Database;
use crate::progress::{Position, Progress};
use crate::publication::{Publication, Slot, publications};
use crate::published::{Registrar, topic_spec};
use crate::publisher::Publisher;
use crate::replication::{ReplicationConnection, ReplicationStream, SystemIdentity};
use crate::topics::{Cleanup, TopicSpec, Topics};
use crate::wal2json::limits;
use crate::{decoder, failpoint, first_start, membership, progress_topic, streaming};

/// How often the server hears from us. It gives a silent client up after `wal_sender_timeout`.
pub(crate) const STATUS_INTERVAL: Duration = Duration::from_secs(2);

/// What every step of a session needs.
pub(crate) struct Session {
    pub(crate) config: Arc<SourceConfig>,
    pub(crate) database: Database,
    pub(crate) client: Client,
    pub(crate) registrar: Arc<Registrar>,
    pub(crate) tables: Vec<CatalogTable>,
    publication_names: String,
}

/// A slot that we hold, a producer that has fenced all others, and the progress that both agree on.
pub(crate) struct Begun {
    pub(crate) stream: ReplicationStream,
    pub(crate) publisher: Publisher,
    pub(crate) progress: Progress,
}

/// Runs from the start order to the orderly end at shutdown.
///
/// # Errors
/// Whatever ends a session. With a retry policy a new one may begin: all that counts is in the log.
pub(crate) async fn run(config: &Arc<SourceConfig>, context: &Context) -> Result<(), Error> {
    metrics::counter!(crate::telemetry::SESSIONS).increment(1);
    context.health.set_phase("connecting");
    let mut session = Session::prepare(config).await?;
    let begun = tokio::select! {
        begun = session.begin(context) => begun?,
        () = context.shutdown.cancelled() => return Ok(()),
    };
    streaming::run(session, begun, context).await
}

impl Session {
    /// Everything that needs neither slot nor producer.
    async fn prepare(config: &Arc<SourceConfig>) -> Result<Self, Error> {
        let database = Database::new(config).map_err(Error::stop)?;
        let client = database.connect().await?;
        if let Some(problem) = server_problems(&client, &database)
            .await?
            .into_iter()
            .next()
        {
            return Err(problem);
        }
        let selection = Catalog::new(&client, &database).select(config).await?;
        for problem in selection.problems() {
            tracing::warn!(%problem, "a table is left out");
        }
        // Later a table that cannot be had must not keep the others from going on.
        let first = Slot::read(&client, &database, &config.slot_name())
            .await?
            .is_none();
        if first {
            selection.require()?;
        }
        if let Some(problem) = limits::problems(config, &client, &database, &selection.tables)
            .await?
            .into_iter()
            .next()
        {
            return Err(problem);
        }
        let publications = publications(&selection.tables, config);
        for publication in &publications {
            publication.ensure(&client, &database).await?;
        }
        membership::put_right(&client, &database, config, &selection, first).await?;
        let publication_names = names(&publications);
        let registrar = Arc::new(Registrar::new(Arc::clone(config), database.name())?);
        Ok(Self {
            config: Arc::clone(config),
            database,
            client,
            registrar,
            tables: selection.tables,
            publication_names,
        })
    }

    async fn begin(&mut self, context: &Context) -> Result<Begun, Error> {
        match Slot::read(&self.client, &self.database, &self.config.slot_name()).await? {
            Some(slot) => self.resume(&slot, context).await,
            None => self.begin_without_slot(context).await,
        }
    }

    /// There is a slot: holding it comes first. An instance that waits for it must not touch the producer,
    /// which would fence the healthy one.
    async fn resume(&mut self, slot: &Slot, context: &Context) -> Result<Begun, Error> {
        let name = self.config.slot_name();
        slot.usable(&name, self.config.postgres.plugin, &self.database)?;
        context.health.set_phase("waiting for the slot");
        let (identity, connection) = self.connect_replication().await?;
        let mut stream = self.start_replication(connection, Lsn::ZERO).await?;
        let taken = async {
            self.ensure_topics().await?;
            let publisher = Publisher::start(&self.config).await?;
            failpoint::hit(failpoint::TAKEN_OVER);
            Ok((publisher, self.read_progress().await?))
        };
        let (publisher, progress) =
            keep_alive(&mut stream, &self.database, Lsn::ZERO, taken).await?;
        match progress {
            None => Err(Error::stop_msg(format!(
                "slot '{name}' exists, but topic '{}' has no progress of source '{}': what is in the topics is unknown",
                self.config.progress_topic(),
                self.config.name
            ))
            .remedy(format!("restore the topic; or drop the slot (SELECT pg_drop_replication_slot('{name}')) and start over with a new kafka.topic_prefix"))),
            Some(mut progress) if !progress.has_begun() => {
                // Killed behind the slot's creation and before the first rows: its snapshot is gone, but the
                // slot still stands where it began.
                tracing::warn!(slot = name, "the first snapshot had not begun: its rows are read beside the stream");
                let consistent = slot.confirmed_flush.unwrap_or(Lsn::ZERO);
                let seq = (progress.position.seq + 1).max(consistent.0);
                progress.position = Position::at_consistent_point(consistent, seq);
                Ok(Begun { stream, publisher, progress })
            }
            Some(progress) => {
                self.agree(slot, &identity, &progress)?;
                Ok(Begun { stream, publisher, progress })
            }
        }
    }

    /// There is no slot: a first start, or a slot that was lost.
    async fn begin_without_slot(&mut self, context: &Context) -> Result<Begun, Error> {
        self.ensure_topics().await?;
        let publisher = Publisher::start(&self.config).await?;
        failpoint::hit(failpoint::TAKEN_OVER);
        let progress = self.read_progress().await?;
        if let Some(progress) = progress.as_ref().filter(|progress| progress.has_begun()) {
            return Err(Error::stop_msg(format!(
                "slot '{}' is gone: the changes behind {} are not in the topics and cannot be read any more",
                self.config.slot_name(),
                progress.position.confirm
            ))
            .remedy("start over with a new kafka.topic_prefix, which takes a new snapshot"));
        }
        context.health.set_phase("snapshot");
        first_start::run(self, publisher, progress).await
    }

    /// Whether slot and progress belong together and nothing lies between them.
    fn agree(
        &self,
        slot: &Slot,
        identity: &SystemIdentity,
        progress: &Progress,
    ) -> Result<(), Error> {
        let start_over = "start over with a new kafka.topic_prefix, which takes a new snapshot";
        if identity.system_id != progress.system_id {
            return Err(Error::stop_msg(format!(
                "{} is another server (system identifier {}) than the one that progress speaks of ({})",
                self.database.address(),
                identity.system_id,
                progress.system_id
            ))
            .remedy(format!("correct postgres.url, or {start_over}")));
        }
        if identity.timeline != progress.timeline {
            return Err(Error::stop_msg(format!(
                "the server is on timeline {}, progress on {}: a standby was promoted or a backup restored, and changes may be missing",
                identity.timeline, progress.timeline
            ))
            .remedy(start_over));
        }
        match slot.confirmed_flush {
            Some(confirmed) if confirmed > progress.position.confirm => Err(Error::stop_msg(format!(
                "slot '{}' stands at {confirmed}, progress at {}: the changes between are not in the topics",
                self.config.slot_name(),
                progress.position.confirm
            ))
            .remedy(start_over)),
            _ => Ok(()),
        }
    }

    async fn ensure_topics(&self) -> Result<(), Error> {
        Topics::new(&self.config)?
            .ensure(&topic_specs(&self.config, &self.tables)?)
            .await
    }

    async fn read_progress(&self) -> Result<Option<Progress>, Error> {
        let config = Arc::clone(&self.config);
        tokio::task::spawn_blocking(move || progress_topic::read(&config))
            .await
            .map_err(Error::stop)?
    }

    /// A replication connection, and which server it leads to.
    pub(crate) async fn connect_replication(
        &self,
    ) -> Result<(SystemIdentity, ReplicationConnection), Error> {
        let explain = |error| self.database.explain_replication(error);
        let mut connection = ReplicationConnection::connect(&self.database.replication())
            .await
            .map_err(explain)?;
        let identity = connection.identify_system().await.map_err(explain)?;
        Ok((identity, connection))
    }

    /// Starts the stream: from now on we hold the slot.
    pub(crate) async fn start_replication(
        &self,
        connection: ReplicationConnection,
        from: Lsn,
    ) -> Result<ReplicationStream, Error> {
        let options = decoder::stream_options(&self.config, &self.publication_names);
        let options: Vec<_> = options.iter().map(|(k, v)| (*k, v.as_str())).collect();
        connection
            .start_replication(&self.config.slot_name(), from, &options)
            .await
            .map_err(|error| self.database.explain_replication(error))
    }
}

/// The publications as the option `publication_names` wants them.
fn names(publications: &[Publication<'_>]) -> String {
    let quoted = publications
        .iter()
        .map(|publication| crate::database::identifier(&publication.name));
    quoted.collect::<Vec<_>>().join(",")
}

/// All topics of a source: one per table, progress, and signals.
pub(crate) fn topic_specs(
    config: &SourceConfig,
    tables: &[CatalogTable],
) -> Result<Vec<TopicSpec>, Error> {
    let progress = TopicSpec {
        name: config.progress_topic(),
        partitions: 1,
        cleanup: Cleanup::Compact,
    };
    let signals = TopicSpec {
        name: config.signals_topic(),
        partitions: 1,
        cleanup: Cleanup::Expire,
    };
    [Ok(progress), Ok(signals)]
        .into_iter()
        .chain(tables.iter().map(|table| topic_spec(config, table)))
        .collect()
}

/// What about the server keeps a source from running.
pub(crate) async fn server_problems(
    client: &Client,
    database: &Database,
) -> Result<Vec<Error>, Error> {
    let facts = server_facts(client)
        .await
        .map_err(|e| database.explain(e))
        .doing(|| "ask the server for its settings")?;
    let mut problems = Vec::new();
    if facts.version_num < 140_000 {
        problems.push(
            Error::stop_msg(format!(
                "PostgreSQL {} is too old",
                facts.version_num / 10_000
            ))
            .remedy("upgrade to 14 or later"),
        );
    }
    if facts.wal_level != "logical" {
        problems.push(
            Error::stop_msg(format!(
                "wal_level is '{}' on {}",
                facts.wal_level,
                database.address()
            ))
            .remedy("ALTER SYSTEM SET wal_level = 'logical', then restart the server"),
        );
    }
    if !facts.may_replicate {
        let user = database.user();
        problems.push(
            Error::stop_msg(format!("user '{user}' lacks the attribute REPLICATION")).remedy(
                format!(
                    "ALTER ROLE {} REPLICATION",
                    crate::database::identifier(user)
                ),
            ),
        );
    }
    if facts.in_recovery {
        problems.push(
            Error::stop_msg(format!("{} is a standby", database.address()))
                .remedy("let postgres.url name the primary"),
        );
    }
    Ok(problems)
}

/// Runs `work` while the server keeps hearing from us, confirming nothing but `confirmed`.
pub(crate) async fn keep_alive<T>(
    stream: &mut ReplicationStream,
    database: &Database,
    confirmed: Lsn,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let mut work = std::pin::pin!(work);
    let mut tick = tokio::time::interval(STATUS_INTERVAL);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = tick.tick() => {
                let sent = stream.send_status(confirmed, confirmed, confirmed, false).await;
                sent.map_err(|error| database.explain_replication(error))?;
            }
        }
    }
}
