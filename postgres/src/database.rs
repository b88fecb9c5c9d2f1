//! Ordinary connections to the source database.

use std::time::Duration;

use futures::future::join_all;
use tokio_postgres::NoTls;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tributary_runtime::config::Secret;
use tributary_runtime::{Error, Policy};
use tributary_schemas::Lsn;

use crate::client::Client;
use crate::fault::{self, UndefinedObject};
use crate::keepalive::{KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_RETRIES, UNACKNOWLEDGED};
use crate::output_plugins;
use crate::replication::{ReplicationConfig, ReplicationConnection, ReplicationError};

/// Settings that decide how values print, and the time-outs, pinned on every connection of ours, whatever role and
/// database say; `row_security=off` makes a policy that would hide rows an error. Where our host is gone without a word,
/// the server finds out by its keepalives.
const PINNED: &str = "-c DateStyle=ISO -c IntervalStyle=postgres -c TimeZone=UTC -c extra_float_digits=3 \
    -c bytea_output=hex -c lc_monetary=C -c search_path= -c row_security=off -c statement_timeout=0 -c lock_timeout=0 \
    -c idle_session_timeout=0 -c idle_in_transaction_session_timeout=0 -c default_transaction_read_only=off \
    -c default_transaction_isolation=read\\ committed -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 \
    -c tcp_keepalives_count=3";

/// What [`PINNED`] cannot have, since a server that does not know it would refuse the connection: `transaction_timeout`
/// is there from 17 on, and not every platform can notice that a client is gone while it makes it wait.
const PINNED_WHERE_KNOWN: &str = "SELECT pg_catalog.set_config('transaction_timeout', '0', false)
    WHERE pg_catalog.current_setting('transaction_timeout', true) IS NOT NULL;
    SELECT pg_catalog.set_config('client_connection_check_interval', '2s', false)
    WHERE pg_catalog.version() ~ 'linux'";

/// How long connecting and logging in may take, where the URL has no `connect_timeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The same for each of several hosts: one that does not answer must not keep us from the next for long.
const CONNECT_TIMEOUT_PER_HOST: Duration = Duration::from_secs(5);
const WAL_SENDER_TIMEOUT_MS: u32 = 10_000;

/// Where the database is and who we are there.
#[derive(Debug, Clone)]
pub struct Database {
    /// The first host, alone; with the others in [`Self::others`] the URL's list.
    config: tokio_postgres::Config,
    others: Vec<tokio_postgres::Config>,
    application: String,
}

/// Why a `postgres.url` cannot be used. Never shows the URL: it may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// It cannot be parsed.
    #[error("not a connection URL")]
    Malformed,
    /// A part is missing: which.
    #[error("it lacks the {0}")]
    Missing(&'static str),
    /// It asks for TLS.
    #[error("TLS (sslmode=require) is not supported by this version")]
    Tls,
    /// It names hosts by `hostaddr`.
    #[error("'hostaddr' is not supported")]
    HostAddress,
    /// It asks for a standby.
    #[error("target_session_attrs=read-only would lead to a standby")]
    ReadOnly,
    /// Neither one port for all hosts, nor one for each.
    #[error("it has {hosts} hosts, but {ports} ports")]
    Ports {
        /// How many hosts it has.
        hosts: usize,
        /// How many ports.
        ports: usize,
    },
}

impl Database {
    /// The database that a `postgres.url` names. `password` is the user's where the URL has none; `application` is
    /// what the server shows of us.
    ///
    /// # Errors
    /// The URL lacks something, or asks for what is not built.
    pub fn new(
        url: &Secret,
        password: Option<&Secret>,
        application: String,
    ) -> Result<Self, UrlError> {
        let mut url: tokio_postgres::Config =
            url.expose().parse().map_err(|_| UrlError::Malformed)?;
        if url.get_user().is_none() {
            return Err(UrlError::Missing("user"));
        }
        if url.get_dbname().is_none() {
            return Err(UrlError::Missing("database"));
        }
        if !url.get_hostaddrs().is_empty() {
            return Err(UrlError::HostAddress);
        }
        if url.get_ssl_mode() == SslMode::Require {
            return Err(UrlError::Tls);
        }
        if url.get_target_session_attrs() == TargetSessionAttrs::ReadOnly {
            return Err(UrlError::ReadOnly);
        }
        if let Some(password) = password {
            url.password(password.expose());
        }
        let mut hosts = each_host(&url, &application)?;
        Ok(Self {
            config: hosts.remove(0),
            others: hosts,
            application,
        })
    }

    /// The database's name.
    pub fn name(&self) -> &str {
        self.config.get_dbname().unwrap_or_default()
    }

    /// The user that we connect as.
    pub fn user(&self) -> &str {
        self.config.get_user().unwrap_or_default()
    }

    /// `host:port/database`, for messages.
    pub fn address(&self) -> String {
        let hosts: Vec<_> = std::iter::once(&self.config)
            .chain(&self.others)
            .map(|config| {
                let (host, port) = host_port(config);
                format!("{host}:{port}")
            })
            .collect();
        format!("{}/{}", hosts.join(","), self.name())
    }

    /// Opens a connection. Of several hosts it is the primary's.
    pub async fn connect(&self) -> Result<Client, Error> {
        self.primary().await.map(|(_, client)| client)
    }

    /// The one host that is no standby, with a connection to it; each host of the URL has its `connect_timeout` to
    /// answer. Of two that take writes, as when a primary of old comes back, it is the one on the later timeline. A
    /// single host is taken as it is.
    ///
    /// # Errors
    /// None of the hosts is a primary that lets us in. A refusal that needs somebody goes before what may pass.
    pub async fn primary(&self) -> Result<(Self, Client), Error> {
        if self.others.is_empty() {
            return Ok((self.clone(), self.open().await?));
        }
        let mut refusals = Vec::new();
        let mut stop = None;
        let mut newest: Option<(i32, Self, Client)> = None;
        let hosts = self.hosts();
        let asked = join_all(hosts.iter().map(Self::open_primary)).await;
        for (host, answer) in hosts.into_iter().zip(asked) {
            match answer {
                Ok((timeline, client)) => {
                    if newest.as_ref().is_none_or(|(known, ..)| *known < timeline) {
                        newest = Some((timeline, host, client));
                    }
                }
                Err(error) if error.policy() == Policy::Stop => stop = stop.or(Some(error)),
                Err(error) => refusals.push(error.to_string()),
            }
        }
        match (newest, stop) {
            (Some((_, host, client)), _) => Ok((host, client)),
            (None, Some(stop)) => Err(stop),
            (None, None) => Err(Error::retry_msg(format!(
                "none of the hosts in postgres.url is a primary: {}",
                refusals.join("; ")
            ))),
        }
    }

    /// Each host of the URL alone.
    pub fn hosts(&self) -> Vec<Self> {
        let hosts = std::iter::once(&self.config).chain(&self.others);
        hosts
            .map(|config| Self {
                config: config.clone(),
                others: Vec::new(),
                application: self.application.clone(),
            })
            .collect()
    }

    /// A connection to this host if it takes writes, and its timeline.
    async fn open_primary(&self) -> Result<(i32, Client), Error> {
        let client = self.open().await?;
        // The first eight digits of a WAL file's name are the timeline; a standby has no current one.
        let query = "SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN
            ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int END";
        let row = client.query_one(query, &[]);
        match row.await.map_err(|e| self.explain(e))?.get(0) {
            Some(timeline) => Ok((timeline, client)),
            None => Err(Error::retry_msg(format!("{} is a standby", self.address()))),
        }
    }

    /// A connection to this host, whatever it is.
    pub async fn open(&self) -> Result<Client, Error> {
        let timeout = self.connect_timeout();
        let opened = tokio::time::timeout(timeout, self.open_any());
        let client = opened.await.unwrap_or_else(|_| {
            Err(Error::retry_msg(format!(
                "no answer within {} ms",
                timeout.as_millis()
            )))
        });
        client.map_err(|error| error.context(format!("connect to Postgres at {}", self.address())))
    }

    async fn open_any(&self) -> Result<Client, Error> {
        let (client, connection) = self
            .config
            .connect(NoTls)
            .await
            .map_err(|error| self.explain(error))?;
        let client = Client::start(client, connection);
        let set = client.batch_execute(PINNED_WHERE_KNOWN).await;
        set.map_err(|error| self.explain(error))?;
        Ok(client)
    }

    fn connect_timeout(&self) -> Duration {
        let configured = self.config.get_connect_timeout();
        configured.copied().unwrap_or(CONNECT_TIMEOUT)
    }

    /// Opens a replication connection to this host, with the settings of every connection of ours.
    ///
    /// # Errors
    /// As [`ReplicationConnection::connect`].
    pub async fn connect_replication(&self) -> Result<ReplicationConnection, Error> {
        let explain = |error| self.explain_replication(error);
        let mut connection = ReplicationConnection::connect(&self.replication())
            .await
            .map_err(explain)?;
        let set = connection.simple_query(PINNED_WHERE_KNOWN).await;
        set.map_err(explain)?;
        Ok(connection)
    }

    /// What the replication connection needs: the host that [`Self::primary`] has found.
    fn replication(&self) -> ReplicationConfig {
        let (host, port) = host_port(&self.config);
        ReplicationConfig {
            host,
            port,
            user: self.user().to_owned(),
            password: self.config.get_password().map(<[u8]>::to_vec),
            dbname: self.name().to_owned(),
            connect_timeout: self.connect_timeout(),
            wal_sender_timeout_ms: WAL_SENDER_TIMEOUT_MS,
            application_name: self.application.clone(),
        }
    }

    /// Classifies an error of the replication connection.
    pub fn explain_replication(&self, error: ReplicationError) -> Error {
        if error.is_connection_lost() {
            return Error::retry(error);
        }
        let refused = error.server().and_then(|error| {
            let hint = error.hint.as_deref().unwrap_or_default();
            output_plugins::remedy(&error.sqlstate, &error.message, hint)
        });
        if let Some(remedy) = refused {
            return Error::stop(error).remedy(remedy);
        }
        match error.sqlstate().map(SqlState::from_code) {
            Some(code) => fault::classify(&code, &error.to_string(), self.user()),
            None => Error::stop(error),
        }
    }

    /// Classifies an error of a stream that has begun.
    pub fn explain_stream(&self, error: ReplicationError) -> Error {
        if error.sqlstate() == Some(SqlState::UNDEFINED_OBJECT.code()) {
            return Error::retry(UndefinedObject(error));
        }
        self.explain_replication(error)
    }

    /// Where the server's WAL is written next.
    pub async fn insert_lsn(&self, client: &tokio_postgres::Client) -> Result<Lsn, Error> {
        let query = "SELECT pg_catalog.pg_current_wal_insert_lsn()::text";
        self.lsn(client, query).await
    }

    /// How far the server's WAL is flushed.
    pub async fn flush_lsn(&self, client: &tokio_postgres::Client) -> Result<Lsn, Error> {
        let query = "SELECT pg_catalog.pg_current_wal_flush_lsn()::text";
        self.lsn(client, query).await
    }

    async fn lsn(&self, client: &tokio_postgres::Client, query: &str) -> Result<Lsn, Error> {
        let row = client.query_one(query, &[]).await;
        let row = row.map_err(|error| self.explain(error))?;
        row.get::<_, &str>(0).parse().map_err(Error::stop)
    }

    /// Classifies an error of an ordinary connection.
    pub fn explain(&self, error: tokio_postgres::Error) -> Error {
        fault::explain(error, self.user())
    }
}

fn host_port(config: &tokio_postgres::Config) -> (String, u16) {
    let host = match config.get_hosts() {
        [Host::Tcp(host), ..] => host.clone(),
        _ => String::new(),
    };
    (host, config.get_ports().first().copied().unwrap_or(5432))
}

/// The URL's settings for each of its hosts, with those that are ours.
fn each_host(
    url: &tokio_postgres::Config,
    application: &str,
) -> Result<Vec<tokio_postgres::Config>, UrlError> {
    let (hosts, ports) = (url.get_hosts(), url.get_ports());
    if ports.len() > 1 && ports.len() != hosts.len() {
        let (hosts, ports) = (hosts.len(), ports.len());
        return Err(UrlError::Ports { hosts, ports });
    }
    if hosts.is_empty() {
        return Err(UrlError::Missing("host"));
    }
    let timeout = if hosts.len() == 1 {
        CONNECT_TIMEOUT
    } else {
        CONNECT_TIMEOUT_PER_HOST
    };
    let one = |(at, host): (usize, &Host)| {
        let Host::Tcp(host) = host else {
            return Err(UrlError::Missing("host"));
        };
        let mut config = tokio_postgres::Config::new();
        config
            .host(host)
            .port(*ports.get(at).or(ports.first()).unwrap_or(&5432))
            .user(url.get_user().unwrap_or_default())
            .dbname(url.get_dbname().unwrap_or_default())
            .ssl_mode(url.get_ssl_mode())
            .channel_binding(url.get_channel_binding())
            .keepalives(url.get_keepalives())
            .keepalives_idle(url.get_keepalives_idle().min(KEEPALIVE_IDLE))
            .keepalives_interval(url.get_keepalives_interval().unwrap_or(KEEPALIVE_INTERVAL))
            .keepalives_retries(url.get_keepalives_retries().unwrap_or(KEEPALIVE_RETRIES))
            .tcp_user_timeout(
                url.get_tcp_user_timeout()
                    .copied()
                    .unwrap_or(UNACKNOWLEDGED),
            )
            .connect_timeout(url.get_connect_timeout().copied().unwrap_or(timeout))
            .options(PINNED)
            .application_name(application);
        if let Some(password) = url.get_password() {
            config.password(password);
        }
        Ok(config)
    };
    hosts.iter().enumerate().map(one).collect()
}

#[cfg(test)]
impl Database {
    /// The server at `TRIBUTARY_POSTGRES_URL`.
    pub(crate) fn of_stack() -> Self {
        let url = std::env::var("TRIBUTARY_POSTGRES_URL").expect(
            "TRIBUTARY_POSTGRES_URL is not set: start the local stack and source its variables",
        );
        Self::new(&Secret::new(url), None, "test".to_owned()).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::{UrlError, each_host, host_port};

    fn hosts(url: &str) -> Result<Vec<(String, u16)>, UrlError> {
        let url = url.parse().map_err(|_| UrlError::Malformed)?;
        Ok(each_host(&url, "test")?.iter().map(host_port).collect())
    }

    #[test]
    fn each_host_has_its_port() {
        let of = |name: &str, port| (name.to_owned(), port);
        assert_eq!(
            hosts("postgres://u@a:5433,b:5434/d").unwrap(),
            [of("a", 5433), of("b", 5434)]
        );
        assert_eq!(
            hosts("postgres://u@a,b/d?target_session_attrs=read-write").unwrap(),
            [of("a", 5432), of("b", 5432)]
        );
        assert_eq!(
            hosts("host=a,b port=7 user=u").unwrap(),
            [of("a", 7), of("b", 7)]
        );
        assert!(hosts("host=/tmp user=u").is_err());
    }
}
