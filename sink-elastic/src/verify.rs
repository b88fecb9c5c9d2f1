//! `verify`: compares topics' indices with the tables that they come from, while both change. What is compared, and when a
//! difference is one, is [`tributary_postgres::verify`]'s.

mod answer;
mod key_text;
mod replica;
mod wanted;

use clap::{ArgMatches, Command};
use tributary_engine::Log;
use tributary_postgres::catalog::TablePattern;
use tributary_postgres::verify::{Comparison, OriginConfig, Progress, TableReader};
use tributary_runtime::cli::Answer;
use tributary_runtime::{Error, Result, ResultExt};
use tributary_schemas::table::Table;

use crate::config::Config;
use crate::naming;
use crate::voice::{Teller, say};
use answer::Verified;
use replica::IndexReplica;
use wanted::VerifyOptions;

/// The command's name.
pub(crate) const NAME: &str = "verify";

/// For the command line.
pub(crate) fn definition() -> Command {
    wanted::definition(NAME)
}

/// Does what the command asks for.
///
/// # Errors
/// What is in the way of comparing one of the indices that the command names; where it names none, that is part of the answer.
pub(crate) async fn command(config: Config, arguments: &ArgMatches) -> Result<Answer> {
    let asked = VerifyOptions::read(arguments);
    let origin = config.postgres.clone().ok_or_else(|| {
        Error::stop_msg("it is not said where the tables are: the configuration has no [postgres]")
            .remedy("set `postgres.url` and `postgres.password` (or password_file), of a user who may SELECT the tables")
    })?;
    let topics = topics(&config, &asked).await?;
    let mut all = Vec::new();
    for topic in topics {
        let alias = naming::alias(&config.elasticsearch.index_prefix, &topic);
        let compared = compare(&config, &origin, &topic, &asked).await;
        match compared.doing(|| format!("compare '{alias}' with its table")) {
            Ok(compared) => all.push(compared),
            Err(error) if asked.names_all() => {
                say(&error.to_string());
                all.push(Verified::refused(alias, topic, error.to_string()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(answer::of(&all))
}

async fn compare(
    config: &Config,
    origin: &OriginConfig,
    topic: &str,
    asked: &VerifyOptions,
) -> Result<Verified> {
    let begun = std::time::Instant::now();
    let log = Log::of_all_written(&config.engine(), topic)?;
    let name = log.table();
    let application = format!("tributary-sink-elastic {}", config.name);
    let table = (name.schema.as_str(), name.table.as_str());
    let mut reader = TableReader::open(origin, &application, table, asked.share).await?;
    let mut replica = IndexReplica::open(config, topic, log, reader.table().table()).await?;
    let estimate = reader.table().estimate;
    let mut voice = Voice::of(replica.alias(), estimate);
    let mut tell = |progress| voice.tell(progress);
    let comparison = Comparison::new(&mut reader, &mut replica, asked.limits, &mut tell);
    let report = comparison.run().await?;
    Ok(Verified {
        alias: replica.alias().to_owned(),
        topic: topic.to_owned(),
        table: reader.table().display_name(),
        remedy: remedy(reader.table().table()),
        seconds: begun.elapsed().as_secs_f64(),
        outcome: Ok(report),
    })
}

/// What makes the index equal, whatever differs.
fn remedy(table: &Table) -> String {
    let pattern = TablePattern::exact(&table.schema, &table.name).to_string();
    let pattern = pattern.replace('\'', r"'\''");
    format!("tributary-source snapshot --table '{pattern}' --sweep")
}

/// Says how far a comparison is.
struct Voice {
    rows: Teller,
    copies: Teller,
    estimate: Option<u64>,
    rows_read: u64,
}

impl Voice {
    fn of(alias: &str, estimate: Option<u64>) -> Self {
        Self {
            rows: Teller::counting("rows", alias),
            copies: Teller::counting("documents", alias),
            estimate,
            rows_read: 0,
        }
    }

    fn tell(&mut self, progress: Progress) {
        let advance = |done, all: Option<u64>| tributary_engine::Advance {
            done,
            left: all.map(|all| all.saturating_sub(done)),
            waits_for: None,
        };
        match progress {
            Progress::Rows(rows) => {
                self.rows_read = rows;
                self.rows.tell(&advance(rows, self.estimate));
            }
            Progress::Copies(copies) => self.copies.tell(&advance(copies, Some(self.rows_read))),
            Progress::Doubts(doubts) => tracing::debug!(doubts, "looks again at what differs"),
        }
    }
}

/// The topics whose indices are meant.
async fn topics(config: &Config, asked: &VerifyOptions) -> Result<Vec<String>> {
    let prefix = &config.elasticsearch.index_prefix;
    let topics = Log::topics(&config.engine()).await?;
    if asked.names_all() {
        return Ok(topics);
    }
    let mut wanted = Vec::new();
    let by_alias = asked.aliases.iter().map(|alias| {
        let found = topics
            .iter()
            .find(|topic| naming::alias(prefix, topic) == *alias);
        found.ok_or_else(|| format!("'{alias}' is the alias of no topic that `topics` matches"))
    });
    let by_name = asked.topics.iter().map(|name| {
        let found = topics.iter().find(|topic| *topic == name);
        found.ok_or_else(|| format!("there is no topic '{name}' in Kafka that `topics` matches"))
    });
    for topic in by_alias.chain(by_name) {
        let topic = topic.map_err(|what| {
            Error::stop_msg(what).remedy("see `plan`, which names topics and aliases")
        })?;
        if !wanted.contains(topic) {
            wanted.push(topic.clone());
        }
    }
    Ok(wanted)
}
