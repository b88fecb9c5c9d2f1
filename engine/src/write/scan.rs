//! Parts of a topic, read once and apart from the group.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use tokio_util::sync::CancellationToken;
use tributary_runtime::config::KafkaConfig;
use tributary_runtime::kafka::{self, LogContext};
use tributary_runtime::{Error, Policy, Result};

/// How long Kafka may be silent.
const SILENCE: Duration = Duration::from_secs(15);
/// How often a scan looks whether it is wanted still.
const WAIT: Duration = Duration::from_millis(100);

/// By partition: from the first offset to the one before the second.
pub(crate) type Ranges = BTreeMap<i32, (i64, i64)>;

/// Reads a topic. Its calls block.
pub(crate) struct Scan {
    client: BaseConsumer<LogContext>,
    topic: String,
}

impl Scan {
    /// # Errors
    /// Stop: librdkafka refuses the settings.
    pub(crate) fn new(kafka: &KafkaConfig, service: &str, topic: &str) -> Result<Self> {
        let client = kafka::consumer_config(kafka, service)
            .create_with_context(LogContext)
            .map_err(|error| kafka::classify(&error))?;
        Ok(Self {
            client,
            topic: topic.to_owned(),
        })
    }

    /// All that the topic holds; partitions without a record are left out.
    ///
    /// # Errors
    /// Kafka's, by policy.
    pub(crate) fn all(&self) -> Result<Ranges> {
        let metadata = self.client.fetch_metadata(Some(&self.topic), SILENCE);
        let metadata = metadata.map_err(|error| kafka::classify(&error))?;
        let partitions = metadata
            .topics()
            .iter()
            .flat_map(|topic| topic.partitions());
        let mut all = Ranges::new();
        for partition in partitions {
            let (begin, end) = self.watermarks(partition.id())?;
            if begin < end {
                all.insert(partition.id(), (begin, end));
            }
        }
        Ok(all)
    }

    /// Reads what the log still has of these parts, until `take` breaks.
    ///
    /// # Errors
    /// Kafka's, by policy; [`Error::interrupted`] once it is cancelled.
    pub(crate) fn read(
        &self,
        ranges: &Ranges,
        cancel: &CancellationToken,
        mut take: impl FnMut(&BorrowedMessage<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let (mut list, mut left) = (TopicPartitionList::new(), BTreeMap::new());
        for (&partition, &(begin, end)) in ranges {
            let begin = begin.max(self.watermarks(partition)?.0);
            if begin < end {
                list.add_partition_offset(&self.topic, partition, Offset::Offset(begin))
                    .map_err(|error| kafka::classify(&error))?;
                left.insert(partition, end);
            }
        }
        self.client
            .assign(&list)
            .map_err(|error| kafka::classify(&error))?;
        let mut heard = Instant::now();
        while !left.is_empty() {
            if cancel.is_cancelled() {
                return Err(Error::interrupted(format!("read topic {}", self.topic)));
            }
            match self.client.poll(WAIT) {
                Some(Ok(message)) => {
                    heard = Instant::now();
                    let (partition, next) = (message.partition(), message.offset() + 1);
                    let Some(&end) = left.get(&partition) else {
                        continue;
                    };
                    if next <= end && take(&message).is_break() {
                        return Ok(());
                    }
                    if next >= end {
                        left.remove(&partition);
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
            self.pass_what_holds_no_record(&mut left)?;
            if heard.elapsed() > SILENCE {
                return Err(Error::retry_msg("Kafka sends nothing"));
            }
        }
        Ok(())
    }

    /// Control records may stand at an end, and compaction may have left nothing there.
    fn pass_what_holds_no_record(&self, left: &mut BTreeMap<i32, i64>) -> Result<()> {
        let positions = self.client.position();
        let positions = positions.map_err(|error| kafka::classify(&error))?;
        left.retain(|&partition, &mut end| {
            let position = positions.find_partition(&self.topic, partition);
            !matches!(position.map(|one| one.offset()), Some(Offset::Offset(at)) if at >= end)
        });
        Ok(())
    }

    fn watermarks(&self, partition: i32) -> Result<(i64, i64)> {
        let watermarks = self
            .client
            .fetch_watermarks(&self.topic, partition, SILENCE);
        watermarks.map_err(|error| kafka::classify(&error))
    }
}
