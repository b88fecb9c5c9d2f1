//! What every service's `main` does: command line, configuration, telemetry, signals, exit code.

mod answer;
mod check;
pub mod exit;
mod running;
mod service;
mod status;
mod supervise;

use std::ffi::OsString;
use std::fmt::Display;
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::config::{self, ConfigError, Settings};
use crate::telemetry::{self, Metrics};
use crate::{Error, Problem};
use answer::Format;
use check::Report;
use supervise::Ending;

pub use answer::Answer;
pub use running::{Running, address};
pub use service::{Context, Service};

/// The argument `--yes` of a command that destroys something; without it [`Answer::unconfirmed`] is the answer.
pub fn yes() -> Arg {
    Arg::new("yes")
        .long("yes")
        .action(ArgAction::SetTrue)
        .help("Do it; without this the command only says what it would do")
}

/// The whole `main` of a service.
pub fn main<S: Service>() -> ExitCode {
    let code = execute::<S>(
        std::env::args_os(),
        std::env::vars_os(),
        &mut std::io::stdout(),
        &mut std::io::stderr(),
    );
    ExitCode::from(code)
}

fn execute<S: Service>(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let matches = match command::<S>().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) if error.use_stderr() => {
            print(err, error.render());
            return exit::USAGE;
        }
        Err(help_or_version) => {
            print(out, help_or_version.render());
            return exit::OK;
        }
    };
    let Some((name, arguments)) = matches.subcommand() else {
        return exit::USAGE; // clap has insisted on one
    };
    let path = path_of(last_of(arguments));
    let loaded = load::<S>(&path, env);
    match (name, loaded) {
        ("check", loaded) => {
            let report = match loaded {
                Ok((_, config)) => with_runtime(check::tried::<S>(config))
                    .unwrap_or_else(|error| Report::tried(S::NAME, vec![Problem::from(&error)])),
                Err(problems) => Report::misconfigured(S::NAME, problems),
            };
            print(out, report.render(Format::of(arguments)));
            report.exit_code()
        }
        (_, Err(problems)) => {
            for problem in problems {
                print(err, format_args!("{}: error: {problem}\n", S::NAME));
            }
            exit::USAGE
        }
        ("run", Ok((settings, mut config))) => {
            S::take_flags(&mut config, arguments);
            run::<S>(settings, config, err)
        }
        ("status", Ok((settings, _))) => {
            let asked = with_runtime(status::ask::<S>(&settings, arguments)).flatten();
            tell::<S>(asked, Format::of(arguments), out, err)
        }
        (name, Ok((settings, _))) if is_request::<S>(name) => {
            let asked = with_runtime(request::<S>(name, &settings, arguments)).flatten();
            tell::<S>(asked, Format::of(arguments), out, err)
        }
        (name, Ok((settings, config))) => {
            let running = Running::of(&settings, S::DEFAULT_PORT);
            let done = with_runtime(S::command(config, name, arguments, running)).flatten();
            tell::<S>(done, Format::of(last_of(arguments)), out, err)
        }
    }
}

/// The arguments of a command's own command, where it has some: `--config` and `--output` stand there.
fn last_of(mut arguments: &ArgMatches) -> &ArgMatches {
    while let Some((_, below)) = arguments.subcommand() {
        arguments = below;
    }
    arguments
}

/// Gives arguments to a command, or to each of its own commands.
fn with(command: Command, arguments: &[&Arg; 2]) -> Command {
    if command.has_subcommands() {
        command.mut_subcommands(|below| with(below, arguments))
    } else {
        command.args(arguments.iter().copied().cloned())
    }
}

fn is_request<S: Service>(name: &str) -> bool {
    let mut requests = S::requests().into_iter();
    requests.any(|request| request.get_name() == name)
}

/// Has the running service do something.
async fn request<S: Service>(
    name: &str,
    settings: &Settings,
    arguments: &ArgMatches,
) -> crate::Result<Answer> {
    let running = Running::of(settings, S::DEFAULT_PORT).or_at(arguments);
    let answer = running.control(name, &S::request(name, arguments)).await?;
    Ok(Answer::ok(S::request_text(&answer), answer))
}

/// Prints what a command has found or done, and returns its exit code.
fn tell<S: Service>(
    done: Result<Answer, Error>,
    format: Format,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let answer = done.unwrap_or_else(|error| {
        print(err, format_args!("{}: error: {error}\n", S::NAME));
        Answer::failed(&error)
    });
    print(out, answer.render(S::NAME, format));
    answer.code
}

fn command<S: Service>() -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .required(true)
        .value_parser(value_parser!(PathBuf))
        .help("The service's configuration, a TOML file");
    let output = Arg::new("output")
        .long("output")
        .value_name("FORMAT")
        .default_value("text")
        .value_parser(PossibleValuesParser::new(["text", "json"]))
        .help("How to print what was found");
    let variables = format!(
        "Environment: {0}__SECTION__KEY overrides `key` in [section] of FILE.\n\
         Exit codes: {1} done, {2} stopped by an error, {3} wrong command line or configuration, \
         {4} check, status or another command found problems, {5} shutdown cut off, {6} not confirmed by --yes.",
        env_prefix::<S>(),
        exit::OK,
        exit::STOPPED,
        exit::USAGE,
        exit::PROBLEMS,
        exit::CUT_OFF,
        exit::UNCONFIRMED,
    );
    let requests = S::requests()
        .into_iter()
        .map(|request| request.arg(address()));
    let own = S::commands()
        .into_iter()
        .chain(requests)
        .map(|command| with(command, &[&config, &output]));
    Command::new(S::NAME)
        .about(S::ABOUT)
        .version(env!("CARGO_PKG_VERSION"))
        .after_help(variables)
        .subcommand_required(true)
        .subcommand(
            Command::new("run")
                .about("Runs until SIGTERM or SIGINT, or until an error stops it")
                .arg(config.clone())
                .args(S::run_flags()),
        )
        .subcommand(
            Command::new("check")
                .about("Validates the configuration, tries every connection and privilege, changes nothing")
                .arg(config.clone())
                .arg(output.clone()),
        )
        .subcommand(
            Command::new("status")
                .about("Asks the running service how it is, over HTTP; changes nothing")
                .arg(config.clone())
                .arg(output.clone())
                .arg(address()),
        )
        .subcommands(own)
}

fn env_prefix<S: Service>() -> String {
    S::NAME.to_ascii_uppercase().replace('-', "_")
}

fn path_of(arguments: &ArgMatches) -> PathBuf {
    arguments
        .get_one::<PathBuf>("config")
        .cloned()
        .unwrap_or_default()
}

/// The configuration, read and valid.
fn load<S: Service>(
    path: &Path,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(Settings, S::Config), Vec<Problem>> {
    let prefix = env_prefix::<S>();
    let env = variables(&prefix, env)?;
    let (settings, config) = config::load_service::<S::Config>(path, &prefix, env)
        .map_err(|error: ConfigError| error.problems().to_vec())?;
    let mut problems = settings.validate();
    problems.extend(S::validate(&config));
    if problems.is_empty() {
        Ok((settings, config))
    } else {
        Err(problems)
    }
}

/// Our variables as text. Those of others may hold anything; one of ours that is not UTF-8 must not be
/// passed over in silence.
fn variables(
    prefix: &str,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, Vec<Problem>> {
    let mut variables = Vec::new();
    let mut problems = Vec::new();
    for (name, value) in env {
        let Ok(name) = name.into_string() else {
            continue;
        };
        if !name.starts_with(prefix) {
            continue;
        }
        match value.into_string() {
            Ok(value) => variables.push((name, value)),
            Err(_) => problems.push(Problem::new(format_args!(
                "environment variable {name} is not valid UTF-8"
            ))),
        }
    }
    if problems.is_empty() {
        Ok(variables)
    } else {
        Err(problems)
    }
}

fn run<S: Service>(settings: Settings, config: S::Config, err: &mut dyn Write) -> u8 {
    if let Err(problem) = telemetry::init_logging(&settings.log) {
        print(err, format_args!("{}: error: {problem}\n", S::NAME));
        return exit::USAGE;
    }
    let ending = Metrics::install(S::NAME).and_then(|metrics| {
        with_runtime(async move {
            match supervise::signals() {
                Ok(signals) => supervise::run::<S>(settings, config, metrics, signals).await,
                Err(error) => Ending::Failed(error),
            }
        })
    });
    let (error, code) = match ending {
        Ok(Ending::Done) => {
            tracing::info!("stopped");
            return exit::OK;
        }
        Ok(Ending::CutOff(error)) => (error, exit::CUT_OFF),
        Ok(Ending::Failed(error)) | Err(error) => (error, exit::STOPPED),
    };
    tracing::error!("{error}");
    // For whoever started it by hand and reads no log, and for what keeps the last line of stderr.
    print(err, format_args!("{}: error: {error}\n", S::NAME));
    code
}

/// Runs a future on a runtime of its own, which does not wait for threads that are stuck.
fn with_runtime<T>(future: impl Future<Output = T>) -> Result<T, Error> {
    crate::http::install_tls_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::stop(error).context("start the asynchronous runtime"))?;
    let result = runtime.block_on(future);
    runtime.shutdown_background();
    Ok(result)
}

/// A closed pipe is no reason to fail: the exit code still tells.
fn print(to: &mut dyn Write, what: impl Display) {
    let _ = write!(to, "{what}");
    let _ = to.flush();
}

#[cfg(test)]
mod tests;
