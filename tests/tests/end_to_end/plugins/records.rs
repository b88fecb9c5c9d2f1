//! Records as they are on the wire, without what two sources of one database must differ in.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

const TIMEOUT: Duration = Duration::from_secs(60);

/// A record without schema ids, and without the time at which the source handled it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawRecord {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) schema_ids: Vec<u32>,
}

impl RawRecord {
    fn of(message: &BorrowedMessage<'_>) -> Result<Self> {
        let mut schema_ids = Vec::new();
        let mut body = |bytes: &[u8]| -> Result<Vec<u8>> {
            let [0, a, b, c, d, body @ ..] = bytes else {
                bail!("not the wire format")
            };
            schema_ids.push(u32::from_be_bytes([*a, *b, *c, *d]));
            Ok(body.to_vec())
        };
        let key = message.key().map(&mut body).transpose()?;
        let value = message.payload().map(&mut body).transpose()?;
        let mut headers = Vec::new();
        for header in message.headers().into_iter().flat_map(Headers::iter) {
            let value = header.value.unwrap_or_default();
            let value = match header.key {
                "__debezium.newkey" | "__debezium.oldkey" => body(value)?,
                _ => value.to_vec(),
            };
            headers.push((header.key.to_owned(), value));
        }
        Ok(Self {
            key,
            value: value.map(without_handled_at).transpose()?,
            headers,
            schema_ids,
        })
    }

    /// With another name of the source, which must have the same length.
    pub(crate) fn renamed(&self, from: &str, to: &str) -> Self {
        let rename = |bytes: &Option<Vec<u8>>| {
            bytes
                .as_ref()
                .map(|bytes| replace(bytes, from.as_bytes(), to.as_bytes()))
        };
        Self {
            key: rename(&self.key),
            value: rename(&self.value),
            ..self.clone()
        }
    }

    pub(crate) fn seq(&self) -> u64 {
        let (_, value) = self
            .headers
            .iter()
            .find(|(name, _)| name == "tributary.seq")
            .unwrap();
        u64::from_be_bytes(value.as_slice().try_into().unwrap())
    }
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    for at in 0..bytes.len().saturating_sub(from.len() - 1) {
        if bytes[at..].starts_with(from) {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
    }
    bytes
}

/// `ts_ms`, `ts_us` and `ts_ns` end an envelope: three times the branch of a union, and a long as a varint, of which
/// the last byte alone has no high bit.
fn without_handled_at(mut value: Vec<u8>) -> Result<Vec<u8>> {
    for _ in 0..3 {
        value.pop().context("no time")?;
        while value.last().is_some_and(|byte| *byte >= 0x80) {
            value.pop();
        }
        ensure!(value.pop() == Some(2), "a time is null");
    }
    Ok(value)
}

/// All committed records of a topic of one partition.
pub(crate) async fn read(brokers: &str, topic: &str) -> Result<Vec<RawRecord>> {
    let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
    tokio::task::spawn_blocking(move || read_blocking(&brokers, &topic)).await?
}

fn read_blocking(brokers: &str, topic: &str) -> Result<Vec<RawRecord>> {
    let consumer_of = |isolation_level: &str| -> Result<BaseConsumer> {
        Ok(ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("group.id", "plugins")
            .set("isolation.level", isolation_level)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .create()?)
    };
    let consumer = consumer_of("read_committed")?;
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, Offset::Beginning)?;
    consumer.assign(&assignment)?;
    // With a transaction whose markers are still to come.
    let surveyor = consumer_of("read_uncommitted")?;
    let (_, high) = surveyor.fetch_watermarks(topic, 0, Duration::from_secs(15))?;
    let mut records = Vec::new();
    let deadline = Instant::now() + TIMEOUT;
    loop {
        ensure!(
            Instant::now() < deadline,
            "{topic} cannot be read to its end"
        );
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => records.push(RawRecord::of(&message)?),
            None | Some(Err(KafkaError::PartitionEOF(_))) => {}
            Some(Err(error)) => return Err(error.into()),
        }
        let position = consumer.position()?;
        let at = position
            .find_partition(topic, 0)
            .map(|element| element.offset());
        if matches!(at, Some(Offset::Offset(offset)) if offset >= high) {
            return Ok(records);
        }
    }
}

/// A schema's text.
pub(crate) async fn schema(registry: &str, id: u32) -> Result<String> {
    let client = tributary_tests::http::client();
    let answer = client
        .get(format!("{registry}/schemas/ids/{id}"))
        .send()
        .await?;
    let answer: serde_json::Value = answer.error_for_status()?.json().await?;
    answer["schema"]
        .as_str()
        .map(str::to_owned)
        .context("no schema")
}
