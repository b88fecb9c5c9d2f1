//! The source's configuration.

mod slot;
mod snapshot;
mod source_name;
mod stream;
mod tables;
mod transactional_id;

use serde::Deserialize;
use tributary_postgres::catalog::{PartitionTopics, TablePattern, TopicNames, Wanted};
use tributary_postgres::database::{Database, UrlError};
use tributary_postgres::plugin::Plugin;
use tributary_postgres::publication::PublicationNames;
use tributary_postgres::spool::SpoolConfig;
use tributary_runtime::config::{self, Secret};
use tributary_runtime::{Error, Problem};
use tributary_schemas::name;
use tributary_schemas::table::Table;

use tributary_postgres::catalog::CatalogTable;

mod columns;

pub(crate) use columns::pattern_of;
pub use columns::{ColumnConfig, ColumnForm, IntervalForm, TypesConfig};

pub use slot::{OnLimit, SlotConfig};
pub use snapshot::{SnapshotConfig, SnapshotMode};
use source_name::{NAME_BYTES, is_source_name};
pub use stream::PublishConfig;
pub(crate) use tables::{ON_TYPE_CHANGE, resnapshot_flag};
pub use tables::{OnTypeChange, TableConfig};

/// One source: a Postgres database and the tables of it that go into Kafka.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// The source's name: slot, publication, transactional id and progress key derive from it.
    pub name: String,
    /// Written into every record's `source.region`.
    pub region: Option<String>,
    /// The database.
    pub postgres: PostgresConfig,
    /// Where the records go.
    pub kafka: KafkaConfig,
    /// How existing rows are read.
    #[serde(default)]
    pub snapshot: SnapshotConfig,
    /// How much the slot may hold on the server.
    #[serde(default)]
    pub slot: SlotConfig,
    /// What is published beside the tables' rows.
    #[serde(default)]
    pub publish: PublishConfig,
    /// Where streamed transactions wait for their commit.
    #[serde(default)]
    pub spool: SpoolConfig,
    /// What to do where changes may be missing from the topics.
    #[serde(default)]
    pub on_gap: OnGap,
    /// `run --adopt`: take what is found as it is, this once.
    #[serde(skip)]
    pub adopt: bool,
    /// What happens to a change that cannot be published.
    #[serde(default)]
    pub on_unfit_value: OnUnfitValue,
    /// Columns that travel in another form than their type's.
    #[serde(default)]
    pub columns: Vec<ColumnConfig>,
    /// What single tables have otherwise than `postgres` says.
    #[serde(default)]
    pub tables: Vec<TableConfig>,
    /// The forms of types that have several.
    #[serde(default)]
    pub types: TypesConfig,
}

/// What to do where changes may be missing from the topics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnGap {
    /// Stop, and let somebody decide.
    #[default]
    Stop,
    /// Read every row again, beside the stream; then what was published before and is not there any more is gone.
    Resnapshot,
}

/// What happens to a change whose value its form cannot hold, or whose record is larger than its topic takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnUnfitValue {
    /// The source stops and names table, key and column.
    #[default]
    Stop,
    /// It is written to the dead-letter topic, as text, and left out of the table's.
    DeadLetter,
}

/// The database and its tables.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// `postgres://user@host:port/database`; a secret, since it may hold a password.
    pub url: Secret,
    /// The user's password, where the URL has none. Also `password_file`.
    pub password: Option<Secret>,
    /// `schema.table` or `schema.*`; a name with a dot, a star or a quote in it in double quotes.
    pub tables: Vec<String>,
    /// Lets the server send big transactions before their commit (protocol version 2).
    #[serde(default)]
    pub streaming: bool,
    /// The slot's output plug-in.
    #[serde(default)]
    pub plugin: Plugin,
    /// Where the rows of a partitioned table go.
    #[serde(default)]
    pub partitions: PartitionTopics,
    /// What happens to a topic when the key of its table has changed.
    #[serde(default)]
    pub on_key_change: OnKeyChange,
    /// What happens to a topic when the registry refuses what a column's type has become.
    #[serde(default)]
    pub on_type_change: OnTypeChange,
    /// How often the catalog is looked at, in milliseconds: for tables that appear, go or change.
    #[serde(default = "default_watch_interval_ms")]
    pub watch_interval_ms: u64,
}

const fn default_watch_interval_ms() -> u64 {
    500
}

/// What happens to a topic when the key of its table has changed: records of one row have another key then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnKeyChange {
    /// The source stops.
    #[default]
    Stop,
    /// All rows are read again under the new key, and those under the old one are gone.
    Resnapshot,
}

/// Where the records go, and how missing topics are created.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// `host:port` of some brokers.
    pub brokers: Vec<String>,
    /// The URL of the schema registry's Confluent API.
    pub registry: String,
    /// The first part of every topic's name.
    pub topic_prefix: String,
    /// Partitions of a new topic. A topic that exists must have as many.
    #[serde(default = "default_partitions")]
    pub partitions: i32,
    /// Replicas of a new topic; the broker's default where absent.
    pub replication_factor: Option<i32>,
}

impl TopicNames for SourceConfig {
    fn topic_of(&self, schema: &str, table: &str) -> Result<String, Error> {
        name::topic(&self.kafka.topic_prefix, schema, table).map_err(|error| {
            Error::stop(error)
                .remedy("rename the table, shorten kafka.topic_prefix, or leave the table out")
        })
    }
}

const fn default_partitions() -> i32 {
    6
}

impl SourceConfig {
    /// The name of slot and publication: `tributary_<name>`, with `-` as `_`.
    pub fn slot_name(&self) -> String {
        format!("tributary_{}", self.name.replace('-', "_"))
    }

    /// The publication of the tables without a key: it publishes no updates and deletes, or Postgres would
    /// refuse the application's.
    pub fn keyless_publication(&self) -> String {
        format!("{}_keyless", self.slot_name())
    }

    /// Both publications.
    pub(crate) fn publications(&self) -> PublicationNames {
        PublicationNames {
            keyed: self.slot_name(),
            keyless: self.keyless_publication(),
            plugin: self.postgres.plugin,
        }
    }

    /// The database.
    ///
    /// # Errors
    /// `postgres.url` cannot be used.
    pub(crate) fn database(&self) -> Result<Database, UrlError> {
        let PostgresConfig { url, password, .. } = &self.postgres;
        let application = format!("tributary-source {}", self.name);
        Database::new(url, password.as_ref(), application)
    }

    /// The tables that `postgres.tables` asks for.
    pub(crate) fn wanted(&self) -> Wanted<'_> {
        Wanted {
            patterns: &self.postgres.tables,
            partitions: self.postgres.partitions,
            topics: self,
        }
    }

    /// The topic of a table.
    ///
    /// # Errors
    /// The name would be longer than Kafka takes.
    pub(crate) fn topic_name(&self, table: &Table) -> Result<String, Error> {
        self.topic_of(&table.schema, &table.name)
    }

    /// The transactional id of the one producer: no other source's.
    pub fn transactional_id(&self) -> String {
        transactional_id::of(&self.kafka.topic_prefix, &self.name)
    }

    /// The one that earlier versions gave it, where another source could have the same.
    pub(crate) fn ambiguous_transactional_id(&self) -> Option<String> {
        transactional_id::ambiguous(&self.kafka.topic_prefix, &self.name)
    }

    /// The topic that holds the position.
    pub fn progress_topic(&self) -> String {
        format!("{}.progress", self.kafka.topic_prefix)
    }

    /// The topic of the commands for a running source.
    pub fn signals_topic(&self) -> String {
        format!("{}.signals", self.kafka.topic_prefix)
    }

    /// The topic of changes that cannot be published, if they go there.
    pub fn dead_letter_topic(&self) -> Option<String> {
        (self.on_unfit_value == OnUnfitValue::DeadLetter)
            .then(|| format!("{}.{}.dead-letter", self.kafka.topic_prefix, self.name))
    }

    /// Gives a table's columns the forms that `[[columns]]` and `[types]` ask for.
    pub(crate) fn apply_forms(&self, table: &mut Table) {
        columns::apply(&self.columns, self.types, table);
    }

    /// What happens where the registry refuses what a table's type has become.
    pub(crate) fn on_type_change(&self, table: &Table) -> OnTypeChange {
        tables::on_type_change(&self.tables, &table.schema, &table.name)
            .unwrap_or(self.postgres.on_type_change)
    }

    /// The patterns of `[[tables]]` that none of these tables has.
    pub(crate) fn unused_table_patterns<'a>(
        &'a self,
        tables: &'a [CatalogTable],
    ) -> impl Iterator<Item = &'a str> {
        tables::unused(&self.tables, tables)
    }

    /// The patterns of `[[columns]]` that no column of these tables has.
    pub(crate) fn unused_column_patterns<'a>(
        &'a self,
        tables: &'a [CatalogTable],
    ) -> impl Iterator<Item = &'a str> {
        columns::unused(&self.columns, tables.iter().map(|table| &table.table))
    }

    /// What the Kafka and registry clients need.
    pub fn kafka_client(&self) -> config::KafkaConfig {
        config::KafkaConfig {
            brokers: self.kafka.brokers.clone(),
            registry: self.kafka.registry.clone(),
        }
    }

    /// Everything that is wrong with the values themselves.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !is_source_name(&self.name) {
            problems.push(Problem::new("`name` is not a legal source name")
                .remedy(format!("use 1 to {NAME_BYTES} of a-z, 0-9, '-' and '_': the replication slot is named after it")));
        }
        if let Err(error) = self.database() {
            problems.push(
                Problem::new(format!("`postgres.url`: {error}"))
                    .remedy("write postgres://user@host:port/database"),
            );
        }
        if self.postgres.tables.is_empty() {
            problems.push(
                Problem::new("`postgres.tables` is empty")
                    .remedy("name tables, as in [\"sales.*\"]"),
            );
        }
        for pattern in &self.postgres.tables {
            if TablePattern::parse(pattern).is_none() {
                problems.push(
                    Problem::new(format!("`postgres.tables` has '{pattern}'"))
                        .remedy("write schema.table or schema.*"),
                );
            }
        }
        problems.extend(self.stream_problems());
        problems.extend(columns::problems(&self.columns));
        problems.extend(tables::problems(&self.tables));
        problems.extend(self.kafka_client().validate());
        problems.extend(self.slot.problems(self.snapshot.mode));
        let legal_topic = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '.';
        if self.kafka.topic_prefix.is_empty() || !self.kafka.topic_prefix.chars().all(legal_topic) {
            problems.push(
                Problem::new("`kafka.topic_prefix` is not legal in a topic's name")
                    .remedy("use A-Z, a-z, 0-9, '.', '_' and '-'"),
            );
        }
        problems.extend(self.out_of_range());
        problems
    }

    /// Numbers that are too small or too large.
    fn out_of_range(&self) -> impl Iterator<Item = Problem> {
        [
            ("kafka.partitions", "1 or more", self.kafka.partitions < 1),
            (
                "kafka.replication_factor",
                "1 or more",
                self.kafka.replication_factor.is_some_and(|n| n < 1),
            ),
            (
                "snapshot.workers",
                "1 to 64",
                !(1..=64).contains(&self.snapshot.workers),
            ),
            (
                "snapshot.chunk_pages",
                "1 or more",
                self.snapshot.chunk_pages == 0,
            ),
            (
                "snapshot.max_rows_per_second",
                "1 or more",
                self.snapshot.max_rows_per_second == Some(0),
            ),
            (
                "postgres.watch_interval_ms",
                "100 to 3600000",
                !(100..=3_600_000).contains(&self.postgres.watch_interval_ms),
            ),
        ]
        .into_iter()
        .filter(|(.., wrong)| *wrong)
        .map(|(key, range, _)| {
            Problem::new(format!("`{key}` is out of range")).remedy(format!("give it {range}"))
        })
    }
}

impl SourceConfig {
    /// The topic with the beginnings and ends of transactions.
    pub fn transaction_topic(&self) -> String {
        format!("{}.transaction", self.kafka.topic_prefix)
    }

    /// The topic with the logical messages.
    pub fn message_topic(&self) -> String {
        format!("{}.message", self.kafka.topic_prefix)
    }

    fn stream_problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.postgres.streaming && self.spool.dir.is_none() {
            problems.push(
                Problem::new("`postgres.streaming` is set, and `spool.dir` is not").remedy(
                    "set spool.dir to a folder of the source's own on a local disk, or leave postgres.streaming out",
                ),
            );
        }
        if self.postgres.plugin != Plugin::Pgoutput {
            for (key, wanted) in [
                ("postgres.streaming", self.postgres.streaming),
                ("publish.messages", self.publish.messages),
            ] {
                if wanted {
                    problems.push(
                        Problem::new(format!(
                            "`{key}` needs pgoutput, and postgres.plugin is '{}'",
                            self.postgres.plugin.name()
                        ))
                        .remedy(format!("leave {key} out")),
                    );
                }
            }
        }
        if self.postgres.partitions == PartitionTopics::Leaf
            && self.postgres.plugin != Plugin::Pgoutput
        {
            problems.push(
                Problem::new("`postgres.partitions` is \"leaf\", which wal2json cannot carry")
                    .remedy("set postgres.plugin = \"pgoutput\", or leave partitioned tables out"),
            );
        }
        // Less would not hold one block of the server's (logical_decoding_work_mem, 64 MB by default).
        if self.spool.max_bytes < 1 << 20 {
            problems.push(
                Problem::new("`spool.max_bytes` is out of range").remedy("give it 1 MiB or more"),
            );
        }
        problems
    }
}
