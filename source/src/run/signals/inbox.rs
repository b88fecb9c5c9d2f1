//! Reads the signals topic beside the stream, on a thread of its own.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;
use tributary_runtime::{Error, ResultExt, kafka};

use super::signal::Signal;
use crate::config::SourceConfig;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(200);
/// How often the log says that the topic cannot be read.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// A record of the signals topic.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) offset: i64,
    /// The signal, or why it is none.
    pub(crate) signal: Result<Signal, String>,
}

/// The signals behind an offset, as they come; dropping it ends the thread.
pub(crate) struct Inbox {
    received: mpsc::Receiver<Received>,
}

impl Inbox {
    /// Begins to read at `from`; without it behind what is there. Returns the offset at which it begins.
    ///
    /// # Errors
    /// The topic cannot be found or read.
    pub(crate) async fn start(
        config: &SourceConfig,
        from: Option<i64>,
    ) -> Result<(Self, i64), Error> {
        let topic = config.signals_topic();
        let mut client = kafka::client_config(&config.kafka_client(), &config.slot_name());
        client
            .set("group.id", config.slot_name())
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("queued.max.messages.kbytes", "256")
            .set("fetch.message.max.bytes", "131072");
        let starting = tokio::task::spawn_blocking(move || open(&client, &topic, from));
        let (consumer, topic, begin) = starting.await.map_err(Error::stop)??;
        let (output, received) = mpsc::channel(16);
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || read(&consumer, &topic, &output))
            .map_err(Error::retry)?;
        Ok((Self { received }, begin))
    }

    /// The next signal. Cancel safe.
    ///
    /// # Errors
    /// The thread has ended, which it does not.
    pub(crate) async fn next(&mut self) -> Result<Received, Error> {
        let received = self.received.recv().await;
        received.ok_or_else(|| Error::retry_msg("the reader of the signals topic has ended"))
    }
}

/// A consumer that stands where reading begins. A topic that was created again, or whose signals have expired, is
/// read from its beginning.
fn open(
    client: &ClientConfig,
    topic: &str,
    from: Option<i64>,
) -> Result<(BaseConsumer<kafka::LogContext>, String, i64), Error> {
    let doing = |e: KafkaError| kafka::classify(&e);
    let opened = || {
        let consumer: BaseConsumer<kafka::LogContext> = client
            .create_with_context(kafka::LogContext)
            .map_err(doing)?;
        let (low, high) = consumer
            .fetch_watermarks(topic, 0, REQUEST_TIMEOUT)
            .map_err(doing)?;
        let begin = match from {
            None => high,
            Some(from) if (low..=high).contains(&from) => from,
            Some(from) => {
                tracing::warn!(
                    topic,
                    from,
                    low,
                    high,
                    "signals have expired, or the topic was created again: it is read from its beginning"
                );
                low
            }
        };
        seek(&consumer, topic, Offset::Offset(begin)).map_err(doing)?;
        Ok((consumer, topic.to_owned(), begin))
    };
    opened().doing(|| format!("read topic '{topic}'"))
}

fn seek(
    consumer: &BaseConsumer<kafka::LogContext>,
    topic: &str,
    to: Offset,
) -> Result<(), KafkaError> {
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, to)?;
    consumer.assign(&assignment)
}

/// Reads until nobody listens any more. What keeps it from reading does not stop the stream.
fn read(consumer: &BaseConsumer<kafka::LogContext>, topic: &str, output: &mpsc::Sender<Received>) {
    let mut warned: Option<Instant> = None;
    while !output.is_closed() {
        let error = match consumer.poll(POLL) {
            None => continue,
            Some(Ok(message)) => {
                let received = Received {
                    offset: message.offset(),
                    signal: Signal::parse(message.payload()),
                };
                if output.blocking_send(received).is_err() {
                    return;
                }
                continue;
            }
            Some(Err(error)) => error,
        };
        if warned.is_none_or(|warned| warned.elapsed() >= WARN_INTERVAL) {
            warned = Some(Instant::now());
            tracing::warn!(topic, %error, "signals cannot be read; trying again");
        }
        if is_out_of_range(&error) {
            // What is refused here is refused at the next attempt too, and said then.
            let _ = seek(consumer, topic, Offset::Beginning);
        }
        thread::sleep(POLL);
    }
}

fn is_out_of_range(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)
    )
}
