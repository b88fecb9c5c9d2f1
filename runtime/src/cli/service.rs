//! What a service brings, and what it is given.

use std::future::Future;

use clap::{Arg, ArgMatches, Command};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::answer::{self, Answer};
use super::running::Running;
use crate::health::Health;
use crate::shutdown::Gate;
use crate::{Error, Problem};

/// A service: what [`main`](super::main) needs to know of it.
pub trait Service: Send + 'static {
    /// The binary's name, `tributary-source`. The environment prefix is derived from it: `TRIBUTARY_SOURCE`.
    const NAME: &'static str;
    /// One line for `--help`.
    const ABOUT: &'static str;
    /// The port on 127.0.0.1 for `/metrics`, `/health` and `/ready` where `http.listen` is not set.
    const DEFAULT_PORT: u16;
    /// The service's own keys; `[log]`, `[http]` and `shutdown_timeout_ms` are not among them (see
    /// [`Settings`](crate::config::Settings)).
    type Config: serde::de::DeserializeOwned + Send + Sync + 'static;

    /// What is wrong with the values; pure.
    fn validate(config: &Self::Config) -> Vec<Problem>;

    /// Tries every connection and privilege, and changes nothing. Called with a valid configuration.
    fn check(config: Self::Config) -> impl Future<Output = Vec<Problem>> + Send;

    /// Runs until an error stops it or `context.shutdown` is cancelled; then it returns in an orderly way
    /// within the configured time.
    fn run(
        config: Self::Config,
        context: Context,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Flags of `run` that the service has beside the configuration.
    fn run_flags() -> Vec<Arg> {
        Vec::new()
    }

    /// Takes over which of [`run_flags`](Self::run_flags) are given.
    fn take_flags(config: &mut Self::Config, arguments: &ArgMatches) {
        let _ = (config, arguments);
    }

    /// Commands of the service's own, beside `run`, `check`, `status` and [`requests`](Self::requests). Each gets `--config` and `--output`.
    fn commands() -> Vec<Command> {
        Vec::new()
    }

    /// Does one of [`commands`](Self::commands). Called with a valid configuration; `running` is the service that runs with it, should
    /// it have to be asked.
    fn command(
        config: Self::Config,
        name: &str,
        arguments: &ArgMatches,
        running: Running,
    ) -> impl Future<Output = Result<Answer, Error>> + Send {
        let _ = (config, arguments, running);
        let error = Error::stop_msg(format_args!("'{name}' is not a command"));
        std::future::ready(Err(error))
    }

    /// What the running service can be asked to do, over its HTTP port: the names that [`Health::set_control`] takes. Each gets
    /// `--config`, `--output` and `--address`.
    fn requests() -> Vec<Command> {
        Vec::new()
    }

    /// The arguments of one of [`requests`](Self::requests), for [`Health::control`].
    fn request(name: &str, arguments: &ArgMatches) -> Value {
        let _ = (name, arguments);
        Value::Null
    }

    /// What the service has answered, for people; lines that end in a newline.
    fn request_text(answer: &Value) -> String {
        answer::lines(answer)
    }

    /// What [`Health::set_details`] gave, for people; lines that end in a
    /// newline.
    fn details_text(details: &Value) -> String {
        answer::lines(details)
    }
}

/// What [`Service::run`] is given.
#[derive(Debug, Clone)]
pub struct Context {
    /// Cancelled by SIGTERM and SIGINT: stop taking work, finish what is begun, return.
    pub shutdown: CancellationToken,
    /// What `/health` and `/ready` say.
    pub health: Health,
    /// Tasks that must end before the process does enter here; a shutdown that takes too long names them.
    pub gate: Gate,
}
