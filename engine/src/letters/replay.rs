//! `dead-letters replay`: has the running sink read the keys of letters again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};
use tributary_runtime::cli::{Answer, Running, address, exit, yes};
use tributary_runtime::{Error, Result};

use super::open::{self, OpenLetters};
use crate::config::SinkConfig;
use crate::topics::TopicPartition;
use crate::write::replay::{Counts, Fate, Order, REQUEST, Verdict};
use crate::write::scan::Ranges;

/// How often the sink is asked how far it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// For the command line.
pub(super) fn definition() -> Command {
    let topic = Arg::new("topic")
        .long("topic")
        .value_name("TOPIC")
        .action(ArgAction::Append)
        .help("Only letters of this topic; may be repeated; without it, all");
    Command::new("replay")
        .about(
            "Has the running sink read the log again for the keys of these records, and write the newest record of each; says what it \
             would read, and wants --yes",
        )
        .args([topic, yes(), address()])
}

/// The open letters of one partition.
#[derive(Debug, Default)]
struct Pile {
    letters: usize,
    keys: BTreeSet<u64>,
    /// The lowest offset of one.
    from: i64,
    without_key: usize,
    /// Where the first one stands, by partition of the dead-letter topic.
    begin: BTreeMap<i32, i64>,
}

type Piles = BTreeMap<TopicPartition, Pile>;

/// Says what is to be done; does it once that is confirmed.
///
/// # Errors
/// Kafka or the running sink does not answer, or refuses.
pub(super) async fn replay(
    config: SinkConfig,
    arguments: &ArgMatches,
    running: Running,
) -> Result<Answer> {
    let topics: Vec<_> = arguments
        .get_many::<String>("topic")
        .into_iter()
        .flatten()
        .cloned()
        .collect();
    let service = config.name.clone();
    let open = open::read(config).await?;
    let piles = piles(&open, &service, &topics);
    let orders = orders(&open, &piles);
    let plan = plan_text(&open.topic, &piles);
    let plan_json = json!({
        "topic": open.topic,
        "plan": piles.iter().map(pile_json).collect::<Vec<_>>(),
    });
    if orders.is_empty() {
        return Ok(Answer::ok(plan, plan_json));
    }
    if !arguments.get_flag("yes") {
        return Ok(Answer::unconfirmed(plan, plan_json));
    }
    let running = running.or_at(arguments);
    let asked = running
        .control(REQUEST, &json!({ "orders": orders }))
        .await?;
    let verdicts = wait(&running, &asked["run"]).await?;
    Ok(answer(&open.topic, &verdicts))
}

fn piles(open: &OpenLetters, service: &str, topics: &[String]) -> Piles {
    let mut piles = Piles::new();
    let ours = open.letters.iter().filter(|letter| {
        let topic = &letter.stamp.partition.topic;
        letter.stamp.service == service && (topics.is_empty() || topics.contains(topic))
    });
    for letter in ours {
        let offset = letter.stamp.offset;
        let pile = piles.entry(letter.stamp.partition.clone());
        let pile = pile.or_insert_with(|| Pile {
            from: offset,
            ..Pile::default()
        });
        pile.letters += 1;
        match letter.key {
            Some(key) => drop(pile.keys.insert(key)),
            None => pile.without_key += 1,
        }
        pile.from = pile.from.min(offset);
        let (partition, place) = letter.place;
        let begin = pile.begin.entry(partition).or_insert(place);
        *begin = place.min(*begin);
    }
    piles
}

/// What the running sink is asked for. Letters that come after these are none of them.
fn orders(open: &OpenLetters, piles: &Piles) -> Vec<Order> {
    let of_pile = |(at, pile): (&TopicPartition, &Pile)| {
        let letters: Ranges = pile
            .begin
            .iter()
            .filter_map(|(&partition, &begin)| {
                let &(_, end) = open.all.get(&partition)?;
                Some((partition, (begin, end)))
            })
            .collect();
        Order {
            topic: at.topic.clone(),
            partition: at.partition,
            letters,
            keyless: true,
        }
    };
    piles.iter().map(of_pile).collect()
}

/// Waits until the sink has ended what it was asked for.
async fn wait(running: &Running, run: &Value) -> Result<Vec<Verdict>> {
    loop {
        let status = running.get("status").await?;
        let replay = &status["details"]["replay"];
        if replay["run"] != *run {
            return Err(Error::stop_msg(
                "the sink has forgotten the replay: it was started again meanwhile",
            )
            .remedy("run the command again; what was replayed already is not harmed by that"));
        }
        if replay["is_under_way"] == false {
            return serde_json::from_value(replay["partitions"].clone()).map_err(Error::stop);
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

fn answer(topic: &str, verdicts: &[Verdict]) -> Answer {
    let mut topics: BTreeMap<&str, Counts> = BTreeMap::new();
    for verdict in verdicts {
        *topics.entry(&verdict.topic).or_default() += verdict.counts;
    }
    let mut text = String::new();
    for (topic, counts) in &topics {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{topic}: {} applied, {} superseded by something newer, {} put aside again, {} gone from the log",
            counts.applied, counts.superseded, counts.put_aside, counts.gone
        );
    }
    for verdict in verdicts {
        if let (Fate::Replayed, Some(reason)) = (&verdict.state, &verdict.reason) {
            let _ = writeln!(text, "{reason}");
        }
    }
    let open = verdicts
        .iter()
        .filter(|verdict| verdict.state != Fate::Replayed);
    for verdict in open.clone() {
        let at = format!("{}[{}]", verdict.topic, verdict.partition);
        let _ = writeln!(text, "{at}: {}", explained(verdict));
    }
    let topics: Vec<_> = topics
        .iter()
        .map(|(topic, counts)| {
            let mut topic = json!({ "topic": topic });
            if let (Value::Object(topic), Ok(Value::Object(counts))) =
                (&mut topic, serde_json::to_value(counts))
            {
                topic.extend(counts);
            }
            topic
        })
        .collect();
    Answer {
        text,
        json: json!({ "topic": topic, "topics": topics, "partitions": verdicts }),
        code: match open.count() {
            0 => exit::OK,
            _ => exit::PROBLEMS,
        },
    }
}

/// Why letters are still open.
fn explained(verdict: &Verdict) -> String {
    match verdict.state {
        Fate::Replayed => "replayed".to_owned(),
        Fate::NotHeld => "another instance has the partition, or none: run the command where that one runs, or with its --address"
            .to_owned(),
        Fate::Paused => "the topic is paused: `resume` it, and run the command again".to_owned(),
        Fate::Interrupted => "the partition was given away, or the sink was stopped: run the command again".to_owned(),
        Fate::Failed => format!(
            "not replayed: {}",
            verdict.reason.as_deref().unwrap_or_default()
        ),
    }
}

fn plan_text(topic: &str, piles: &Piles) -> String {
    if piles.is_empty() {
        return format!("there is nothing to replay on {topic}\n");
    }
    let mut text = String::new();
    for (at, pile) in piles {
        let mut of = vec![format!("{} keys", pile.keys.len())];
        if pile.keys.is_empty() {
            of.clear();
        }
        if pile.without_key > 0 {
            of.push(format!("{} rows without a key", pile.without_key));
        }
        let _ = writeln!(
            text,
            "{at}: {} letters of {}, whose records are read again from offset {}",
            pile.letters,
            of.join(" and "),
            pile.from
        );
    }
    text
}

fn pile_json((at, pile): (&TopicPartition, &Pile)) -> Value {
    json!({
        "topic": at.topic,
        "partition": at.partition,
        "letters": pile.letters,
        "keys": pile.keys.len(),
        "from": pile.from,
        "without_key": pile.without_key,
    })
}
