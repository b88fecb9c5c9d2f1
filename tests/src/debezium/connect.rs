//! Kafka Connect with Debezium's Postgres connector, as a process.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio_postgres::Client;

use super::java::{Jvm, plugins};
use super::worker::{Database, Worker};
use crate::stack::Stack;

const POLL: Duration = Duration::from_millis(50);

/// What is to be captured, and how.
#[derive(Debug)]
pub struct Connector<'a> {
    /// URL of the database.
    pub database: &'a str,
    /// The first part of the topics' names; slot and publication are called so too.
    pub prefix: &'a str,
    /// Settings beside those that say where everything is.
    pub settings: &'a [(&'a str, &'a str)],
}

/// A worker with one connector. Dropping it kills the process.
#[derive(Debug)]
pub struct Connect {
    worker: Worker,
    slot: String,
}

impl Connect {
    /// Starts the worker; its configuration, offsets and log go into `dir`.
    ///
    /// # Errors
    /// Debezium is not installed, or a file cannot be written.
    pub fn start(stack: &Stack, dir: &Path, jvm: Jvm, connector: &Connector<'_>) -> Result<Self> {
        let database = Database::parse(connector.database)?;
        let prefix = connector.prefix;
        let mut settings = vec![
            ("name", prefix),
            (
                "connector.class",
                "io.debezium.connector.postgresql.PostgresConnector",
            ),
            ("database.hostname", &database.host),
            ("database.port", &database.port),
            ("database.user", &database.user),
            ("database.password", &database.password),
            ("database.dbname", &database.name),
            ("topic.prefix", prefix),
            ("plugin.name", "pgoutput"),
            ("slot.name", prefix),
            ("publication.name", prefix),
            ("publication.autocreate.mode", "filtered"),
            ("topic.creation.default.replication.factor", "1"),
            ("topic.creation.default.partitions", "1"),
        ];
        settings.extend(connector.settings);
        Ok(Self {
            worker: Worker::start(stack, dir, jvm, &[plugins()?], &settings)?,
            slot: prefix.to_owned(),
        })
    }

    /// Waits until the first snapshot is done and the stream is read: only then somebody holds the slot.
    ///
    /// # Errors
    /// The worker ends, or does not get there within `timeout`.
    pub async fn wait_streaming(&mut self, client: &Client, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            let held = client
                .query_opt(
                    "SELECT active FROM pg_replication_slots WHERE slot_name = $1",
                    &[&self.slot],
                )
                .await?;
            if held.is_some_and(|row| row.get(0)) {
                return Ok(());
            }
            if self.worker.child.try_wait()?.is_some() || Instant::now() >= deadline {
                bail!(
                    "Debezium does not stream; its log ends:\n{}",
                    self.log_tail()
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The process' id.
    pub fn pid(&self) -> u32 {
        self.worker.child.id()
    }

    /// Stops the worker, which notes its offsets; its slot stays, and another one with the same folder goes on.
    ///
    /// # Errors
    /// It does not end within `timeout`.
    pub fn stop(mut self, timeout: Duration) -> Result<()> {
        let pid = i32::try_from(self.worker.child.id())?;
        // SAFETY: kill(2) takes no pointers; the pid is our own unreaped child's, so it cannot be anyone else's.
        #[allow(unsafe_code)]
        if unsafe { libc::kill(pid, libc::SIGTERM) } != 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        let deadline = Instant::now() + timeout;
        while self.worker.child.try_wait()?.is_none() {
            if Instant::now() >= deadline {
                bail!("Debezium does not end; its log ends:\n{}", self.log_tail());
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Kills the worker and drops its slot, which would keep the WAL for ever.
    ///
    /// # Errors
    /// The slot is not released.
    pub async fn end(mut self, client: &Client, timeout: Duration) -> Result<()> {
        self.worker.child.kill()?;
        self.worker.child.wait()?;
        let deadline = Instant::now() + timeout;
        let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1 AND NOT active";
        while client.execute(sql, &[&self.slot]).await? == 0 {
            if Instant::now() >= deadline {
                bail!("slot {} is still held, or was never made", self.slot);
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// The last lines of the worker's log.
    pub fn log_tail(&self) -> String {
        self.worker.log_tail()
    }
}
