//! A connection, its settings pinned.

use std::time::Duration;

use tokio_postgres::{Client, Config, NoTls};
use tributary_runtime::Error;

use crate::name::Quoted;
use crate::postgres::failure::{Attempt, Failure};

/// How long a transaction waits for a lock of another one.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the server keeps a transaction whose sink has gone silent.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// A connection with what it knows about itself.
pub(crate) struct Session {
    pub(crate) client: Client,
    /// Who we are there, for the statements that a message proposes.
    pub(crate) user: String,
    /// Where we are.
    pub(crate) database: String,
}

impl Session {
    /// Connects and pins all settings that the meaning of a statement depends on.
    ///
    /// # Errors
    /// By SQLSTATE: a server that is away or starting is tried again, a wrong password stops.
    pub(crate) async fn connect(
        config: &Config,
        statement_timeout: Duration,
    ) -> Result<Self, Error> {
        Self::start(config, statement_timeout)
            .await
            .map_err(Failure::into_error)
    }

    async fn start(config: &Config, statement_timeout: Duration) -> Result<Self, Failure> {
        let doing = || "connect to the warehouse".to_owned();
        let (client, connection) = config.connect(NoTls).await.attempt(doing, String::new)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                // Whoever uses the connection gets the error as well, and handles it.
                tracing::debug!(
                    closed = error.is_closed(),
                    "a connection to the warehouse ended"
                );
            }
        });
        client
            .batch_execute(&settings(statement_timeout))
            .await
            .attempt(
                || "set up the connection to the warehouse".to_owned(),
                String::new,
            )?;
        let row = client
            .query_typed_one("SELECT current_user::text, current_database()::text", &[])
            .await
            .attempt(doing, String::new)?;
        Ok(Self {
            client,
            user: row.get(0),
            database: row.get(1),
        })
    }

    /// Begins a transaction.
    pub(crate) async fn begin(&self) -> Result<(), Failure> {
        self.client
            .batch_execute("BEGIN")
            .await
            .attempt(|| "begin a transaction".to_owned(), String::new)
    }

    /// Commits it.
    pub(crate) async fn commit(&self) -> Result<(), Failure> {
        self.client
            .batch_execute("COMMIT")
            .await
            .attempt(|| "commit".to_owned(), String::new)
    }

    /// `GRANT privilege ON object TO us`.
    pub(crate) fn grant(&self, privilege: &str, object: &str) -> String {
        format!("GRANT {privilege} ON {object} TO {}", Quoted(&self.user))
    }

    /// `GRANT privilege ON DATABASE ours TO us`.
    pub(crate) fn grant_on_database(&self, privilege: &str) -> String {
        self.grant(privilege, &format!("DATABASE {}", Quoted(&self.database)))
    }
}

/// Time-outs of the role's or the database's that would end a session of ours while nobody needs it, or in the middle of a
/// transaction. Which there are depends on the version.
const UNLIMITED: &str = "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings \
    WHERE name IN ('idle_session_timeout', 'transaction_timeout')";

fn settings(statement_timeout: Duration) -> String {
    format!(
        "SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC'; \
         SET search_path = pg_catalog, pg_temp; SET standard_conforming_strings = on; SET array_nulls = on; \
         SET bytea_output = 'hex'; SET extra_float_digits = 1; SET row_security = off; \
         SET default_transaction_isolation = 'read committed'; \
         SET statement_timeout = {}; SET lock_timeout = {}; SET idle_in_transaction_session_timeout = {}; \
         {UNLIMITED}",
        statement_timeout.as_millis(),
        LOCK_TIMEOUT.as_millis(),
        IDLE_TIMEOUT.as_millis(),
    )
}
