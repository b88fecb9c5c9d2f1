//! The service: its configuration, and what `main` calls.

use clap::{ArgMatches, Command};
use serde_json::Value;
use tributary_runtime::cli::{Answer, Context, Running, Service};
use tributary_runtime::{Error, Problem};

use crate::config::{Dialect, Warehouse};
use crate::postgres::{self, PostgresWarehouse};

tributary_engine::sink_config! {
    /// What `tributary-sink-redshift` reads from its file, beside what all services share.
    Config {
        /// The warehouse.
        warehouse: Warehouse,
    }
}

impl Config {
    /// What is wrong with the values, without a connection.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = self.engine().validate();
        problems.extend(match self.warehouse.dialect {
            Dialect::Postgres => postgres::validate(&self.warehouse),
            Dialect::Redshift => vec![
                Problem::new("`warehouse.dialect` is \"redshift\", which this version cannot write to yet")
                    .remedy("set `warehouse.dialect` to \"postgres\" and `warehouse.url` to a PostgreSQL database"),
            ],
        });
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
        let kafka = config.engine();
        let warehouse = postgres::check(&config.name, &config.topics, &config.warehouse);
        let (mut problems, warehouse) = tokio::join!(tributary_engine::check(&kafka), warehouse);
        problems.extend(warehouse);
        problems
    }

    fn commands() -> Vec<Command> {
        tributary_engine::commands()
    }

    async fn command(
        config: Config,
        name: &str,
        arguments: &ArgMatches,
        running: Running,
    ) -> Result<Answer, Error> {
        if name == tributary_engine::PLAN {
            let warehouse = PostgresWarehouse::new(&config.name, &config.warehouse)?;
            return tributary_engine::plan(config.engine(), &warehouse).await;
        }
        tributary_engine::command(config.engine(), name, arguments, running).await
    }

    fn requests() -> Vec<Command> {
        tributary_engine::requests()
    }

    fn request(_name: &str, arguments: &ArgMatches) -> Value {
        tributary_engine::request(arguments)
    }

    fn request_text(answer: &Value) -> String {
        tributary_engine::request_text(answer)
    }

    fn details_text(details: &Value) -> String {
        tributary_engine::details_text(details)
    }

    async fn run(config: Config, context: Context) -> Result<(), Error> {
        let warehouse = PostgresWarehouse::new(&config.name, &config.warehouse)?;
        tributary_engine::run(config.engine(), warehouse, &context).await
    }
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn a_dialect_that_is_not_there_yet_is_said_so() {
        let config = |dialect| {
            toml::from_str::<Config>(&format!(
                "name = 'shop'\ntopics = ['shop.*']\n[kafka]\nbrokers = ['kafka:9092']\nregistry = 'http://registry:8081'\n\
                 [warehouse]\nurl = 'postgres://db/shop'\ndialect = '{dialect}'\nmax_connections = 0"
            ))
            .unwrap()
        };
        let problems = config("redshift").validate();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].to_string().contains("cannot write to yet"));
        let problems = config("postgres").validate();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].to_string().contains("max_connections"));
    }
}
