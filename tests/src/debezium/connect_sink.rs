//! Consumers of our topics that nobody here wrote, on Kafka Connect: Debezium's JDBC sink, into a Postgres database, and
//! Aiven's sink, into OpenSearch.

use std::path::Path;

use anyhow::{Result, bail};

use super::java::{Jvm, plugins};
use super::worker::{Database, Worker};
use crate::stack::{Stack, debezium_jdbc};

/// A sink. Dropping it kills the process.
#[derive(Debug)]
pub struct ConnectSink {
    worker: Worker,
}

impl ConnectSink {
    /// Starts Debezium's: it reads `topics` from their beginnings, and makes the tables, upserts rows by the records' keys and
    /// deletes them in the database. Configuration and log go into `dir`, whose name is the connector's. `settings` are
    /// beside these, or in their place.
    ///
    /// # Errors
    /// It is not installed, or a file cannot be written.
    pub fn jdbc(
        stack: &Stack,
        dir: &Path,
        jvm: Jvm,
        topics: &[String],
        database: &str,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let database = Database::parse(database)?;
        let url = format!(
            "jdbc:postgresql://{}:{}/{}",
            database.host, database.port, database.name
        );
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        // The converter is with the other connector.
        let plugins = [plugins()?, debezium_jdbc()?.join("plugins")];
        let topics = topics.join(",");
        let mut all = vec![
            ("name", &*name),
            (
                "connector.class",
                "io.debezium.connector.jdbc.JdbcSinkConnector",
            ),
            ("topics", &topics),
            ("connection.url", &url),
            ("connection.username", &database.user),
            ("connection.password", &database.password),
            ("primary.key.mode", "record_key"),
            ("insert.mode", "upsert"),
            ("delete.enabled", "true"),
            ("schema.evolution", "basic"),
        ];
        // The last one of a name counts.
        all.extend(settings);
        let worker = Worker::start(stack, dir, jvm, &plugins, &all)?;
        Ok(Self { worker })
    }

    /// Starts Aiven's, whose plugin is in `plugin`: it reads `topic` from its beginning.
    ///
    /// # Errors
    /// Debezium's converter is not installed, or a file cannot be written.
    pub fn open_search(
        stack: &Stack,
        dir: &Path,
        plugin: &Path,
        topic: &str,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let plugins = [plugins()?, plugin.to_owned()];
        let mut all = vec![
            ("name", &*name),
            (
                "connector.class",
                "io.aiven.kafka.connect.opensearch.OpenSearchSinkConnector",
            ),
            ("topics", topic),
            ("connection.url", stack.search_url()),
        ];
        all.extend(settings);
        let worker = Worker::start(stack, dir, Jvm::Shipped, &plugins, &all)?;
        Ok(Self { worker })
    }

    /// The quoted name of the table that Debezium's makes for a topic.
    pub fn table(topic: &str) -> String {
        format!("\"{}\"", topic.replace('.', "_"))
    }

    /// The process' id.
    pub fn pid(&self) -> u32 {
        self.worker.child.id()
    }

    /// Whether it works.
    ///
    /// # Errors
    /// It does not any more: the end of its log.
    pub fn alive(&mut self) -> Result<()> {
        let has_failed = self.worker.log().contains("Task threw an uncaught");
        if has_failed || self.worker.child.try_wait()?.is_some() {
            bail!("the sink has failed:\n{}", self.worker.log());
        }
        Ok(())
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        self.worker.log_tail()
    }
}
