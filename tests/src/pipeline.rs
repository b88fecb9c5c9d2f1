//! A whole pipeline on a stack: databases and names of its own, the services, and how to wait for them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use tokio_postgres::Client;

use crate::oracle::{TopicReader, TopicRecord, compare_search, compare_warehouse};
use crate::service::{Kind, Service};
use crate::shop;
use crate::stack::Stack;

const POLL: Duration = Duration::from_millis(50);

/// Databases, topics and a folder that nobody else uses.
#[derive(Debug, Clone)]
pub struct Pipeline {
    name: String,
    dir: PathBuf,
    /// URL of the source database.
    pub source_url: String,
    /// URL of the warehouse database.
    pub warehouse_url: String,
    kafka: String,
    /// URL of the registry.
    pub registry: String,
    search: String,
    /// Patterns of the tables that the source takes.
    pub tables: Vec<String>,
}

impl Pipeline {
    /// Creates the databases `<name>_<pid>` and its warehouse, without tables.
    ///
    /// # Errors
    /// The stack's Postgres refuses, as it does where two tests of a run have the name.
    pub async fn new(stack: &Stack, name: &str) -> Result<Self> {
        let name = format!("{name}_{}", std::process::id());
        let admin = shop::connect(stack.postgres_url()).await?;
        for database in [name.clone(), format!("{name}_warehouse")] {
            let create = format!("CREATE DATABASE {database}");
            admin.batch_execute(&create).await?;
        }
        let url = |database: &str| {
            stack
                .postgres_url()
                .rsplit_once('/')
                .map(|(base, _)| format!("{base}/{database}"))
                .context("no database in the URL")
        };
        Ok(Self {
            source_url: url(&name)?,
            warehouse_url: url(&format!("{name}_warehouse"))?,
            dir: stack.dir().join(&name),
            kafka: stack.kafka().to_owned(),
            registry: stack.registry_url().to_owned(),
            search: stack.search_url().to_owned(),
            tables: ["catalog.*", "inventory.*", "sales.*"]
                .map(str::to_owned)
                .to_vec(),
            name,
        })
    }

    /// Drops its databases, whoever is connected. Its slots must be gone.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn remove(&self) -> Result<()> {
        let (server, _) = self.source_url.rsplit_once('/').context("no database")?;
        let admin = shop::connect(&format!("{server}/postgres")).await?;
        for database in [self.name.clone(), format!("{}_warehouse", self.name)] {
            let drop = format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)");
            admin.batch_execute(&drop).await?;
        }
        Ok(())
    }

    /// Another one on the same databases: topics, names and folder of its own.
    #[must_use]
    pub fn beside(&self, suffix: &str) -> Self {
        let name = format!("{}_{suffix}", self.name);
        Self {
            dir: self.dir.with_file_name(&name),
            name,
            ..self.clone()
        }
    }

    /// The prefix of its topics, and of its services' names.
    pub fn prefix(&self) -> &str {
        &self.name
    }

    /// Its folder: configurations and logs.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A connection to the source database.
    ///
    /// # Errors
    /// No connection.
    pub async fn source(&self) -> Result<Client> {
        shop::connect(&self.source_url).await
    }

    /// A connection to the warehouse.
    ///
    /// # Errors
    /// No connection.
    pub async fn warehouse(&self) -> Result<Client> {
        shop::connect(&self.warehouse_url).await
    }

    /// The source's configuration.
    pub fn source_config(&self) -> String {
        let tables: Vec<String> = self
            .tables
            .iter()
            .map(|table| format!("{table:?}"))
            .collect();
        format!(
            "name = \"{0}\"\nregion = \"test\"\n[postgres]\nurl = \"{1}\"\ntables = [{2}]\n[kafka]\nbrokers = [\"{3}\"]\nregistry = \"{4}\"\ntopic_prefix = \"{0}\"\npartitions = 3\n",
            self.name,
            self.source_url,
            tables.join(", "),
            self.kafka,
            self.registry
        )
    }

    /// The usual configuration of a sink, with its usual group.
    pub fn sink_config(&self, kind: Kind) -> String {
        let group = self.group(kind);
        match kind {
            Kind::SinkElastic => self.elastic_config(&group, ""),
            _ => self.redshift_config(&group, None),
        }
    }

    fn config_of_group(&self, group: &str) -> String {
        format!(
            "name = \"{group}\"\ntopics = [\"{}.*\"]\n[kafka]\nbrokers = [\"{}\"]\nregistry = \"{}\"\n",
            self.name, self.kafka, self.registry
        )
    }

    /// The configuration of a search sink. `index_prefix` begins the names of its indices.
    pub fn elastic_config(&self, group: &str, index_prefix: &str) -> String {
        format!(
            "{}[elasticsearch]\nurl = \"{}\"\nindex_prefix = \"{index_prefix}\"\nnumber_of_replicas = 0\n",
            self.config_of_group(group),
            self.search
        )
    }

    /// The configuration of a warehouse sink. Without a schema the tables go to the schemas of the source.
    pub fn redshift_config(&self, group: &str, schema: Option<&str>) -> String {
        let schema = schema
            .map(|schema| format!("schema = \"{schema}\"\n"))
            .unwrap_or_default();
        format!(
            "{}[warehouse]\nurl = \"{}\"\ndialect = \"postgres\"\n{schema}",
            self.config_of_group(group),
            self.warehouse_url
        )
    }

    /// A service of this pipeline; `instance` tells several of one kind apart.
    ///
    /// # Errors
    /// The configuration cannot be written.
    pub fn service(&self, kind: Kind, instance: &str, config: &str) -> Result<Service> {
        Service::new(kind, &self.dir, instance, config)
    }

    /// The usual group of a sink.
    pub fn group(&self, kind: Kind) -> String {
        format!("{}-{}", self.name, kind.binary())
    }

    /// The three services with the usual names, not started.
    ///
    /// # Errors
    /// The configurations cannot be written.
    pub fn services(&self) -> Result<[Service; 3]> {
        Ok([
            self.service(Kind::Source, "source", &self.source_config())?,
            self.service(
                Kind::SinkElastic,
                "elastic",
                &self.sink_config(Kind::SinkElastic),
            )?,
            self.service(
                Kind::SinkRedshift,
                "redshift",
                &self.sink_config(Kind::SinkRedshift),
            )?,
        ])
    }

    /// The topic of a table.
    pub fn topic(&self, table: &str) -> String {
        format!("{}.{table}", self.name)
    }

    /// Deletes a topic, and waits until it is gone.
    ///
    /// # Errors
    /// The broker refuses, or does not do it in time.
    pub async fn delete_topic(&self, topic: &str) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", &self.kafka)
            .create()?;
        for deleted in admin.delete_topics(&[topic], &AdminOptions::new()).await? {
            deleted.map_err(|(topic, code)| anyhow::anyhow!("delete {topic}: {code}"))?;
        }
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let metadata = admin
                .inner()
                .fetch_metadata(None, Duration::from_secs(10))?;
            if metadata.topics().iter().all(|found| found.name() != topic) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("topic {topic} is still there");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Creates a compacted topic, as an administrator does.
    ///
    /// # Errors
    /// The broker refuses.
    pub async fn create_topic(&self, topic: &str, partitions: i32) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", &self.kafka)
            .create()?;
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1))
            .set("cleanup.policy", "compact");
        for created in admin.create_topics(&[new], &AdminOptions::new()).await? {
            created.map_err(|(topic, code)| anyhow::anyhow!("create {topic}: {code}"))?;
        }
        Ok(())
    }

    /// Waits until the slot has confirmed all that is committed now.
    ///
    /// # Errors
    /// It does not within `timeout`, or the source has ended.
    pub async fn wait_source(&self, source: &mut Service, timeout: Duration) -> Result<()> {
        let client = self.source().await?;
        let deadline = Instant::now() + timeout;
        // Rows that are still to be read beside the stream come before the target.
        while source.metric("tributary_source_snapshot_tables") != Some(0.0) {
            alive(source)?;
            if Instant::now() >= deadline {
                bail!(
                    "not all rows are read within {timeout:?}; the source's log ends:\n{}",
                    source.log_tail()
                );
            }
            tokio::time::sleep(POLL).await;
        }
        let target: String = client
            .query_one("SELECT pg_current_wal_insert_lsn()::text", &[])
            .await?
            .get(0);
        let slot = format!("tributary_{}", self.name.replace('-', "_"));
        loop {
            let caught_up = client
                .query_opt(
                    "SELECT confirmed_flush_lsn >= $2::text::pg_lsn FROM pg_replication_slots WHERE slot_name = $1::text",
                    &[&slot, &target],
                )
                .await?;
            if caught_up.is_some_and(|row| row.get::<_, Option<bool>>(0) == Some(true)) {
                return Ok(());
            }
            alive(source)?;
            if Instant::now() >= deadline {
                bail!(
                    "the source has not caught up with {target} within {timeout:?}; its log ends:\n{}",
                    source.log_tail()
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until a sink's group has committed everything that these records hold.
    ///
    /// # Errors
    /// It does not within `timeout`, or the sink has ended.
    pub async fn wait_sink(
        &self,
        sink: &mut Service,
        group: &str,
        topics: &BTreeMap<String, Vec<TopicRecord>>,
        timeout: Duration,
    ) -> Result<()> {
        let mut wanted: BTreeMap<(&str, i32), i64> = BTreeMap::new();
        for (topic, records) in topics {
            for record in records {
                let end = wanted.entry((topic, record.partition)).or_default();
                *end = (*end).max(record.offset + 1);
            }
        }
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.kafka)
            .set("group.id", group)
            .create()?;
        let mut list = TopicPartitionList::new();
        for (topic, partition) in wanted.keys() {
            list.add_partition(topic, *partition);
        }
        let deadline = Instant::now() + timeout;
        loop {
            // A group's coordinator may not be there yet.
            let committed = consumer.committed_offsets(list.clone(), Duration::from_secs(15));
            let behind: Vec<_> = wanted
                .iter()
                .filter(|((topic, partition), end)| {
                    let committed = committed.as_ref().ok();
                    let offset = committed
                        .and_then(|committed| committed.find_partition(topic, *partition))
                        .map(|element| element.offset());
                    !matches!(offset, Some(Offset::Offset(offset)) if offset >= **end)
                })
                .collect();
            if behind.is_empty() {
                return Ok(());
            }
            alive(sink)?;
            if Instant::now() >= deadline {
                bail!(
                    "{} is behind at {behind:?} after {timeout:?}; its log ends:\n{}",
                    sink.kind(),
                    sink.log_tail()
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// All topics of these tables, read to their ends.
    ///
    /// # Errors
    /// A topic cannot be read.
    pub async fn read_topics(&self, tables: &[&str]) -> Result<BTreeMap<String, Vec<TopicRecord>>> {
        let mut reader = TopicReader::new(&self.kafka, &self.registry);
        let mut topics = BTreeMap::new();
        for table in tables {
            let topic = self.topic(table);
            let records = reader
                .read(&topic)
                .await
                .with_context(|| format!("read topic {topic}"))?;
            topics.insert(topic, records);
        }
        Ok(topics)
    }

    /// Everything in which the warehouse differs from the source.
    ///
    /// # Errors
    /// A query fails.
    pub async fn warehouse_differences(
        &self,
        tables: &[&str],
        schema: Option<&str>,
    ) -> Result<Vec<String>> {
        let (source, warehouse) = (self.source().await?, self.warehouse().await?);
        let mut found = Vec::new();
        for table in tables {
            let (own, name) = table.split_once('.').context("not schema.table")?;
            let target = format!("\"{}\".\"{name}\"", schema.unwrap_or(own));
            found.extend(compare_warehouse(&source, table, &warehouse, &target).await?);
        }
        Ok(found)
    }

    /// Everything in which the search indices differ from the source.
    ///
    /// # Errors
    /// A query fails.
    pub async fn search_differences(
        &self,
        tables: &[&str],
        index_prefix: &str,
    ) -> Result<Vec<String>> {
        let source = self.source().await?;
        let mut found = Vec::new();
        for table in tables {
            let index = format!("{index_prefix}{}", self.topic(table));
            found.extend(compare_search(&source, table, &self.search, &index).await?);
        }
        Ok(found)
    }
}

fn alive(service: &mut Service) -> Result<()> {
    if service.is_running()? {
        return Ok(());
    }
    bail!(
        "{} has ended; its log ends:\n{}",
        service.kind(),
        service.log_tail()
    )
}
