//! The service: the engine with a search engine as its target.

use clap::{ArgMatches, Command};
use serde_json::Value;
use tributary_runtime::cli::{Answer, Context, Running, Service};
use tributary_runtime::{Error, Problem, Result, telemetry};

use crate::config::Config;
use crate::lane::Elastic;
use crate::{check, metric, reindex, verify};

/// `tributary-sink-elastic`.
#[derive(Debug)]
pub struct ElasticSink;

impl Service for ElasticSink {
    const NAME: &'static str = "tributary-sink-elastic";
    const ABOUT: &'static str = "Keeps a search index per topic equal to its table";
    const DEFAULT_PORT: u16 = 9402;
    type Config = Config;

    fn validate(config: &Config) -> Vec<Problem> {
        config.validate()
    }

    async fn check(config: Config) -> Vec<Problem> {
        let mut problems = tributary_engine::check(&config.engine()).await;
        problems.extend(check::engine(&config).await);
        problems
    }

    fn commands() -> Vec<Command> {
        let mut commands = tributary_engine::commands();
        commands.push(reindex::definition());
        commands.push(verify::definition());
        commands
    }

    async fn command(
        config: Config,
        name: &str,
        arguments: &ArgMatches,
        running: Running,
    ) -> Result<Answer, Error> {
        if name == tributary_engine::PLAN {
            let elastic = Elastic::new(config.elasticsearch.clone())?;
            return tributary_engine::plan(config.engine(), &elastic).await;
        }
        if name == reindex::NAME {
            return reindex::command(config, arguments).await;
        }
        if name == verify::NAME {
            return verify::command(config, arguments).await;
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
        telemetry::describe(metric::ALL);
        for note in config.elasticsearch.notes() {
            tracing::warn!("{note}");
        }
        let elastic = Elastic::new(config.elasticsearch.clone())?;
        elastic.report_to(context.health.clone());
        tributary_engine::run(config.engine(), elastic, &context).await
    }
}
