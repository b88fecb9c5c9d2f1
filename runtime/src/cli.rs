//! What every service's `main` does: command line, configuration, telemetry, signals, exit code.

use std::future::Future;
use std::process::ExitCode;

use tokio_util::sync::CancellationToken;

use crate::health::Health;
use crate::shutdown::Gate;
use crate::{Error, Problem};

/// The exit codes of every service.
pub mod exit {
    /// Done, or stopped by SIGTERM or SIGINT after an orderly shutdown.
    pub const OK: u8 = 0;
    /// Stopped by an error; its message is on stderr.
    pub const STOPPED: u8 = 1;
    /// The command line or the configuration is wrong; nothing was started.
    pub const USAGE: u8 = 2;
    /// `check` found problems.
    pub const PROBLEMS: u8 = 3;
    /// The shutdown did not end within `shutdown_timeout_ms`, or was cut short by a second signal.
    pub const CUT_OFF: u8 = 4;
}

/// A service: what [`main`] needs to know of it.
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

/// The whole `main` of a service.
pub fn main<S: Service>() -> ExitCode {
    ExitCode::from(exit::USAGE)
}
