//! Records put aside: as received, with headers that say where they come from and why.

mod gathering;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
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
use crate::write::lettered::Pass;
use crate::write::replay::Order;
use crate::write::stamp::Done;
pub use crate::write::stamp::{
    ERROR, OFFSET, PARTITION, REPLAYED, REPLAYED_KEYLESS, SERVICE, TOPIC,
};
use tokio_util::sync::CancellationToken;
use tributary_runtime::config::KafkaConfig;
use tributary_runtime::kafka::{self, LogContext};
use tributary_runtime::{Error, Result, ResultExt};

/// A letter is a record and five headers: the topic takes larger messages than others do by default.
const MAX_LETTER_BYTES: &str = "16777216";
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Whether a letter is in the log.
pub(crate) type Put<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// What a pass over letters has found.
pub(crate) type Gathered<'a> = Pin<Box<dyn Future<Output = Result<Pass>> + Send + 'a>>;

/// What a pass over the letters of a partition is to find, and in which bounds.
#[derive(Debug, Clone)]
pub(crate) struct Search {
    pub(crate) order: Order,
    /// The log is read up to here.
    pub(crate) until: i64,
    /// Records without a key may say that the table was emptied.
    pub(crate) takes_keyless: bool,
    pub(crate) bytes_max: usize,
    pub(crate) keys_max: usize,
    pub(crate) cancel: CancellationToken,
}

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

    /// Finds the newest records of the keys of letters.
    ///
    /// # Errors
    /// Kafka's, by policy; that it is cancelled.
    fn gather(&self, search: Search) -> Gathered<'_>;

    /// Notes that these letters were replayed.
    ///
    /// # Errors
    /// Kafka's, by policy.
    fn note_replayed<'a>(&'a self, order: &'a Order) -> Put<'a>;
}

/// Which topic, and whose letters.
#[derive(Debug)]
struct LetterTopic {
    topic: String,
    service: String,
    kafka: KafkaConfig,
}

/// Writes letters to a topic. Connects with the first one.
pub(crate) struct DeadLetters {
    place: Arc<LetterTopic>,
    producer: OnceCell<FutureProducer<LogContext>>,
}

impl DeadLetters {
    pub(crate) fn new(config: &SinkConfig, topic: String) -> Self {
        Self {
            place: Arc::new(LetterTopic {
                topic,
                service: config.name.clone(),
                kafka: config.kafka.clone(),
            }),
            producer: OnceCell::new(),
        }
    }

    async fn send(
        &self,
        partition: &TopicPartition,
        record: Record<'_>,
        fault: &RecordFault,
    ) -> Result<()> {
        let mut letter: FutureRecord<'_, [u8], [u8]> =
            FutureRecord::to(&self.place.topic).headers(self.headers(partition, record, fault));
        letter.key = record.key;
        letter.payload = record.value;
        self.produce(letter).await
    }

    async fn produce(&self, message: FutureRecord<'_, [u8], [u8]>) -> Result<()> {
        let producer = self.producer.get_or_try_init(|| self.connect()).await?;
        producer
            .send(message, Duration::ZERO)
            .await
            .map(|_| ())
            .map_err(|(error, _)| kafka::classify(&error))
            .doing(|| format!("write to the dead-letter topic {}", self.place.topic))
    }

    async fn say_replayed(&self, order: &Order) -> Result<()> {
        let until = order.letters.iter().map(|(&at, &(_, end))| (at, end));
        let done = Done {
            service: self.place.service.clone(),
            partition: order.at(),
            until: until.collect(),
            has_keyless: order.keyless,
        };
        let headers = done.headers();
        let headers = headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| {
                let value = Some(value);
                headers.insert(Header { key, value })
            });
        self.produce(FutureRecord::to(&self.place.topic).headers(headers))
            .await
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
            (SERVICE, self.place.service.clone()),
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
            .doing(|| format!("create the dead-letter topic {}", self.place.topic))?;
        kafka::producer_config(&self.place.kafka, &self.place.service)
            .set("message.max.bytes", MAX_LETTER_BYTES)
            .set(
                "message.timeout.ms",
                REQUEST_TIMEOUT.as_millis().to_string(),
            )
            .create_with_context(LogContext)
            .map_err(|error| kafka::classify(&error))
    }

    async fn create_topic(&self) -> Result<()> {
        let admin = kafka::admin(&self.place.kafka, &self.place.service)?;
        let topic = NewTopic::new(&self.place.topic, 1, TopicReplication::Fixed(-1))
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

    fn gather(&self, search: Search) -> Gathered<'_> {
        Box::pin(self.pass(search))
    }

    fn note_replayed<'a>(&'a self, order: &'a Order) -> Put<'a> {
        Box::pin(self.say_replayed(order))
    }
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters")
            .field("topic", &self.place.topic)
            .finish_non_exhaustive()
    }
}
