//! Reads a source's last progress record back from the log.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use tributary_runtime::Error;
use tributary_runtime::kafka;

use crate::config::SourceConfig;
use crate::progress::Progress;

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
pub(crate) fn read(config: &SourceConfig) -> Result<Option<Progress>, Error> {
    let topic = config.progress_topic();
    let doing =
        |e: KafkaError| kafka::classify(&e).context(format!("read progress from topic '{topic}'"));
    let mut client = kafka::client_config(&config.kafka_client(), &config.slot_name());
    client
        .set("group.id", config.slot_name())
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error");
    let consumer: BaseConsumer = client.create().map_err(doing)?;
    let (low, high) = consumer
        .fetch_watermarks(&topic, 0, REQUEST_TIMEOUT)
        .map_err(doing)?;
    let deadline = Instant::now() + READ_TIMEOUT;
    let (mut end, mut step) = (high, FIRST_STEP);
    while end > low {
        let begin = (end - step).max(low);
        if let Some(value) = newest(
            &consumer,
            &topic,
            config.name.as_bytes(),
            begin..end,
            deadline,
        )? {
            return Progress::parse(&value, &topic).map(Some);
        }
        end = begin;
        step = step.saturating_mul(4);
    }
    Ok(None)
}

/// The newest value with this key in a range of offsets.
fn newest(
    consumer: &BaseConsumer,
    topic: &str,
    key: &[u8],
    range: std::ops::Range<i64>,
    deadline: Instant,
) -> Result<Option<Vec<u8>>, Error> {
    let doing =
        |e: KafkaError| kafka::classify(&e).context(format!("read progress from topic '{topic}'"));
    let mut assignment = TopicPartitionList::new();
    assignment
        .add_partition_offset(topic, 0, Offset::Offset(range.start))
        .map_err(doing)?;
    consumer.assign(&assignment).map_err(doing)?;
    let mut found = None;
    loop {
        if Instant::now() >= deadline {
            return Err(Error::retry_msg(format!(
                "the progress record in topic '{topic}' could not be read within {} s: another producer's transaction is open there",
                READ_TIMEOUT.as_secs()
            )));
        }
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) if message.offset() >= range.end => return Ok(found),
            Some(Ok(message)) => {
                if message.key() == Some(key) {
                    found = message.payload().map(<[u8]>::to_vec);
                }
            }
            // The end of what is committed; the range's end may lie behind an open transaction.
            Some(Err(KafkaError::PartitionEOF(_))) | None => {}
            Some(Err(error)) => return Err(doing(error)),
        }
        let position = consumer.position().map_err(doing)?;
        let reached = position
            .find_partition(topic, 0)
            .map(|found| found.offset());
        if matches!(reached, Some(Offset::Offset(offset)) if offset >= range.end) {
            return Ok(found);
        }
    }
}
