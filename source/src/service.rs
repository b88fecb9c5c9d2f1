//! The service: sessions, one after the other, until shutdown or an error that needs somebody.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;
use tributary_runtime::cli::{Answer, Context, Running, Service};
use tributary_runtime::retry::Backoff;
use tributary_runtime::{Error, Policy, Problem, telemetry};

use crate::config::{ON_TYPE_CHANGE, SourceConfig, TableConfig};
use crate::run::session::Carried;
use crate::run::slot_care::SlotWatch;
use crate::run::status::Monitor;
use crate::run::{self, hold, status};
use crate::{check, commands};
use tributary_postgres::spool::StreamingSwitch;

/// The longest pause between two attempts: a standby instance takes over within it.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// A session that lasted so long was healthy: the next pause is a short one again.
const HEALTHY: Duration = Duration::from_secs(60);

/// `tributary-source`.
#[derive(Debug)]
pub struct Source;

impl Service for Source {
    const NAME: &'static str = "tributary-source";
    const ABOUT: &'static str =
        "Carries every change of a Postgres database into Kafka, exactly once.";
    const DEFAULT_PORT: u16 = 9401;
    type Config = SourceConfig;

    fn validate(config: &SourceConfig) -> Vec<Problem> {
        config.problems()
    }

    async fn check(config: SourceConfig) -> Vec<Problem> {
        check::run(&config).await
    }

    fn run_flags() -> Vec<Arg> {
        let adopt = Arg::new("adopt").long("adopt").action(ArgAction::SetTrue).help(
            "Go on, this once, where progress is lost or does not fit the server: the highest seq in the topics is taken \
             over, and every row is read again",
        );
        let on_type_change = Arg::new(ON_TYPE_CHANGE)
            .long(ON_TYPE_CHANGE)
            .value_name("SCHEMA.TABLE=VALUE")
            .action(ArgAction::Append)
            .value_parser(TableConfig::of_flag)
            .help(
                "What happens, as long as this process runs, when the registry refuses what a table's type has become, instead \
                 of what the configuration says: resnapshot or stop; SCHEMA.* for all tables of a schema; may be given \
                 several times",
            );
        vec![adopt, on_type_change]
    }

    fn take_flags(config: &mut SourceConfig, arguments: &ArgMatches) {
        config.adopt = arguments.get_flag("adopt");
        let told = arguments.get_many::<TableConfig>(ON_TYPE_CHANGE);
        // Before the entries of the file, of which the first that matches counts.
        let told = told.into_iter().flatten().cloned();
        config.tables.splice(..0, told);
    }

    fn commands() -> Vec<Command> {
        commands::definitions()
    }

    async fn command(
        config: SourceConfig,
        name: &str,
        arguments: &ArgMatches,
        _: Running,
    ) -> Result<Answer, Error> {
        commands::run(&config, name, arguments).await
    }

    fn details_text(details: &Value) -> String {
        status::details_text(details)
    }

    async fn run(config: SourceConfig, context: Context) -> Result<(), Error> {
        telemetry::describe(crate::telemetry::METRICS);
        let mut carried = Carried::new(config.adopt);
        let config = Arc::new(config);
        let streaming = StreamingSwitch::new(config.postgres.streaming);
        let monitor = Arc::new(Monitor::new(&config.name, &config.slot_name()));
        context.health.set_details({
            let monitor = Arc::clone(&monitor);
            move || monitor.details()
        });
        context.health.set_notes({
            let monitor = Arc::clone(&monitor);
            move || monitor.notes()
        });
        let watch = SlotWatch::new(
            Arc::clone(&config),
            Arc::clone(&monitor),
            context.health.clone(),
        );
        let _watching = AbortOnDropHandle::new(tokio::spawn(watch.run()));
        let mut backoff = Backoff::new(Duration::from_millis(200), MAX_PAUSE, 2.0);
        loop {
            let started = Instant::now();
            let ended = Box::pin(run::session(
                &config,
                &monitor,
                &streaming,
                &context,
                &mut carried,
            ))
            .await;
            let error = match ended {
                Ok(()) => return Ok(()),
                Err(error) if error.policy() == Policy::Stop => return Err(error),
                Err(error) => error,
            };
            carried.take_over(&error, &config);
            if started.elapsed() > HEALTHY {
                backoff.reset();
            }
            // That is no fault: the next session waits until the slot is free, and says so.
            let is_held = hold::is_held_by_another(&error);
            if is_held {
                backoff.reset();
            }
            let pause = backoff.next_delay();
            let pause_ms = pause.as_millis();
            if is_held {
                tracing::debug!(%error, pause_ms, "another instance was faster");
            } else {
                tracing::warn!(%error, pause_ms, "the session ended; trying again");
            }
            context.health.set_phase("waiting");
            context.health.set_ready(false, error.to_string());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = context.shutdown.cancelled() => return Ok(()),
            }
        }
    }
}
