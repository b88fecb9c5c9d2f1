//! What stands at the end of the log: the last progress record, and the highest `seq` given.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use tributary_runtime::Error;
use tributary_runtime::kafka;
use tributary_schemas::header;

use crate::config::SourceConfig;
use crate::log::progress::Progress;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// How long reading may take in all. Another source's open transaction on the same topic holds us back for
/// its time-out at the most.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// The newest record is near the end: the search begins there and goes back in growing steps.
const FIRST_STEP: i64 = 1_000;

/// The last committed progress record of this source; `None` if there is none.
///
/// Call it behind `init_transactions` only: before, an earlier producer may still commit.
///
/// # Errors
/// Kafka does not answer, or the record is not one of ours.
pub(crate) fn progress(config: &SourceConfig) -> Result<Option<Progress>, Error> {
    let topic = config.progress_topic();
    let key = config.name.as_bytes();
    let end = PartitionEnd::new(config, &topic, 0)?;
    let found = end.last(|message| match message.key() {
        Some(found) if found == key => message.payload().map(<[u8]>::to_vec),
        _ => None,
    })?;
    found
        .map(|value| Progress::parse(&value, &topic))
        .transpose()
}

/// The highest `tributary.seq` in topics with these numbers of partitions; `None` if they hold no record with one.
///
/// # Errors
/// Kafka does not answer.
pub(crate) fn highest_seq(
    config: &SourceConfig,
    topics: &[(String, i32)],
) -> Result<Option<u64>, Error> {
    let mut highest = None;
    for (topic, partitions) in topics {
        for partition in 0..*partitions {
            let end = PartitionEnd::new(config, topic, partition)?;
            // In a partition it never falls: the last record has the highest.
            highest = highest.max(end.last(seq)?);
        }
    }
    Ok(highest)
}

fn seq(message: &BorrowedMessage<'_>) -> Option<u64> {
    let mut headers = message.headers()?.iter();
    let value = headers.find(|found| found.key == header::SEQ)?.value?;
    Some(u64::from_be_bytes(value.try_into().ok()?))
}

/// A partition that is read from its end.
struct PartitionEnd<'a> {
    consumer: BaseConsumer,
    topic: &'a str,
    partition: i32,
    low: i64,
    high: i64,
}

impl<'a> PartitionEnd<'a> {
    fn new(config: &SourceConfig, topic: &'a str, partition: i32) -> Result<Self, Error> {
        let mut client = kafka::client_config(&config.kafka_client(), &config.slot_name());
        client
            .set("group.id", config.slot_name())
            .set("enable.partition.eof", "true")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error");
        let mut consumer = |isolation: &str| -> Result<BaseConsumer, Error> {
            client.set("isolation.level", isolation);
            client.create().map_err(|e| reading(topic, &e))
        };
        // To the others the partition ends before the first transaction that is open, another source's maybe: our own
        // records may be behind it.
        let (low, high) = consumer("read_uncommitted")?
            .fetch_watermarks(topic, partition, REQUEST_TIMEOUT)
            .map_err(|e| reading(topic, &e))?;
        let consumer = consumer("read_committed")?;
        Ok(Self {
            consumer,
            topic,
            partition,
            low,
            high,
        })
    }

    /// What `pick` takes from the last record that it takes something from.
    fn last<T>(
        &self,
        pick: impl Fn(&BorrowedMessage<'_>) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let deadline = Instant::now() + READ_TIMEOUT;
        let (mut end, mut step) = (self.high, FIRST_STEP);
        while end > self.low {
            let begin = (end - step).max(self.low);
            if let Some(found) = self.last_in(begin..end, &pick, deadline)? {
                return Ok(Some(found));
            }
            end = begin;
            step = step.saturating_mul(4);
        }
        Ok(None)
    }

    fn last_in<T>(
        &self,
        range: std::ops::Range<i64>,
        pick: &impl Fn(&BorrowedMessage<'_>) -> Option<T>,
        deadline: Instant,
    ) -> Result<Option<T>, Error> {
        let (topic, partition) = (self.topic, self.partition);
        let mut assignment = TopicPartitionList::new();
        assignment
            .add_partition_offset(topic, partition, Offset::Offset(range.start))
            .map_err(|e| reading(topic, &e))?;
        self.consumer
            .assign(&assignment)
            .map_err(|e| reading(topic, &e))?;
        let mut found = None;
        loop {
            if Instant::now() >= deadline {
                return Err(Error::retry_msg(format!(
                    "the end of topic '{topic}' could not be read within {} s: another producer's transaction is open there",
                    READ_TIMEOUT.as_secs()
                )));
            }
            match self.consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) if message.offset() >= range.end => return Ok(found),
                Some(Ok(message)) => found = pick(&message).or(found),
                // The end of what is committed; the range's end may lie behind an open transaction.
                Some(Err(KafkaError::PartitionEOF(_))) | None => {}
                Some(Err(error)) => return Err(reading(topic, &error)),
            }
            let position = self.consumer.position().map_err(|e| reading(topic, &e))?;
            let reached = position
                .find_partition(topic, partition)
                .map(|found| found.offset());
            if matches!(reached, Some(Offset::Offset(offset)) if offset >= range.end) {
                return Ok(found);
            }
        }
    }
}

fn reading(topic: &str, error: &KafkaError) -> Error {
    kafka::classify(error).context(format!("read the end of topic '{topic}'"))
}
