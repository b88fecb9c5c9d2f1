//! A session: the start order, and then the stream.

mod start;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_postgres::Client;
use tributary_runtime::cli::Context;
use tributary_runtime::{Error, ResultExt};
use tributary_schemas::Lsn;

use crate::catalog::{Catalog, CatalogTable, server_facts};
use crate::config::SourceConfig;
use crate::database::{Database, NO_TRANSACTION_TIMEOUT};
use crate::decoder::limits;
use crate::membership::Members;
use crate::metadata::MetadataTopics;
use crate::progress::Progress;
use crate::publication::{Publication, publications};
use crate::published::{Registrar, topic_spec};
use crate::publisher::Publisher;
use crate::replication::{ReplicationConnection, ReplicationStream, SystemIdentity};
use crate::slot::Slot;
use crate::snapshot::Throttle;
use crate::spool::StreamingSwitch;
use crate::status::Monitor;
use crate::topics::{Cleanup, TopicSpec};
use crate::{decoder, publication, streaming};

/// How often the server hears from us. It gives a silent client up after `wal_sender_timeout`.
pub(crate) const STATUS_INTERVAL: Duration = Duration::from_secs(2);

/// What every step of a session needs.
pub(crate) struct Session {
    pub(crate) config: Arc<SourceConfig>,
    pub(crate) database: Database,
    pub(crate) client: Client,
    pub(crate) registrar: Arc<Registrar>,
    pub(crate) tables: Vec<CatalogTable>,
    pub(crate) monitor: Arc<Monitor>,
    /// How fast snapshots are read.
    pub(crate) throttle: Arc<Throttle>,
    pub(crate) metadata: Arc<MetadataTopics>,
    pub(crate) streaming: StreamingSwitch,
    /// Where these tables are in the publications.
    pub(crate) members: Members,
    publication_names: String,
    /// A publication that is not there, or was not there where the stream stands.
    publication_gone: Option<String>,
    /// See [`Carried`].
    adopt: Arc<AtomicBool>,
    /// The end of the server's WAL when the session began.
    wal_end: Lsn,
}

/// What a session leaves to the next one of the process.
#[derive(Debug)]
pub(crate) struct Carried {
    /// Somebody has told us to go on where we would stop. Holds until a session's stream has come to where the WAL ended
    /// when the session began: only the stream finds that a publication was not there for a while.
    adopt: Arc<AtomicBool>,
    /// The stream has come to a place at which this publication did not exist.
    publication_gone: Option<String>,
}

impl Carried {
    pub(crate) fn new(adopt: bool) -> Self {
        Self {
            adopt: Arc::new(AtomicBool::new(adopt)),
            publication_gone: None,
        }
    }

    /// Takes over what the end of a session tells the next one.
    pub(crate) fn take_over(&mut self, ended: &Error, config: &SourceConfig) {
        if let Some(publication) = publication::spoken_of(ended, config) {
            self.publication_gone = Some(publication);
        }
    }
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
/// Whatever ends a session. With a retry policy a new one may begin: all that counts is in the log, or in `carried`.
pub(crate) async fn run(
    config: &Arc<SourceConfig>,
    monitor: &Arc<Monitor>,
    streaming: &StreamingSwitch,
    context: &Context,
    carried: &mut Carried,
) -> Result<(), Error> {
    metrics::counter!(crate::telemetry::SESSIONS).increment(1);
    context.health.set_phase("connecting");
    let mut session = tokio::select! {
        session = Session::prepare(config, monitor, streaming, carried) => session?,
        () = context.shutdown.cancelled() => return Ok(()),
    };
    let begun = tokio::select! {
        begun = session.begin(context) => begun?,
        () = context.shutdown.cancelled() => return Ok(()),
    };
    // The slot is a new one.
    carried.publication_gone = None;
    Box::pin(streaming::run(session, begun, context)).await
}

impl Session {
    /// Everything that needs neither slot nor producer.
    async fn prepare(
        config: &Arc<SourceConfig>,
        monitor: &Arc<Monitor>,
        streaming: &StreamingSwitch,
        carried: &Carried,
    ) -> Result<Self, Error> {
        let (database, client) = Database::new(config)
            .map_err(Error::stop)?
            .primary()
            .await?;
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
        for pattern in config.unused_column_patterns(&selection.tables) {
            tracing::warn!(pattern, "an entry of [[columns]] matches no column");
        }
        let (members, gone) =
            publication::put_right(&client, &database, config, &selection, !first).await?;
        let publication_names = names(&publications(&selection.tables, config));
        let wal_end = database.flush_lsn(&client).await?;
        let registrar = Arc::new(Registrar::new(Arc::clone(config), database.name())?);
        let metadata = Arc::new(MetadataTopics::prepare(config, &registrar).await?);
        Ok(Self {
            config: Arc::clone(config),
            database,
            client,
            registrar,
            tables: selection.tables,
            monitor: Arc::clone(monitor),
            throttle: Arc::new(Throttle::new(config.snapshot.max_rows_per_second)),
            metadata,
            streaming: streaming.clone(),
            members,
            publication_names,
            publication_gone: gone.or_else(|| carried.publication_gone.clone()),
            adopt: Arc::clone(&carried.adopt),
            wal_end,
        })
    }

    /// How far the stream has come.
    pub(crate) fn caught_up_to(&self, received: Lsn) {
        if received >= self.wal_end {
            self.adopt.store(false, Ordering::Relaxed);
        }
    }

    fn adopts(&self) -> bool {
        self.adopt.load(Ordering::Relaxed)
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
        // Of the connection that will stream: since PG 16 a standby decodes as well, and the host may have become one.
        let recovery = "SELECT pg_catalog.pg_is_in_recovery()";
        let recovery = connection.simple_query(recovery).await.map_err(explain)?;
        let set = connection.simple_query(NO_TRANSACTION_TIMEOUT).await;
        set.map_err(explain)?;
        match recovery.first().and_then(|row| row.first()) {
            Some(Some(no)) if no == "f" => Ok((identity, connection)),
            _ => Err(Error::retry_msg(format!(
                "{} is a standby, which is never streamed from",
                self.database.address()
            ))),
        }
    }

    /// Starts the stream: from now on we hold the slot.
    pub(crate) async fn start_replication(
        &self,
        connection: ReplicationConnection,
        from: Lsn,
    ) -> Result<ReplicationStream, Error> {
        let options = decoder::stream_options(
            &self.config,
            &self.publication_names,
            self.streaming.is_on(),
        );
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
    let letters = config.dead_letter_topic().map(|name| TopicSpec {
        name,
        partitions: 1,
        cleanup: Cleanup::KeepLarge,
    });
    [Ok(progress), Ok(signals)]
        .into_iter()
        .chain(MetadataTopics::specs(config).into_iter().map(Ok))
        .chain(letters.map(Ok))
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
            Error::retry_msg(format!("{} is a standby", database.address()))
                .remedy("let postgres.url name the primary, or all servers of the cluster (postgres://user@a:5432,b:5432/database)"),
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
                send_status(stream, database, (confirmed, confirmed), false).await?;
            }
        }
    }
}

/// Tells the server what was received and what is confirmed.
///
/// # Errors
/// The stream has ended: with the reason that the server gave, if it gave one.
pub(crate) async fn send_status(
    stream: &mut ReplicationStream,
    database: &Database,
    (received, confirmed): (Lsn, Lsn),
    ask: bool,
) -> Result<(), Error> {
    let sent = stream
        .send_status(received, confirmed, confirmed, ask)
        .await;
    let Err(error) = sent else { return Ok(()) };
    let error = Box::pin(stream.last_words()).await.unwrap_or(error);
    Err(database.explain_stream(error))
}
