//! Ordinary connections to the source database, and what an error of theirs means.

use std::time::Duration;

use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};
use tributary_runtime::Error;

use crate::config::SourceConfig;
use crate::replication::{ReplicationConfig, ReplicationError};

/// Settings that decide how values print, pinned on every connection of ours; `row_security=off` makes a
/// policy that would hide rows an error.
const PINNED: &str = "-c DateStyle=ISO -c IntervalStyle=postgres -c TimeZone=UTC -c extra_float_digits=3 \
    -c bytea_output=hex -c lc_monetary=C -c search_path= -c row_security=off -c statement_timeout=0 \
    -c idle_in_transaction_session_timeout=0 -c default_transaction_read_only=off";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const WAL_SENDER_TIMEOUT_MS: u32 = 10_000;

/// Where the database is and who we are there.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    config: tokio_postgres::Config,
    application: String,
}

/// Why a `postgres.url` cannot be used. Never shows the URL: it may hold a password.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UrlError {
    #[error("not a connection URL")]
    Malformed,
    #[error("it lacks the {0}")]
    Missing(&'static str),
    #[error("TLS (sslmode=require) is not supported by this version")]
    Tls,
    #[error("one host only is supported by this version")]
    ManyHosts,
}

impl Database {
    pub(crate) fn new(source: &SourceConfig) -> Result<Self, UrlError> {
        let mut config: tokio_postgres::Config = source
            .postgres
            .url
            .expose()
            .parse()
            .map_err(|_| UrlError::Malformed)?;
        if config.get_user().is_none() {
            return Err(UrlError::Missing("user"));
        }
        if config.get_dbname().is_none() {
            return Err(UrlError::Missing("database"));
        }
        match config.get_hosts() {
            [Host::Tcp(_)] => {}
            [] | [_] => return Err(UrlError::Missing("host")),
            _ => return Err(UrlError::ManyHosts),
        }
        if config.get_ssl_mode() == SslMode::Require {
            return Err(UrlError::Tls);
        }
        if let Some(password) = &source.postgres.password {
            config.password(password.expose());
        }
        let application = format!("tributary-source {}", source.name);
        config
            .options(PINNED)
            .application_name(&application)
            .connect_timeout(CONNECT_TIMEOUT);
        Ok(Self {
            config,
            application,
        })
    }

    /// The database's name.
    pub(crate) fn name(&self) -> &str {
        self.config.get_dbname().unwrap_or_default()
    }

    /// The user that we connect as.
    pub(crate) fn user(&self) -> &str {
        self.config.get_user().unwrap_or_default()
    }

    fn host_port(&self) -> (String, u16) {
        let host = match self.config.get_hosts() {
            [Host::Tcp(host), ..] => host.clone(),
            _ => String::new(),
        };
        (
            host,
            self.config.get_ports().first().copied().unwrap_or(5432),
        )
    }

    /// `host:port/database`, for messages.
    pub(crate) fn address(&self) -> String {
        let (host, port) = self.host_port();
        format!("{host}:{port}/{}", self.name())
    }

    /// Opens a connection. Its driver runs until the client is dropped.
    pub(crate) async fn connect(&self) -> Result<Client, Error> {
        let (client, connection) = self.config.connect(NoTls).await.map_err(|error| {
            self.explain(error)
                .context(format!("connect to Postgres at {}", self.address()))
        })?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a Postgres connection ends");
            }
        });
        Ok(client)
    }

    /// What the replication connection needs.
    pub(crate) fn replication(&self) -> ReplicationConfig {
        let (host, port) = self.host_port();
        ReplicationConfig {
            host,
            port,
            user: self.user().to_owned(),
            password: self.config.get_password().map(<[u8]>::to_vec),
            dbname: self.name().to_owned(),
            connect_timeout: CONNECT_TIMEOUT,
            wal_sender_timeout_ms: WAL_SENDER_TIMEOUT_MS,
            application_name: self.application.clone(),
        }
    }

    /// Classifies an error of the replication connection.
    pub(crate) fn explain_replication(&self, error: ReplicationError) -> Error {
        if error.is_connection_lost() {
            return Error::retry(error);
        }
        match error.sqlstate().map(SqlState::from_code) {
            Some(code) => classify(&code, &error.to_string(), self.user()),
            None => Error::stop(error),
        }
    }

    /// Classifies an error of an ordinary connection.
    pub(crate) fn explain(&self, error: tokio_postgres::Error) -> Error {
        match error.as_db_error() {
            Some(db) => {
                let message = match db.detail() {
                    Some(detail) if !shows_values(db.code()) => {
                        format!("{} ({detail})", db.message())
                    }
                    _ => db.message().to_owned(),
                };
                classify(db.code(), &message, self.user())
            }
            None if error.is_closed() || is_io(&error) => Error::retry(error),
            None => Error::stop(error),
        }
    }
}

/// The classes of error whose detail quotes the row.
fn shows_values(code: &SqlState) -> bool {
    code.code().starts_with("22") || code.code().starts_with("23")
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if current.is::<std::io::Error>() {
            return true;
        }
        cause = current.source();
    }
    error.to_string().contains("timeout") || error.to_string().contains("timed out")
}

/// What a server's error means to the source: the one place where an SQLSTATE decides.
pub(crate) fn classify(code: &SqlState, message: &str, user: &str) -> Error {
    let text = format!("{message} (SQLSTATE {})", code.code());
    match code.code() {
        "28P01" | "28000" => Error::stop_msg(text)
            .remedy(format!("correct postgres.password (or password_file) of user '{user}', or its line in pg_hba.conf")),
        "42501" => Error::stop_msg(text)
            .remedy(format!("give user '{user}' what is missing: REPLICATION, and USAGE on the schemas and SELECT on the tables (run `tributary-source check` for the statements)")),
        "3D000" => Error::stop_msg(text).remedy("correct the database in postgres.url"),
        // Another instance holds the slot, or its server process has not noticed yet that it is gone.
        "55006" => Error::retry_msg(text).remedy("nothing, while another instance of this source runs"),
        "42710" | "42704" | "40001" | "40P01" | "55P03" => Error::retry_msg(text),
        state if state.starts_with("08") || state.starts_with("53") || state.starts_with("57P") => Error::retry_msg(text),
        state if state.starts_with("58") || state == "57014" => Error::retry_msg(text),
        _ => Error::stop_msg(text),
    }
}

/// An SQL string literal.
pub(crate) fn literal(text: &str) -> String {
    let escaped = text.replace('\'', "''");
    if escaped.contains('\\') {
        format!(" E'{}'", escaped.replace('\\', "\\\\"))
    } else {
        format!("'{escaped}'")
    }
}

/// A quoted SQL identifier.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A quoted `schema.table`.
pub(crate) fn qualified(schema: &str, table: &str) -> String {
    format!("{}.{}", identifier(schema), identifier(table))
}
