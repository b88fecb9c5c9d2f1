//! The command line of the local stack.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use tributary_tests::stack::{Lifetime, Options, Part, Ports, Stack};

/// Real PostgreSQL, Kafka, schema registry and search engine on this machine, for tests and trials.
#[derive(Parser)]
#[command(name = "stack")]
struct Arguments {
    /// The stack's folder: data, configuration, logs.
    #[arg(long, global = true, default_value = "target/stack")]
    dir: PathBuf,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Start what does not run, and wait until it serves.
    Up {
        /// Ports of a new stack: free, conventional (where free), or postgres=5432,kafka=9092,registry=8081,search=9200.
        #[arg(long, default_value = "free")]
        ports: Ports,
        /// The parts to start: postgres, kafka, registry, search; all by default.
        parts: Vec<Part>,
    },
    /// Stop all parts.
    Down,
    /// Say which parts are up, and where.
    Status,
    /// Start one part.
    Start {
        /// postgres, kafka, registry or search.
        part: Part,
    },
    /// Stop one part, as its service manager would.
    Stop {
        /// postgres, kafka, registry or search.
        part: Part,
    },
    /// Kill one part, as a power cut would.
    Kill {
        /// postgres, kafka, registry or search.
        part: Part,
    },
    /// Print the environment in which tests find the stack, for a shell to read.
    Env,
    /// Start a stack, run a command with its environment, and end the stack with it; the exit code is the command's.
    Run {
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, required = true)]
        command: Vec<String>,
    },
}

#[allow(clippy::print_stderr, reason = "a command line speaks to people")]
fn main() -> ExitCode {
    match act(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("stack: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the arguments are used up")]
fn act(arguments: Arguments) -> Result<ExitCode> {
    let attach = || Stack::attach(&arguments.dir);
    match arguments.action {
        Action::Up { ports, parts } => {
            let parts = if parts.is_empty() {
                Part::ALL.to_vec()
            } else {
                parts
            };
            print_status(&Stack::up(
                &arguments.dir,
                &Options {
                    parts,
                    ports,
                    ..Options::default()
                },
            )?)?;
        }
        Action::Down if !arguments.dir.exists() => {}
        Action::Down => attach()?.down()?,
        Action::Status => print_status(&attach()?)?,
        Action::Start { part } => attach()?.start(part)?,
        Action::Stop { part } => attach()?.stop(part)?,
        Action::Kill { part } => attach()?.kill(part)?,
        Action::Env => print_environment(&attach()?),
        Action::Run { command } => return run(&arguments.dir, &command),
    }
    Ok(ExitCode::SUCCESS)
}

fn run(dir: &std::path::Path, command: &[String]) -> Result<ExitCode> {
    let (program, arguments) = command.split_first().context("no command given")?;
    let stack = Stack::up(
        dir,
        &Options {
            lifetime: Lifetime::Owned,
            ..Options::default()
        },
    )?;
    let status = stack.run(Command::new(program).args(arguments))?;
    drop(stack);
    if status.success() {
        Stack::attach(dir)?.remove_data()?;
        return Ok(ExitCode::SUCCESS);
    }
    Ok(ExitCode::from(
        status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(1),
    ))
}

#[allow(clippy::print_stdout, reason = "this is what was asked for")]
fn print_status(stack: &Stack) -> Result<()> {
    for part in stack.status()? {
        let state = if part.up { "up" } else { "down" };
        let pid = part
            .pid
            .map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        println!(
            "{:<9} {state:<5} {:<52} version {:<12} pid {pid:<8} log {}",
            part.part.name(),
            part.url,
            part.version,
            part.log.display()
        );
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "this is what was asked for")]
fn print_environment(stack: &Stack) {
    for (name, value) in stack.environment() {
        println!("export {name}='{}'", value.replace('\'', r"'\''"));
    }
}
