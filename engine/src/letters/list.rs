//! `dead-letters list`: what was put aside, and why.

use std::fmt::Write as _;

use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::{Value, json};
use tributary_runtime::Result;
use tributary_runtime::cli::Answer;

use super::open::{self, OpenLetter};
use crate::config::SinkConfig;

/// How many lines are printed for people.
const LINES: usize = 100;

/// For the command line.
pub(super) fn definition() -> Command {
    let lines = Arg::new("lines")
        .long("lines")
        .value_name("COUNT")
        .value_parser(value_parser!(usize))
        .help(format!(
            "How many are printed, the newest ({LINES} without it); JSON has all"
        ));
    Command::new("list")
        .about("Says which records were put aside and not replayed since, where they were, and why; changes nothing")
        .arg(lines)
}

/// Does it.
///
/// # Errors
/// Kafka does not answer, or refuses; the topic has no name.
pub(super) async fn list(config: SinkConfig, arguments: &ArgMatches) -> Result<Answer> {
    let lines = arguments.get_one("lines").copied().unwrap_or(LINES);
    let open = open::read(config).await?;
    let (topic, letters) = (&open.topic, &open.letters);
    Ok(Answer::ok(
        text(topic, letters, lines),
        json!({"topic": topic, "letters": letters.iter().map(as_json).collect::<Vec<_>>()}),
    ))
}

fn as_json(letter: &OpenLetter) -> Value {
    let stamp = &letter.stamp;
    json!({
        "topic": stamp.partition.topic,
        "partition": stamp.partition.partition,
        "offset": stamp.offset,
        "error": stamp.error,
        "service": stamp.service,
        "at_ms": letter.at_ms,
        "letter": {"partition": letter.place.0, "offset": letter.place.1},
    })
}

fn text(topic: &str, letters: &[OpenLetter], lines: usize) -> String {
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
    for OpenLetter { stamp, .. } in &letters[left_out..] {
        let _ = writeln!(
            text,
            "{} offset {}: {}",
            stamp.partition, stamp.offset, stamp.error
        );
    }
    text
}
