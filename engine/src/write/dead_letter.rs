//! Records put aside: as received, with headers that say where they come from and why.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::sync::OnceCell;

use crate::config::SinkConfig;
use crate::flow::fault::RecordFault;
use crate::flow::records::Record;
use crate::topics::TopicPartition;
use tributary_runtime::config::KafkaConfig;
use tributary_runtime::kafka::{self, LogContext};
use tributary_runtime::{Error, Result, ResultExt};

/// The header with the topic that a letter was on.
pub const TOPIC: &str = "tributary.dead-letter.topic";
/// The header with the partition that a letter was in, in decimal.
pub const PARTITION: &str = "tributary.dead-letter.partition";
/// The header with the offset that a letter had, in decimal.
pub const OFFSET: &str = "tributary.dead-letter.offset";
/// The header that says what was wrong with a letter.
pub const ERROR: &str = "tributary.dead-letter.error";
/// The header with the name of the service that put a letter aside.
pub const SERVICE: &str = "tributary.dead-letter.service";

/// A letter is a record and five headers: the topic takes larger messages than others do by default.
const MAX_LETTER_BYTES: &str = "16777216";
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Whether a letter is in the log.
pub(crate) type Put<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// Where records are put aside.
pub(crate) trait Letters: fmt::Debug + Send + Sync {
    /// Puts a record aside; once this returns it is in the log for good. After a crash in between, the
    /// same record may be put aside twice.
    ///
    /// # Errors
    /// Kafka's, by policy.
    fn put<'a>(
        &'a self,
        partition: &'a TopicPartition,
        record: Record<'a>,
        fault: &'a RecordFault,
    ) -> Put<'a>;
}

/// Writes letters to a topic. Connects with the first one.
pub(crate) struct DeadLetters {
    topic: String,
    service: String,
    kafka: KafkaConfig,
    producer: OnceCell<FutureProducer<LogContext>>,
}

impl DeadLetters {
    pub(crate) fn new(config: &SinkConfig, topic: String) -> Self {
        Self {
            topic,
            service: config.name.clone(),
            kafka: config.kafka.clone(),
            producer: OnceCell::new(),
        }
    }

    async fn send(
        &self,
        partition: &TopicPartition,
        record: Record<'_>,
        fault: &RecordFault,
    ) -> Result<()> {
        let producer = self.producer.get_or_try_init(|| self.connect()).await?;
        let mut letter: FutureRecord<'_, [u8], [u8]> =
            FutureRecord::to(&self.topic).headers(self.headers(partition, record, fault));
        letter.key = record.key;
        letter.payload = record.value;
        producer
            .send(letter, Duration::ZERO)
            .await
            .map(|_| ())
            .map_err(|(error, _)| kafka::classify(&error))
            .doing(|| format!("write to the dead-letter topic {}", self.topic))
    }

    fn headers(
        &self,
        partition: &TopicPartition,
        record: Record<'_>,
        fault: &RecordFault,
    ) -> OwnedHeaders {
        let received = record
            .headers()
            .fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header { key, value })
            });
        [
            (TOPIC, partition.topic.clone()),
            (PARTITION, partition.partition.to_string()),
            (OFFSET, record.offset.to_string()),
            (ERROR, fault.what.clone()),
            (SERVICE, self.service.clone()),
        ]
        .iter()
        .fold(received, |headers, (key, value)| {
            headers.insert(Header {
                key,
                value: Some(value),
            })
        })
    }

    async fn connect(&self) -> Result<FutureProducer<LogContext>> {
        self.create_topic()
            .await
            .doing(|| format!("create the dead-letter topic {}", self.topic))?;
        kafka::producer_config(&self.kafka, &self.service)
            .set("message.max.bytes", MAX_LETTER_BYTES)
            .set(
                "message.timeout.ms",
                REQUEST_TIMEOUT.as_millis().to_string(),
            )
            .create_with_context(LogContext)
            .map_err(|error| kafka::classify(&error))
    }

    async fn create_topic(&self) -> Result<()> {
        let admin = kafka::admin(&self.kafka, &self.service)?;
        let topic = NewTopic::new(&self.topic, 1, TopicReplication::Fixed(-1))
            .set("cleanup.policy", "delete")
            .set("retention.ms", "-1")
            .set("retention.bytes", "-1")
            .set("max.message.bytes", MAX_LETTER_BYTES);
        let options = AdminOptions::new()
            .request_timeout(Some(REQUEST_TIMEOUT))
            .operation_timeout(Some(REQUEST_TIMEOUT));
        let results = admin
            .create_topics([&topic], &options)
            .await
            .map_err(|error| kafka::classify(&error))?;
        match results.into_iter().next() {
            Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
            Some(Err((_, code))) => Err(kafka::classify(&KafkaError::AdminOp(code))),
            None => Err(Error::retry_msg("Kafka answers for no topic")),
        }
    }
}

impl Letters for DeadLetters {
    fn put<'a>(
        &'a self,
        partition: &'a TopicPartition,
        record: Record<'a>,
        fault: &'a RecordFault,
    ) -> Put<'a> {
        Box::pin(self.send(partition, record, fault))
    }
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}
