//! Where to connect, as whom, and under which settings.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use tokio_postgres::config::{Host, SslMode};

use super::error::{Failure, ReplicationError};

/// Where to connect, and as whom.
#[derive(Clone, PartialEq, Eq)]
pub struct ReplicationConfig {
    /// The server's name or address.
    pub host: String,
    /// The server's TCP port.
    pub port: u16,
    /// The role; it needs the attribute REPLICATION.
    pub user: String,
    /// The role's password, if the server asks for one.
    pub password: Option<Vec<u8>>,
    /// The database whose changes are wanted.
    pub dbname: String,
    /// The bound of connecting and logging in together.
    pub connect_timeout: Duration,
    /// After this long without a status from us the server gives the connection up and the slot free.
    pub wal_sender_timeout_ms: u32,
    /// The name shown in `pg_stat_replication`.
    pub application_name: String,
}

/// What pgoutput's text form depends on, and what must not cut a long replication session short.
///
/// The start-up packet outranks the settings of role and database.
const SESSION: [(&str, &str); 16] = [
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "3"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    ("search_path", ""),
    ("row_security", "off"),
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    // An exported snapshot is a transaction that idles.
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    // A client whose host is gone without a word is found out while the server makes it wait, too.
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
];

impl ReplicationConfig {
    /// Reads a connection URL or a `key=value` string, by the rules of tokio-postgres, which the
    /// other connections use.
    ///
    /// # Errors
    /// The text is malformed, or asks for what is not supported (see [`Self::from_postgres`]).
    pub fn from_url(url: &str) -> Result<Self, ReplicationError> {
        let config =
            url.parse::<tokio_postgres::Config>()
                .map_err(|error| match error.source() {
                    Some(cause) => settings(format!("{error}: {cause}")),
                    None => settings(error.to_string()),
                })?;
        Self::from_postgres(&config)
    }

    /// Takes the settings of a tokio-postgres connection over.
    ///
    /// # Errors
    /// Host or user is missing, or the settings ask for TLS, a Unix socket, several hosts, a `hostaddr`
    /// or server `options`.
    pub fn from_postgres(config: &tokio_postgres::Config) -> Result<Self, ReplicationError> {
        if config.get_ssl_mode() == SslMode::Require {
            return Err(settings(
                "sslmode=require asks for TLS, which the replication connection does not have yet; use sslmode=prefer or \
                 sslmode=disable on a network that is trusted",
            ));
        }
        if !config.get_hostaddrs().is_empty() || config.get_options().is_some() {
            return Err(settings(
                "'hostaddr' and 'options' are not supported; remove them from the connection string",
            ));
        }
        let host = match config.get_hosts() {
            [Host::Tcp(host)] => host.clone(),
            [] => return Err(settings("no host is given; name the server's host")),
            [_] => {
                return Err(settings(
                    "the host is a Unix socket, which the replication connection does not have yet; name a TCP host",
                ));
            }
            _ => return Err(settings("several hosts are given; name one")),
        };
        let user = config
            .get_user()
            .ok_or_else(|| settings("no user is given; name the role to connect as"))?;
        Ok(Self {
            host,
            port: config.get_ports().first().copied().unwrap_or(5432),
            user: user.to_owned(),
            password: config.get_password().map(<[u8]>::to_vec),
            dbname: config.get_dbname().unwrap_or(user).to_owned(),
            connect_timeout: config
                .get_connect_timeout()
                .copied()
                .unwrap_or(Duration::from_secs(10)),
            wal_sender_timeout_ms: 10_000,
            application_name: config
                .get_application_name()
                .unwrap_or("tributary")
                .to_owned(),
        })
    }

    /// The parameters of the start-up packet.
    pub(super) fn startup_parameters(&self) -> Vec<(&str, String)> {
        let mut parameters = vec![
            ("user", self.user.clone()),
            ("database", self.dbname.clone()),
            ("replication", "database".to_owned()),
            ("application_name", self.application_name.clone()),
            (
                "wal_sender_timeout",
                format!("{}ms", self.wal_sender_timeout_ms),
            ),
        ];
        parameters.extend(SESSION.map(|(name, value)| (name, value.to_owned())));
        parameters
    }
}

impl fmt::Debug for ReplicationConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicationConfig")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("dbname", &self.dbname)
            .field("connect_timeout", &self.connect_timeout)
            .field("wal_sender_timeout_ms", &self.wal_sender_timeout_ms)
            .field("application_name", &self.application_name)
            .finish()
    }
}

fn settings(problem: impl Into<String>) -> ReplicationError {
    Failure::Settings(problem.into()).during("read the Postgres connection settings")
}
