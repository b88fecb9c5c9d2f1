//! `dead-letters`: looks at the records that were put aside, and has them replayed.

mod list;
mod open;
mod replay;

use clap::{ArgMatches, Command};
use tributary_runtime::cli::{Answer, Running};
use tributary_runtime::{Error, Result};

use crate::config::SinkConfig;

const NAME: &str = "dead-letters";

/// For the command line.
pub(crate) fn definition() -> Command {
    Command::new(NAME)
        .about("Looks at the records that were put aside (on_error = \"dead-letter\"), and replays them")
        .subcommand_required(true)
        .subcommand(list::definition())
        .subcommand(replay::definition())
}

/// Does what the `dead-letters` command asks for; `running` is the sink that runs.
///
/// # Errors
/// Kafka or the running sink does not answer, or refuses; the dead-letter topic has no name.
pub async fn command(
    config: SinkConfig,
    name: &str,
    arguments: &ArgMatches,
    running: Running,
) -> Result<Answer> {
    match arguments.subcommand() {
        Some(("list", arguments)) => list::list(config, arguments).await,
        Some(("replay", arguments)) => replay::replay(config, arguments, running).await,
        _ => Err(Error::stop_msg(format_args!(
            "'{name}' wants `list` or `replay`"
        ))),
    }
}
