//! What the command line asks for.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use tributary_postgres::verify::Limits;

/// What is to be compared, and what that may take.
#[derive(Debug)]
pub(super) struct VerifyOptions {
    pub(super) aliases: Vec<String>,
    pub(super) topics: Vec<String>,
    /// In percent.
    pub(super) share: u8,
    pub(super) limits: Limits,
}

pub(super) fn definition(name: &'static str) -> Command {
    let several = |id: &'static str, value: &'static str, help: &'static str| {
        let arg = Arg::new(id).long(id).value_name(value).help(help);
        arg.action(ArgAction::Append)
    };
    let number =
        |id: &'static str, value: &'static str, default: &'static str, help: &'static str| {
            let arg = Arg::new(id).long(id).value_name(value).help(help);
            arg.default_value(default)
        };
    Command::new(name)
        .about(
            "Compares indices with the tables that they come from, while both change, and names the documents that differ; changes nothing. \
             Needs [postgres] in the configuration, and that source and service run",
        )
        .args([
            several("index", "ALIAS", "The index with this alias; may be given several times. Without --index and --topic all of the service"),
            several("topic", "TOPIC", "The index of this topic; may be given several times"),
            number("share", "PERCENT", "20", "How much of one process' time on the Postgres server reading may take: it pauses in between")
                .value_parser(value_parser!(u8).range(1..=100)),
            number("settle", "SECONDS", "60", "How long what differs is looked at again, until it is certain that it is not on its way")
                .value_parser(value_parser!(u64).range(1..=86_400)),
            number("ids", "COUNT", "100", "How many documents of each kind of difference are named; all are counted")
                .value_parser(value_parser!(u32)),
        ])
}

impl VerifyOptions {
    pub(super) fn read(arguments: &ArgMatches) -> Self {
        let texts = |id: &str| {
            let texts = arguments.get_many::<String>(id);
            texts.into_iter().flatten().cloned().collect()
        };
        Self {
            aliases: texts("index"),
            topics: texts("topic"),
            share: arguments.get_one("share").copied().unwrap_or(20),
            limits: Limits {
                settle: Duration::from_secs(arguments.get_one("settle").copied().unwrap_or(60)),
                ids: arguments
                    .get_one::<u32>("ids")
                    .map_or(100, |ids| *ids as usize),
            },
        }
    }

    /// Whether all indices of the service are meant.
    pub(super) const fn names_all(&self) -> bool {
        self.aliases.is_empty() && self.topics.is_empty()
    }
}
