//! `snapshot`: writes a signal, and says where it is.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use serde_json::{Value, json};
use tributary_runtime::cli::Answer;
use tributary_runtime::{Error, ResultExt, kafka};

use crate::config::SourceConfig;
use crate::log::topics::Topics;
use crate::run::signals::Signal;

const TIMEOUT: Duration = Duration::from_secs(20);

/// Writes one signal.
pub(super) async fn run(config: &SourceConfig, signal: &Signal) -> Result<Answer, Error> {
    let topic = config.signals_topic();
    let topics = std::slice::from_ref(&topic);
    if Topics::new(config)?.described(topics).await?.is_empty() {
        return Err(Error::stop_msg(format!("topic '{topic}' does not exist"))
            .remedy("start the source: it creates the topic. Or correct kafka.topic_prefix"));
    }
    let value = signal.encode();
    // What the source would pass over is not written.
    Signal::parse(Some(&value))
        .map_err(|reason| Error::stop_msg(format!("the signal is not a valid one: {reason}")))?;
    let offset = tokio::task::block_in_place(|| write(config, &topic, &value))
        .doing(|| format!("write to topic '{topic}'"))?;
    let text = format!(
        "written to {topic} at offset {offset}; the source applies it while it runs, `status` shows how far it is\n"
    );
    let signal: Value = serde_json::from_slice(&value).unwrap_or_default();
    let json = json!({ "topic": topic, "offset": offset, "signal": signal });
    Ok(Answer::ok(text, json))
}

/// Writes the record and returns its offset.
fn write(config: &SourceConfig, topic: &str, value: &[u8]) -> Result<i64, Error> {
    let mut client = kafka::producer_config(&config.kafka_client(), &config.slot_name());
    client
        .set("linger.ms", "0")
        .set("message.timeout.ms", TIMEOUT.as_millis().to_string());
    let producer: BaseProducer<Delivery> = client
        .create_with_context(Delivery::default())
        .map_err(|e| kafka::classify(&e))?;
    let record = BaseRecord::<str, [u8]>::to(topic)
        .partition(0)
        .key(&config.name)
        .payload(value);
    producer
        .send(record)
        .map_err(|(e, _)| kafka::classify(&e))?;
    producer.flush(TIMEOUT).map_err(|e| kafka::classify(&e))?;
    let delivery = &producer.context().outcome;
    let outcome = delivery
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    match outcome {
        Some(Ok(offset)) => Ok(offset),
        Some(Err(error)) => Err(kafka::classify(&error)),
        None => Err(Error::stop_msg(
            "the brokers have not acknowledged the record",
        )),
    }
}

/// What became of the one record.
#[derive(Default)]
struct Delivery {
    outcome: Mutex<Option<Result<i64, KafkaError>>>,
}

impl ClientContext for Delivery {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        kafka::LogContext.log(level, facility, message);
    }
}

impl ProducerContext for Delivery {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let outcome = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(error.clone()),
        };
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    }
}
