//! A connection, its settings pinned.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, Config, NoTls};
use tributary_runtime::Error;

use crate::postgres::failure::Attempt;
use crate::postgres::sqlstate;
use crate::warehouse::deadline::Deadline;
use crate::warehouse::failure::Failure;
use crate::warehouse::name::Quoted;

/// How long a transaction waits for a lock of another one.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the server keeps a transaction whose sink has gone silent.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long statements may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// One of a batch; its whole transaction may take twice as long.
    pub(crate) statement: Duration,
    /// One that reads or writes a whole table.
    pub(crate) rewrite: Duration,
}

/// A connection with what it knows about itself.
pub(crate) struct Session {
    pub(crate) client: Client,
    /// The clock of what is done on it.
    pub(crate) deadline: Arc<Deadline>,
    limits: Limits,
    /// The server's process.
    pub(crate) pid: i32,
    born: Instant,
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
    pub(crate) async fn connect(config: &Config, limits: Limits) -> Result<Self, Error> {
        let bound = limits.statement * 2;
        match tokio::time::timeout(bound, Self::start(config, limits)).await {
            Ok(started) => started.map_err(Failure::into_error),
            Err(_) => Err(Error::retry_msg(format_args!(
                "the warehouse takes a connection and does not answer within {} s",
                bound.as_secs_f32()
            ))),
        }
    }

    async fn start(config: &Config, limits: Limits) -> Result<Self, Failure> {
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
            .batch_execute(&settings(limits.statement))
            .await
            .attempt(
                || "set up the connection to the warehouse".to_owned(),
                String::new,
            )?;
        let row = client
            .query_typed_one(
                "SELECT current_user::text, current_database()::text, pg_backend_pid()",
                &[],
            )
            .await
            .attempt(doing, String::new)?;
        Ok(Self {
            client,
            deadline: Arc::new(Deadline::new(limits.statement * 2)),
            limits,
            pid: row.get(2),
            born: Instant::now(),
            user: row.get(0),
            database: row.get(1),
        })
    }

    /// How long the connection has been there.
    pub(crate) fn age(&self) -> Duration {
        self.born.elapsed()
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

    /// Takes back what was done since `BEGIN`, and ends the transaction.
    pub(crate) async fn roll_back(&self) -> Result<(), Failure> {
        self.client
            .batch_execute("ROLLBACK")
            .await
            .attempt(|| "roll back".to_owned(), String::new)
    }

    /// Does, within a transaction, what takes as long as its table is large: only `rewrite_timeout_ms` bounds it.
    pub(crate) async fn unhurried<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        self.limit_statements(self.limits.rewrite).await?;
        self.deadline.allow(self.limits.rewrite);
        let done = work.await.map_err(|failure| match failure {
            Failure::Target(error) if error.remedy_text() == Some(sqlstate::TIMED_OUT_REMEDY) => {
                Failure::Target(error.remedy("if it lasts, raise [warehouse] rewrite_timeout_ms"))
            }
            other => other,
        })?;
        self.limit_statements(self.limits.statement).await?;
        self.deadline.restart();
        Ok(done)
    }

    /// Sets the time-out of a statement until the transaction ends.
    async fn limit_statements(&self, limit: Duration) -> Result<(), Failure> {
        self.client
            .batch_execute(&format!(
                "SET LOCAL statement_timeout = {}",
                limit.as_millis()
            ))
            .await
            .attempt(|| "set the statement's time-out".to_owned(), String::new)
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

/// How soon the server notices that our host is gone without a word: idle, between two looks, with bytes that are not
/// acknowledged. A statement whose client has gone is ended too, where the server's platform can tell.
const NOTICE_LOSS: &str = "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; \
    SET tcp_keepalives_count = 3; SET tcp_user_timeout = 20000; \
    SELECT pg_catalog.set_config('client_connection_check_interval', '2s', false) \
    WHERE pg_catalog.version() ~ 'linux'";

/// Time-outs of the role's or the database's that would end a session of ours while nobody needs it, or in the middle of a
/// transaction. Which there are depends on the version.
const UNLIMITED: &str = "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings \
    WHERE name IN ('idle_session_timeout', 'transaction_timeout')";

fn settings(statement_timeout: Duration) -> String {
    format!(
        "SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC'; \
         SET search_path = pg_catalog, pg_temp; SET standard_conforming_strings = on; SET array_nulls = on; \
         SET bytea_output = 'hex'; SET extra_float_digits = 1; SET row_security = off; \
         SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off; \
         SET client_min_messages = warning; SET statement_timeout = {}; SET lock_timeout = {}; SET idle_in_transaction_session_timeout = {}; \
         {NOTICE_LOSS}; {UNLIMITED}",
        statement_timeout.as_millis(),
        LOCK_TIMEOUT.as_millis(),
        IDLE_TIMEOUT.as_millis(),
    )
}
