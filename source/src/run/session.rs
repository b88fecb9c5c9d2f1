//! A session: the start order, and then the stream.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tributary_runtime::Error;
use tributary_runtime::health::Health;
use tributary_schemas::Lsn;

use crate::change::relation::Resolver;
use crate::change::watermark::WATERMARK_PREFIX;
use crate::config::SourceConfig;
use crate::log::claims::Claims;
use crate::log::metadata::MetadataTopics;
use crate::log::progress::{Followed, Progress};
use crate::log::publisher::{Publisher, WentBack};
use crate::log::table_topic::Registrar;
use crate::run::hold::{self, Waiting};
use crate::run::selection::{self, OtherSelection};
use crate::run::status::Monitor;
use crate::snapshot::throttle::Throttle;
use tributary_postgres::catalog::{Catalog, CatalogTable};
use tributary_postgres::client::Client;
use tributary_postgres::database::Database;
use tributary_postgres::decoder::StreamRequest;
use tributary_postgres::decoder::limits;
use tributary_postgres::plugin::Plugin;
use tributary_postgres::publication;
use tributary_postgres::publication::Members;
use tributary_postgres::publication::{Publication, publications};
use tributary_postgres::replication::{ReplicationConnection, ReplicationStream, SystemIdentity};
use tributary_postgres::server;
use tributary_postgres::slot::Slot;
use tributary_postgres::spool::StreamingSwitch;

/// How often the server hears from us. It gives a silent client up after `wal_sender_timeout`.
pub(crate) const STATUS_INTERVAL: Duration = Duration::from_secs(2);

/// What every step of a session needs.
pub(crate) struct Session {
    pub(crate) config: Arc<SourceConfig>,
    pub(crate) database: Database,
    pub(crate) client: Client,
    pub(crate) registrar: Arc<Registrar>,
    pub(crate) claims: Claims,
    pub(crate) tables: Vec<CatalogTable>,
    pub(crate) monitor: Arc<Monitor>,
    pub(crate) health: Health,
    /// How fast snapshots are read.
    pub(crate) throttle: Arc<Throttle>,
    pub(crate) metadata: Arc<MetadataTopics>,
    pub(crate) streaming: StreamingSwitch,
    /// Where these tables are in the publications.
    pub(crate) members: Members,
    publication_names: String,
    /// A publication that is not there, or was not there where the stream stands.
    pub(super) publication_gone: Option<String>,
    /// Topics that have lost what they had acknowledged to the session before.
    pub(super) lost_records: BTreeSet<String>,
    /// What the stream is asked for instead of the configuration's `postgres.tables`: see [`super::selection`].
    pub(super) selection: Option<Vec<String>>,
    /// See [`Carried`].
    adopt: Arc<AtomicBool>,
    /// The end of the server's WAL when the session began, or when it got the slot.
    wal_end: Lsn,
}

/// What a session leaves to the next one of the process.
#[derive(Debug)]
pub(crate) struct Carried {
    /// Somebody has told us to go on where we would stop. Holds until a session's stream has come to where the WAL ended
    /// when the session began: only the stream finds that a publication was not there for a while.
    adopt: Arc<AtomicBool>,
    /// The stream has come to a place at which this publication did not exist.
    pub(super) publication_gone: Option<String>,
    /// The topics of which a session has noticed that they have lost records.
    pub(super) lost_records: BTreeSet<String>,
    /// What the next session asks for instead of the configuration's `postgres.tables`.
    selection: Option<Vec<String>>,
    pub(super) waiting: Waiting,
}

impl Carried {
    pub(crate) fn new(adopt: bool) -> Self {
        Self {
            adopt: Arc::new(AtomicBool::new(adopt)),
            publication_gone: None,
            lost_records: BTreeSet::new(),
            selection: None,
            waiting: Waiting::default(),
        }
    }

    /// Takes over what the end of a session tells the next one.
    pub(crate) fn take_over(&mut self, ended: &Error, config: &SourceConfig) {
        if let Some(publication) = publication::spoken_of(ended, &config.publications()) {
            self.publication_gone = Some(publication);
        }
        if let Some(back) = ended.cause().downcast_ref::<WentBack>() {
            self.lost_records.insert(back.topic.clone());
        }
        // Whatever else has ended the session, the next one finds it again.
        let other = ended.cause().downcast_ref::<OtherSelection>();
        self.selection = other.and_then(|other| other.0.clone());
    }
}

/// A slot that we hold, a producer that has fenced all others, and the progress that both agree on.
pub(crate) struct Begun {
    pub(crate) stream: ReplicationStream,
    pub(crate) publisher: Publisher,
    pub(crate) progress: Progress,
}

impl Session {
    /// Everything that needs neither slot nor producer.
    pub(super) async fn prepare(
        config: &Arc<SourceConfig>,
        monitor: &Arc<Monitor>,
        health: &Health,
        streaming: &StreamingSwitch,
        carried: &mut Carried,
    ) -> Result<Self, Error> {
        let (database, client) = config.database().map_err(Error::stop)?.primary().await?;
        none(server::problems(&client, &database).await?)?;
        // Before all that costs the server more than a look at the slot.
        let waiting = &mut carried.waiting;
        let slot = hold::wait_until_free(&client, &database, config, health, waiting).await?;
        health.set_phase("starting");
        let selection = Catalog::new(&client, &database)
            .select(&config.wanted())
            .await?;
        for problem in selection.problems() {
            tracing::warn!(%problem, "a table is left out");
        }
        // Later a table that cannot be had must not keep the others from going on.
        let first = slot.is_none();
        if first {
            selection.require()?;
        }
        let (plugin, tables) = (config.postgres.plugin, &selection.tables);
        none(limits::problems(plugin, &client, &database, tables).await?)?;
        for pattern in config.unused_column_patterns(&selection.tables) {
            tracing::warn!(pattern, "an entry of [[columns]] matches no column");
        }
        for pattern in config.unused_table_patterns(&selection.tables) {
            tracing::warn!(
                pattern,
                "an entry of [[tables]], or of --on-type-change, matches no table"
            );
        }
        let (members, gone) = publication::put_right(
            &client,
            &database,
            &config.publications(),
            &selection,
            !first,
        )
        .await?;
        let publication_names = names(&publications(&selection.tables, &config.publications()));
        let wal_end = database.flush_lsn(&client).await?;
        let registrar = Arc::new(Registrar::new(Arc::clone(config), database.name())?);
        let metadata = Arc::new(MetadataTopics::prepare(config, &registrar).await?);
        Ok(Self {
            config: Arc::clone(config),
            database,
            client,
            registrar,
            claims: Claims::new(Arc::clone(config)),
            tables: selection.tables,
            monitor: Arc::clone(monitor),
            health: health.clone(),
            throttle: Arc::new(Throttle::new(config.snapshot.max_rows_per_second)),
            metadata,
            streaming: streaming.clone(),
            members,
            publication_names,
            publication_gone: gone.or_else(|| carried.publication_gone.clone()),
            lost_records: carried.lost_records.clone(),
            selection: carried.selection.clone(),
            adopt: Arc::clone(&carried.adopt),
            wal_end,
        })
    }

    /// What is remembered of a table that is followed from now on.
    pub(crate) fn follow(&self, table: &CatalogTable, followed: &mut Followed) {
        let place = self.members.place(table, &self.config.publications());
        followed.place(place.unwrap_or_default(), table);
    }

    /// The entries of `postgres.tables` that the stream is asked for by; none where they do not choose what comes.
    pub(super) fn asked_for(&self) -> Option<Vec<String>> {
        let is_asked_by = self.config.postgres.plugin == Plugin::Wal2json;
        is_asked_by.then(|| self.stream_tables().to_vec())
    }

    fn stream_tables(&self) -> &[String] {
        let configured = &self.config.postgres.tables;
        self.selection.as_ref().unwrap_or(configured)
    }

    /// Makes sure that the stream was asked for as it has to be from this progress on; none where it begins anew.
    ///
    /// # Errors
    /// [`OtherSelection`]
    pub(super) fn asked_rightly(&self, goes_on: Option<&Progress>) -> Result<(), Error> {
        let needed = selection::needed(goes_on, &self.config.postgres.tables);
        if needed == self.selection.as_deref() {
            return Ok(());
        }
        let needed = needed.map(<[String]>::to_vec);
        Err(Error::retry(OtherSelection(needed)))
    }

    /// How far the stream has come.
    pub(crate) fn caught_up_to(&self, received: Lsn) {
        if received >= self.wal_end {
            self.adopt.store(false, Ordering::Relaxed);
        }
    }

    /// Asks anew, now that we hold the slot, what progress is compared with: the slot, and the end of the server's WAL.
    /// Until just now another instance may have streamed, and what it has published and confirmed meanwhile would look
    /// like a gap. The timeline cannot change while the connection lasts.
    pub(super) async fn look_behind_the_slot(
        &mut self,
        identity: &mut SystemIdentity,
    ) -> Result<Slot, Error> {
        identity.xlogpos = self.database.flush_lsn(&self.client).await?;
        self.wal_end = identity.xlogpos;
        let name = self.config.slot_name();
        let slot = Slot::read(&self.client, &self.database, &name).await?;
        slot.ok_or_else(|| Error::retry_msg(format!("slot '{name}' is not there any more")))
    }

    /// Whether somebody has told us to go on where we would stop.
    pub(super) fn adopts(&self) -> bool {
        self.adopt.load(Ordering::Relaxed)
    }

    /// What turns Relation messages into tables.
    pub(crate) fn resolver(&self) -> Resolver<'_> {
        Resolver {
            config: &self.config,
            client: &self.client,
            database: &self.database,
            registrar: &self.registrar,
        }
    }

    /// A replication connection, and which server it leads to.
    pub(crate) async fn connect_replication(
        &self,
    ) -> Result<(SystemIdentity, ReplicationConnection), Error> {
        let explain = |error| self.database.explain_replication(error);
        let mut connection = self.database.connect_replication().await?;
        // Of the connection that will stream: since PG 16 a standby decodes as well, and the host may have become one.
        // First: a standby that is promoted just now would still tell the timeline before.
        let recovery = "SELECT pg_catalog.pg_is_in_recovery()";
        let recovery = connection.simple_query(recovery).await.map_err(explain)?;
        let identity = connection.identify_system().await.map_err(explain)?;
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
        let request = StreamRequest {
            plugin: self.config.postgres.plugin,
            publications: &self.publication_names,
            tables: self.stream_tables(),
            watermark_prefix: WATERMARK_PREFIX,
            streaming: self.streaming.is_on(),
        };
        let options = request.options();
        let options: Vec<_> = options.iter().map(|(k, v)| (*k, v.as_str())).collect();
        connection
            .start_replication(&self.config.slot_name(), from, &options)
            .await
            .map_err(|error| self.database.explain_replication(error))
    }
}

/// Stops with the first problem, if there is one.
fn none(problems: Vec<Error>) -> Result<(), Error> {
    problems.into_iter().next().map_or(Ok(()), Err)
}

/// The publications as the option `publication_names` wants them.
fn names(publications: &[Publication<'_>]) -> String {
    let quoted = publications
        .iter()
        .map(|publication| tributary_postgres::quote::identifier(&publication.name));
    quoted.collect::<Vec<_>>().join(",")
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
