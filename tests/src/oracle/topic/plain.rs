//! Records as plain JSON, and keys alone: for topics that are no table's, and for very many records.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message, OwnedMessage};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value as Json;

use super::{ANSWER, TIMEOUT, TopicReader, answered};

/// A record as its schemas say.
#[derive(Debug, Clone, PartialEq)]
pub struct PlainRecord {
    /// Its partition.
    pub partition: i32,
    /// `tributary.seq`
    pub seq: u64,
    /// The key; null without one.
    pub key: Json,
    /// The value; null for a tombstone.
    pub value: Json,
    /// The names of all headers.
    pub headers: Vec<String>,
}

impl TopicReader {
    /// All committed records of a topic, in the order of their `seq`.
    ///
    /// # Errors
    /// Kafka or the registry does not answer, or a record does not decode.
    pub async fn read_plain(&mut self, topic: &str) -> Result<Vec<PlainRecord>> {
        let mut messages = Vec::new();
        self.each_message(topic, |message| {
            messages.push(message);
            Ok(())
        })?;
        let mut records = Vec::new();
        for message in messages {
            let key = self.plain(message.key()).await?;
            let value = self.plain(message.payload()).await?;
            let headers = message
                .headers()
                .map(|headers| headers.iter().map(|header| header.key.to_owned()).collect());
            records.push(PlainRecord {
                partition: message.partition(),
                seq: seq(&message)?,
                key,
                value,
                headers: headers.unwrap_or_default(),
            });
        }
        records.sort_by_key(|record| record.seq);
        Ok(records)
    }

    /// `seq` and key of every committed record, partition by partition; the key without the wire format's prefix.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn visit_keys(&self, topic: &str, mut visit: impl FnMut(u64, &[u8])) -> Result<()> {
        self.each_message(topic, |message| {
            let key = message.key().context("no key")?;
            visit(seq(&message)?, key.get(5..).context("a short key")?);
            Ok(())
        })
    }

    fn each_message(
        &self,
        topic: &str,
        mut visit: impl FnMut(OwnedMessage) -> Result<()>,
    ) -> Result<()> {
        let (consumer, surveyor) = (self.consumer()?, self.surveyor()?);
        let metadata = answered(|| consumer.fetch_metadata(Some(topic), ANSWER))?;
        let found = metadata.topics().first().context("no such topic")?;
        for partition in 0..i32::try_from(found.partitions().len())? {
            let mut assignment = TopicPartitionList::new();
            assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
            consumer.assign(&assignment)?;
            let (low, high) = answered(|| surveyor.fetch_watermarks(topic, partition, ANSWER))?;
            let mut last = Instant::now();
            let mut at = low;
            while at < high {
                ensure!(
                    last.elapsed() < TIMEOUT,
                    "{topic}[{partition}] cannot be read to its end: is a transaction open?"
                );
                match consumer.poll(Duration::from_millis(100)) {
                    Some(Ok(message)) => {
                        at = message.offset() + 1;
                        last = Instant::now();
                        visit(message.detach())?;
                        continue;
                    }
                    None | Some(Err(KafkaError::PartitionEOF(_))) => {}
                    Some(Err(error)) => return Err(error.into()),
                }
                // Control records count too: the position, not the last record, tells the end.
                let position = consumer.position()?;
                let position = position.find_partition(topic, partition);
                if let Some(Offset::Offset(offset)) = position.map(|element| element.offset()) {
                    at = offset;
                }
            }
        }
        Ok(())
    }

    async fn plain(&mut self, bytes: Option<&[u8]>) -> Result<Json> {
        let Some(bytes) = bytes else {
            return Ok(Json::Null);
        };
        let (value, _) = self.datum(bytes).await?;
        Ok(value.try_into()?)
    }
}

fn seq(message: &OwnedMessage) -> Result<u64> {
    let headers = message.headers().context("no headers")?;
    let header = headers.iter().find(|header| header.key == "tributary.seq");
    let value = header.and_then(|header| header.value);
    let value = value.context("no tributary.seq")?;
    Ok(u64::from_be_bytes(value.try_into()?))
}
