//! `dead-letters list`: what was put aside, and why.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use clap::{Arg, ArgMatches, Command, value_parser};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use tributary_runtime::cli::Answer;
use tributary_runtime::kafka::{self, LogContext};
use tributary_runtime::{Error, Policy, Result, ResultExt};

use crate::config::SinkConfig;
use crate::topics::TopicPartition;
use crate::write::dead_letter::{ERROR, OFFSET, PARTITION, SERVICE, TOPIC};

const NAME: &str = "dead-letters";
/// How many lines are printed for people.
const LINES: usize = 100;
/// How long Kafka may be silent.
const SILENCE: Duration = Duration::from_secs(15);

/// A record that was put aside: where it was, and what is said of it. Put aside twice, after a crash, it is one.
#[derive(Debug)]
struct Letter {
    error: String,
    service: String,
    /// When it was put aside: milliseconds since 1970.
    at_ms: Option<i64>,
    /// Its own place in the dead-letter topic, the newest.
    place: (i32, i64),
}

/// For the command line.
pub fn commands() -> Vec<Command> {
    let lines = Arg::new("lines")
        .long("lines")
        .value_name("COUNT")
        .value_parser(value_parser!(usize))
        .help(format!(
            "How many are printed, the newest ({LINES} without it); JSON has all"
        ));
    let list = Command::new("list")
        .about("Says which records were put aside, where they were, and why; changes nothing")
        .arg(lines);
    vec![
        Command::new(NAME)
            .about("Looks at the records that were put aside (on_error = \"dead-letter\")")
            .subcommand_required(true)
            .subcommand(list),
    ]
}

/// Does one of [`commands`].
///
/// # Errors
/// Kafka does not answer, or refuses; the topic has no name.
pub async fn command(config: SinkConfig, name: &str, arguments: &ArgMatches) -> Result<Answer> {
    let Some(("list", arguments)) = arguments.subcommand() else {
        return Err(Error::stop_msg(format_args!("'{name}' wants `list`")));
    };
    let lines = arguments.get_one("lines").copied().unwrap_or(LINES);
    let topic = config.dead_letter_topic().ok_or_else(|| {
        Error::stop_msg("no name for the dead-letter topic follows from `topics`")
            .remedy("set `dead_letter_topic`")
    })?;
    let letters = tokio::task::spawn_blocking({
        let topic = topic.clone();
        move || read(&config, &topic)
    });
    let letters = letters.await.map_err(Error::stop)?;
    let letters = letters.doing(|| format!("read the dead-letter topic {topic}"))?;
    Ok(Answer::ok(
        text(&topic, &letters, lines),
        json!({"topic": topic, "letters": letters.iter().map(as_json).collect::<Vec<_>>()}),
    ))
}

/// By where the records were.
type ByPlace = BTreeMap<(String, i32, i64), Letter>;

/// All letters, the oldest first.
fn read(config: &SinkConfig, topic: &str) -> Result<Vec<(TopicPartition, i64, Letter)>> {
    let client: BaseConsumer<LogContext> = kafka::consumer_config(&config.kafka, &config.name)
        .create_with_context(LogContext)
        .map_err(|error| kafka::classify(&error))?;
    let ends = ends(&client, topic)?;
    let mut list = TopicPartitionList::new();
    for &partition in ends.keys() {
        list.add_partition_offset(topic, partition, Offset::Beginning)
            .map_err(|error| kafka::classify(&error))?;
    }
    client
        .assign(&list)
        .map_err(|error| kafka::classify(&error))?;
    let (mut found, mut left, mut heard) = (ByPlace::new(), ends, Instant::now());
    while !left.is_empty() {
        match client.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                heard = Instant::now();
                left.retain(|&partition, &mut end| {
                    partition != message.partition() || message.offset() + 1 < end
                });
                if let Some((place, letter)) = letter(&message) {
                    found.insert(place, letter);
                }
                continue;
            }
            Some(Err(error)) => {
                let error = kafka::classify(&error);
                if error.policy() == Policy::Stop {
                    return Err(error);
                }
            }
            None => {}
        }
        // Control records may stand at the end.
        let positions = client.position().map_err(|error| kafka::classify(&error))?;
        left.retain(|&partition, &mut end| {
            let position = positions.find_partition(topic, partition);
            !matches!(position.map(|one| one.offset()), Some(Offset::Offset(at)) if at >= end)
        });
        if heard.elapsed() > SILENCE {
            return Err(Error::retry_msg("Kafka sends nothing"));
        }
    }
    let mut letters: Vec<_> = found
        .into_iter()
        .map(|((topic, partition, offset), letter)| {
            (TopicPartition { topic, partition }, offset, letter)
        })
        .collect();
    letters.sort_by_key(|(_, _, letter)| (letter.at_ms, letter.place));
    Ok(letters)
}

/// Where the topic's partitions end; those without a record are left out.
fn ends(client: &BaseConsumer<LogContext>, topic: &str) -> Result<BTreeMap<i32, i64>> {
    let metadata = client.fetch_metadata(Some(topic), SILENCE);
    let metadata = metadata.map_err(|error| kafka::classify(&error))?;
    let partitions = metadata
        .topics()
        .iter()
        .flat_map(|topic| topic.partitions());
    let mut ends = BTreeMap::new();
    for partition in partitions {
        let watermarks = client.fetch_watermarks(topic, partition.id(), SILENCE);
        let (begin, end) = watermarks.map_err(|error| kafka::classify(&error))?;
        if begin < end {
            ends.insert(partition.id(), end);
        }
    }
    Ok(ends)
}

/// `None` for a message that says of itself that it is something else.
fn letter(message: &BorrowedMessage<'_>) -> Option<((String, i32, i64), Letter)> {
    let text = |name: &str| {
        let mut headers = message.headers()?.iter();
        let value = headers.find(|header| header.key == name)?.value?;
        std::str::from_utf8(value).ok().map(str::to_owned)
    };
    let place = (
        text(TOPIC)?,
        text(PARTITION)?.parse().ok()?,
        text(OFFSET)?.parse().ok()?,
    );
    let letter = Letter {
        error: text(ERROR)?,
        service: text(SERVICE).unwrap_or_default(),
        at_ms: message.timestamp().to_millis(),
        place: (message.partition(), message.offset()),
    };
    Some((place, letter))
}

fn as_json((partition, offset, letter): &(TopicPartition, i64, Letter)) -> Value {
    json!({
        "topic": partition.topic,
        "partition": partition.partition,
        "offset": offset,
        "error": letter.error,
        "service": letter.service,
        "at_ms": letter.at_ms,
        "letter": {"partition": letter.place.0, "offset": letter.place.1},
    })
}

fn text(topic: &str, letters: &[(TopicPartition, i64, Letter)], lines: usize) -> String {
    let mut text = match letters.len() {
        0 => format!("nothing was put aside on {topic}\n"),
        1 => format!("1 record was put aside on {topic}\n"),
        count => format!("{count} records were put aside on {topic}\n"),
    };
    let left_out = letters.len().saturating_sub(lines);
    if left_out > 0 {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "the oldest {left_out} are left out: --lines");
    }
    for (partition, offset, letter) in &letters[left_out..] {
        let _ = writeln!(text, "{partition} offset {offset}: {}", letter.error);
    }
    text
}
