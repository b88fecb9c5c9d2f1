//! The service: its configuration, and what `main` calls.

use serde::Deserialize;
use tributary_runtime::cli::{Context, Service};
use tributary_runtime::config::KafkaConfig;
use tributary_runtime::sink::{self, BatchConfig, OnError, SinkConfig};
use tributary_runtime::{Error, Problem};

use crate::config::Warehouse;
use crate::postgres::{self, PostgresWarehouse};

/// What `tributary-sink-redshift` reads from its file, beside what all services share.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The consumer group, and the service's name in the warehouse's ledger.
    pub name: String,
    /// The topics to read: names or patterns, as in [`SinkConfig::topics`].
    pub topics: Vec<String>,
    /// Brokers and registry.
    pub kafka: KafkaConfig,
    /// The bounds of batches and buffers.
    #[serde(default)]
    pub batch: BatchConfig,
    /// What to do with a record that cannot be read, or that the warehouse refuses.
    #[serde(default)]
    pub on_error: OnError,
    /// Where such records go with `on_error = "dead-letter"`.
    #[serde(default)]
    pub dead_letter_topic: Option<String>,
    /// The warehouse.
    pub warehouse: Warehouse,
}

impl Config {
    /// What the loop needs to know.
    pub fn sink(&self) -> SinkConfig {
        SinkConfig {
            name: self.name.clone(),
            topics: self.topics.clone(),
            kafka: self.kafka.clone(),
            batch: self.batch,
            on_error: self.on_error,
            dead_letter_topic: self.dead_letter_topic.clone(),
        }
    }

    /// What is wrong with the values, without a connection.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = self.sink().validate();
        problems.extend(self.warehouse.validate());
        problems
    }
}

/// `tributary-sink-redshift`.
#[derive(Debug)]
pub struct RedshiftSink;

impl Service for RedshiftSink {
    const NAME: &'static str = "tributary-sink-redshift";
    const ABOUT: &'static str = "Keeps a warehouse table per topic equal to its table.";
    const DEFAULT_PORT: u16 = 9403;
    type Config = Config;

    fn validate(config: &Config) -> Vec<Problem> {
        config.validate()
    }

    async fn check(config: Config) -> Vec<Problem> {
        let kafka = config.sink();
        let warehouse = postgres::check(&config.name, &config.topics, &config.warehouse);
        let (mut problems, warehouse) = tokio::join!(sink::check(&kafka), warehouse);
        problems.extend(warehouse);
        problems
    }

    async fn run(config: Config, context: Context) -> Result<(), Error> {
        let warehouse = PostgresWarehouse::new(&config.name, &config.warehouse)?;
        sink::run(config.sink(), warehouse, &context).await
    }
}
