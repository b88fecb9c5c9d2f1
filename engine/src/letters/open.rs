//! The letters that are open: put aside, and not replayed since.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use rdkafka::message::Message;
use tokio_util::sync::CancellationToken;
use tributary_runtime::{Error, Result, ResultExt};

use crate::config::SinkConfig;
use crate::topics::TopicPartition;
use crate::write::scan::{Ranges, Scan};
use crate::write::stamp::{Done, Stamp};

/// A letter. Put aside twice, after a crash, it is one.
#[derive(Debug)]
pub(super) struct OpenLetter {
    pub(super) stamp: Stamp,
    /// When it was put aside: milliseconds since 1970.
    pub(super) at_ms: Option<i64>,
    /// Its own place in the dead-letter topic, the newest.
    pub(super) place: (i32, i64),
    /// Its key, in short; `None` where it has none.
    pub(super) key: Option<u64>,
}

/// What a dead-letter topic holds.
#[derive(Debug)]
pub(super) struct OpenLetters {
    pub(super) topic: String,
    /// The oldest first.
    pub(super) letters: Vec<OpenLetter>,
    /// Where it begins and ends.
    pub(super) all: Ranges,
}

/// By who has put it aside, and where it was.
type ByPlace = BTreeMap<(String, TopicPartition, i64), OpenLetter>;

/// By whose letters, where they were, and whether they have a key: where those begin that are open.
type DoneUntil = HashMap<(String, TopicPartition, bool), BTreeMap<i32, i64>>;

/// Reads the dead-letter topic.
///
/// # Errors
/// Kafka does not answer, or refuses; the topic has no name.
pub(super) async fn read(config: SinkConfig) -> Result<OpenLetters> {
    let topic = config.dead_letter_topic().ok_or_else(|| {
        Error::stop_msg("no name for the dead-letter topic follows from `topics`")
            .remedy("set `dead_letter_topic`")
    })?;
    let doing = format!("read the dead-letter topic {topic}");
    let reading = tokio::task::spawn_blocking(move || scan(&config, topic));
    reading.await.map_err(Error::stop)?.doing(|| doing)
}

fn scan(config: &SinkConfig, topic: String) -> Result<OpenLetters> {
    let scan = Scan::new(&config.kafka, &config.name, &topic)?;
    let all = scan.all()?;
    let (mut found, mut done) = (ByPlace::new(), DoneUntil::new());
    scan.read(&all, &CancellationToken::new(), |message| {
        if let Some(stamp) = Stamp::of(message) {
            let of = (stamp.service.clone(), stamp.partition.clone(), stamp.offset);
            let letter = OpenLetter {
                stamp,
                at_ms: message.timestamp().to_millis(),
                place: (message.partition(), message.offset()),
                key: message.key().map(short),
            };
            found.insert(of, letter);
        } else if let Some(said) = Done::of(message) {
            let kinds = [Some(true), said.has_keyless.then_some(false)];
            for has_key in kinds.into_iter().flatten() {
                let of = (said.service.clone(), said.partition.clone(), has_key);
                let until = done.entry(of).or_default();
                for (&partition, &offset) in &said.until {
                    let known = until.entry(partition).or_insert(offset);
                    *known = offset.max(*known);
                }
            }
        }
        ControlFlow::Continue(())
    })?;
    let mut letters: Vec<_> = found.into_values().collect();
    letters.retain(|letter| !is_done(letter, &done));
    letters.sort_by_key(|letter| (letter.at_ms, letter.place));
    Ok(OpenLetters {
        topic,
        letters,
        all,
    })
}

fn is_done(letter: &OpenLetter, done: &DoneUntil) -> bool {
    let (partition, offset) = letter.place;
    let stamp = &letter.stamp;
    let of = (
        stamp.service.clone(),
        stamp.partition.clone(),
        letter.key.is_some(),
    );
    let until = done.get(&of).and_then(|until| until.get(&partition));
    until.is_some_and(|&until| offset < until)
}

/// To count keys, not to tell them.
fn short(key: &[u8]) -> u64 {
    ahash::RandomState::with_seeds(1, 2, 3, 4).hash_one(key)
}
