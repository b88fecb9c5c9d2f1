//! How many records came into topics.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use crate::stack::Stack;

const LIMIT: Duration = Duration::from_secs(30);

pub(super) use crate::oracle::Offsets;

/// The ends of the topics' partitions.
///
/// # Errors
/// The broker does not answer.
pub(super) fn ends(stack: &Stack, topics: &[String]) -> Result<Offsets> {
    let consumer = consumer(stack)?;
    let mut ends = Offsets::new();
    for topic in topics {
        let metadata = consumer.fetch_metadata(Some(topic), LIMIT)?;
        let found = metadata.topics().first().context("no metadata")?;
        for partition in found.partitions() {
            let (_, end) = consumer.fetch_watermarks(topic, partition.id(), LIMIT)?;
            ends.insert((topic.clone(), partition.id()), end);
        }
    }
    Ok(ends)
}

/// Counts the committed records of each topic from these offsets on. All are read: an offset is also what a
/// transaction's end takes.
///
/// # Errors
/// The broker does not answer in time.
pub(super) fn count_since(stack: &Stack, starts: &Offsets) -> Result<BTreeMap<String, u64>> {
    let consumer = consumer(stack)?;
    let mut list = TopicPartitionList::new();
    let mut counts = BTreeMap::new();
    for ((topic, partition), start) in starts {
        list.add_partition_offset(topic, *partition, Offset::Offset(*start))?;
        counts.insert(topic.clone(), 0);
    }
    consumer.assign(&list)?;
    // Nobody writes, so each partition ends once.
    let mut open = starts.len();
    let mut heard = Instant::now();
    while open > 0 {
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                *counts.entry(message.topic().to_owned()).or_default() += 1;
            }
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) => return Err(error.into()),
            None if heard.elapsed() > LIMIT => {
                bail!("{open} partitions were not read to their ends")
            }
            None => continue,
        }
        heard = Instant::now();
    }
    Ok(counts)
}

fn consumer(stack: &Stack) -> Result<BaseConsumer> {
    Ok(ClientConfig::new()
        .set("bootstrap.servers", stack.kafka())
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .set("fetch.queue.backoff.ms", "5")
        .create()?)
}
