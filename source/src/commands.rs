//! The source's own commands: `plan`, `snapshot`, `drop`.

mod drop;
mod plan;
mod send;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command};
use tributary_runtime::Error;
use tributary_runtime::cli::{self, Answer};

use crate::config::SourceConfig;
use crate::run::signals::{Action, Request, SWEEP_AND_FILTER, Signal};
use tributary_postgres::catalog::TablePattern;

/// The commands for the command line.
pub(crate) fn definitions() -> Vec<Command> {
    vec![
        Command::new("plan")
            .about("Says which topics, subjects, publications and slot `run` would create; changes nothing"),
        Command::new("snapshot")
            .about("Asks the running source to read tables again beside the stream, or to pause, resume or cancel that")
            .long_about(
                "Writes a signal to the topic <topic_prefix>.signals, which the running source applies exactly once; one \
                 that does not run applies it when it starts. Without ACTION the tables named are read again.",
            )
            .arg(
                Arg::new("action")
                    .value_name("ACTION")
                    .value_parser(PossibleValuesParser::new(["pause", "resume", "cancel"]))
                    .conflicts_with_all(["where", "sweep"])
                    .help("Applies to all snapshots that are not finished; cancel to those of --table only, where given"),
            )
            .arg(
                Arg::new("table")
                    .long("table")
                    .value_name("SCHEMA.TABLE")
                    .action(ArgAction::Append)
                    .required_unless_present("action")
                    .help("A table, or SCHEMA.* for all tables of a schema; may be given several times"),
            )
            .arg(
                Arg::new("where")
                    .long("where")
                    .value_name("SQL")
                    .conflicts_with("sweep")
                    .help("Only rows that meet this condition"),
            )
            .arg(
                Arg::new("sweep")
                    .long("sweep")
                    .action(ArgAction::SetTrue)
                    .help("In the end, rows that are in the topic and not in the table any more vanish"),
            ),
        Command::new("drop")
            .about("Removes the slot and the publications, so that no WAL is held any more; the topics stay")
            .arg(cli::yes()),
    ]
}

/// Does one of them.
pub(crate) async fn run(
    config: &SourceConfig,
    name: &str,
    arguments: &ArgMatches,
) -> Result<Answer, Error> {
    match name {
        "plan" => plan::run(config).await,
        "snapshot" => {
            let signal = Signal {
                source: Some(config.name.clone()),
                action: action(arguments)?,
            };
            send::run(config, &signal).await
        }
        "drop" => drop::run(config, arguments.get_flag("yes")).await,
        name => Err(Error::stop_msg(format!("'{name}' is not a command"))),
    }
}

/// The signal that the arguments of `snapshot` stand for.
fn action(arguments: &ArgMatches) -> Result<Action, Error> {
    let mut tables = Vec::new();
    for table in arguments.get_many::<String>("table").into_iter().flatten() {
        let pattern = TablePattern::parse(table).ok_or_else(|| {
            Error::stop_msg(format!("--table has '{table}'"))
                .remedy("write schema.table or schema.*")
        })?;
        tables.push(pattern);
    }
    let filter = arguments.get_one::<String>("where").cloned();
    let sweep = arguments.get_flag("sweep");
    let action = arguments.get_one::<String>("action").map(String::as_str);
    if action.is_some_and(|action| action != "cancel") && !tables.is_empty() {
        return Err(
            Error::stop_msg("pause and resume apply to all tables").remedy("leave --table out")
        );
    }
    if sweep && filter.is_some() {
        return Err(Error::stop_msg(SWEEP_AND_FILTER).remedy("leave --where or --sweep out"));
    }
    Ok(match action {
        Some("pause") => Action::Pause,
        Some("resume") => Action::Resume,
        Some(_) => Action::Cancel((!tables.is_empty()).then_some(tables)),
        None => Action::Snapshot(vec![Request {
            tables,
            filter,
            sweep,
        }]),
    })
}

#[cfg(test)]
mod tests {
    use super::{action, definitions};
    use crate::run::signals::Action;

    fn parsed(line: &[&str]) -> Result<Action, String> {
        let command = definitions()
            .into_iter()
            .find(|command| command.get_name() == "snapshot")
            .unwrap();
        let line = std::iter::once("snapshot").chain(line.iter().copied());
        let matches = command
            .try_get_matches_from(line)
            .map_err(|e| e.to_string())?;
        action(&matches).map_err(|e| e.to_string())
    }

    #[test]
    fn the_command_line_of_snapshot() {
        let Ok(Action::Snapshot(requests)) =
            parsed(&["--table", "s.t", "--table", "a.*", "--where", "id > 7"])
        else {
            panic!("no snapshot")
        };
        let [request] = &requests[..] else {
            panic!("{requests:?}")
        };
        assert_eq!((request.tables.len(), request.sweep), (2, false));
        assert_eq!(request.filter.as_deref(), Some("id > 7"));
        assert_eq!(parsed(&["pause"]), Ok(Action::Pause));
        assert_eq!(parsed(&["resume"]), Ok(Action::Resume));
        assert_eq!(parsed(&["cancel"]), Ok(Action::Cancel(None)));
        assert!(matches!(
            parsed(&["cancel", "--table", "s.t"]),
            Ok(Action::Cancel(Some(_)))
        ));
        for wrong in [
            &[][..],
            &["stop"],
            &["--table", "t"],
            &["pause", "--table", "s.t"],
            &["cancel", "--sweep"],
            &["--table", "s.t", "--where", "id > 7", "--sweep"],
        ] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }
}
