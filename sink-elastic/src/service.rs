//! The service: the engine with a search engine as its target.

use std::path::PathBuf;

use clap::{ArgMatches, Command};
use serde_json::Value;
use tributary_runtime::cli::{Answer, Context, Running, Service};
use tributary_runtime::{Error, Problem, Result, telemetry};

use crate::config::{Config, OnUnfitMapping};
use crate::lane::Elastic;
use crate::renewing::Renewing;
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

    fn take_flags(config: &mut Config, arguments: &ArgMatches) {
        config.file = arguments.get_one::<PathBuf>("config").cloned();
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
        let mut elastic = Elastic::new(config.elasticsearch.clone())?;
        let mut renewing = None;
        if config.elasticsearch.on_unfit_mapping == OnUnfitMapping::Reindex {
            elastic = elastic.renewed();
            renewing = Some(Renewing::new(&config, elastic.clone())?);
        }
        elastic.report_to(context.health.clone());
        let ends = context.shutdown.child_token();
        let renewing = async {
            if let Some(renewing) = renewing {
                renewing.run(ends.clone()).await;
            }
        };
        let running = async {
            let ran = tributary_engine::run(config.engine(), elastic, &context).await;
            ends.cancel();
            ran
        };
        tokio::join!(running, renewing).0
    }
}
