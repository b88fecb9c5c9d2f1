//! Reads topics to their end with `read_committed`, decoding with apache-avro.

pub(super) mod plain;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value as Json;

use super::avro_text::{self, Meaning, Named};

const TIMEOUT: Duration = Duration::from_secs(120);
/// How long one answer of the broker may take.
const ANSWER: Duration = Duration::from_secs(15);

/// Per topic and partition the next offset.
pub type Offsets = BTreeMap<(String, i32), i64>;

/// A record of a topic, decoded.
#[derive(Debug, Clone)]
pub struct TopicRecord {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// `tributary.seq`
    pub seq: u64,
    /// `tributary.below`
    pub below: Option<u64>,
    /// The key as canonical text, by column; empty without a key, and for a "gone below" record.
    pub key: BTreeMap<String, String>,
    /// `None` for a tombstone.
    pub change: Option<TopicChange>,
    /// The names of all headers.
    pub headers: Vec<String>,
}

/// The parts of an envelope that are judged.
#[derive(Debug, Clone)]
pub struct TopicChange {
    /// The operation's letter.
    pub op: char,
    /// It was read, or swept, and is no change of the stream: `source.snapshot` is not `false`.
    pub read: bool,
    /// The new row as canonical text, by the columns' names in Postgres.
    pub after: BTreeMap<String, Option<String>>,
}

/// Reads topics; keeps the schemas that it met.
#[derive(Debug)]
pub struct TopicReader {
    brokers: String,
    registry: String,
    http: reqwest::Client,
    schemas: HashMap<u32, Decoder>,
}

#[derive(Debug)]
struct Decoder {
    schema: Schema,
    /// Of the record's own fields, or of the envelope's rows.
    meanings: HashMap<String, Meaning>,
}

impl TopicReader {
    /// A reader for one cluster and registry (the Confluent API's URL).
    pub fn new(brokers: &str, registry: &str) -> Self {
        Self {
            brokers: brokers.to_owned(),
            registry: registry.to_owned(),
            http: crate::http::client(),
            schemas: HashMap::new(),
        }
    }

    /// All committed records of a topic from its beginning to its end, partition by partition.
    ///
    /// # Errors
    /// Kafka or the registry does not answer, or a record does not decode.
    pub async fn read(&mut self, topic: &str) -> Result<Vec<TopicRecord>> {
        let mut records = Vec::new();
        self.visit(topic, |record| records.push(record)).await?;
        records.sort_by_key(|record| (record.partition, record.offset));
        Ok(records)
    }

    /// As [`read`](Self::read), one record after the other; those of a partition are in order.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn visit(&mut self, topic: &str, mut visit: impl FnMut(TopicRecord)) -> Result<()> {
        self.visit_on(&[topic], &mut Offsets::new(), |_, record| visit(record))
            .await
    }

    /// As [`read`](Self::read), of several topics, and from these offsets on, which are moved to the ends.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn read_on(
        &mut self,
        topics: &[&str],
        offsets: &mut Offsets,
    ) -> Result<BTreeMap<String, Vec<TopicRecord>>> {
        let mut records: BTreeMap<String, Vec<TopicRecord>> = topics
            .iter()
            .map(|topic| ((*topic).to_owned(), Vec::new()))
            .collect();
        self.visit_on(topics, offsets, |topic, record| {
            records.entry(topic.to_owned()).or_default().push(record);
        })
        .await?;
        for records in records.values_mut() {
            records.sort_by_key(|record| (record.partition, record.offset));
        }
        Ok(records)
    }

    /// One that sees only what is committed, and stops at a partition's end.
    fn consumer(&self) -> Result<BaseConsumer> {
        Ok(self.consumer_of("read_committed")?)
    }

    /// One that knows where partitions end, with what is not committed yet. A transaction is committed before its markers are in the
    /// partitions, one after the other: who reads to the last stable offsets may see it in one of them and not in the next.
    fn surveyor(&self) -> KafkaResult<BaseConsumer> {
        self.consumer_of("read_uncommitted")
    }

    fn consumer_of(&self, isolation_level: &str) -> KafkaResult<BaseConsumer> {
        ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", "oracle")
            .set("isolation.level", isolation_level)
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .set("fetch.wait.max.ms", "20")
            .create()
    }

    async fn visit_on(
        &mut self,
        topics: &[&str],
        offsets: &mut Offsets,
        mut visit: impl FnMut(&str, TopicRecord),
    ) -> Result<()> {
        let consumer = self.consumer()?;
        let ends = ends(&consumer, || self.surveyor(), topics, offsets)?;
        let mut heard = Instant::now();
        while !passed(&consumer, &ends, offsets)? {
            ensure!(
                heard.elapsed() < TIMEOUT,
                "{topics:?} cannot be read to the ends {ends:?}: is a transaction open?"
            );
            // What has come in is taken before the positions are looked at again.
            let mut wait = Duration::from_millis(20);
            while let Some(polled) = consumer.poll(wait) {
                wait = Duration::ZERO;
                match polled {
                    Ok(message) => {
                        visit(message.topic(), self.decode(&message).await?);
                        heard = Instant::now();
                    }
                    Err(KafkaError::PartitionEOF(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    async fn decode(&mut self, message: &BorrowedMessage<'_>) -> Result<TopicRecord> {
        let place = format!(
            "{}[{}] offset {}",
            message.topic(),
            message.partition(),
            message.offset()
        );
        let header = |name: &str| {
            message
                .headers()?
                .iter()
                .find(|header| header.key == name)?
                .value?
                .try_into()
                .map(u64::from_be_bytes)
                .ok()
        };
        let mut key = BTreeMap::new();
        if let Some(bytes) = message.key() {
            let (Value::Record(fields), meanings) =
                self.datum(bytes).await.with_context(|| place.clone())?
            else {
                bail!("{place}: the key is not a record");
            };
            for (name, value) in &fields {
                let default = Meaning::default();
                let meaning = meanings.get(name).unwrap_or(&default);
                let text = avro_text::text(value, meaning)?;
                key.insert(
                    column(name, meaning),
                    text.with_context(|| format!("{place}: null in the key"))?,
                );
            }
        }
        let change = match message.payload() {
            None => None,
            Some(bytes) => {
                let (value, meanings) = self.datum(bytes).await.with_context(|| place.clone())?;
                Some(envelope(value, meanings).with_context(|| place.clone())?)
            }
        };
        let headers = message
            .headers()
            .map(|headers| headers.iter().map(|header| header.key.to_owned()).collect());
        Ok(TopicRecord {
            partition: message.partition(),
            offset: message.offset(),
            seq: header("tributary.seq").with_context(|| format!("{place}: no tributary.seq"))?,
            below: header("tributary.below"),
            key: if header("tributary.below").is_some() {
                BTreeMap::new()
            } else {
                key
            },
            change,
            headers: headers.unwrap_or_default(),
        })
    }

    async fn datum(&mut self, bytes: &[u8]) -> Result<(Value, &HashMap<String, Meaning>)> {
        let [0, a, b, c, d, body @ ..] = bytes else {
            bail!("not the wire format")
        };
        let id = u32::from_be_bytes([*a, *b, *c, *d]);
        if !self.schemas.contains_key(&id) {
            let url = format!("{}/schemas/ids/{id}", self.registry);
            // Apicurio was seen to leave a request without an answer, and to answer the next at once.
            let answer = match self.http.get(&url).send().await {
                Err(error) if error.is_timeout() => self.http.get(&url).send().await,
                answer => answer,
            };
            let answer: Json = answer?.error_for_status()?.json().await?;
            let text = answer["schema"]
                .as_str()
                .context("no schema in the registry's answer")?;
            self.schemas.insert(id, Decoder::new(text)?);
        }
        let decoder = &self.schemas[&id];
        let mut body = body;
        let value = GenericDatumReader::builder(&decoder.schema)
            .build()?
            .read_value(&mut body)?;
        ensure!(body.is_empty(), "bytes follow the Avro datum");
        Ok((value, &decoder.meanings))
    }
}

impl Decoder {
    fn new(text: &str) -> Result<Self> {
        let json: Json = serde_json::from_str(text)?;
        let field = |record: &Json, name: &str| {
            record["fields"]
                .as_array()?
                .iter()
                .find(|field| field["name"] == name)
                .map(|field| field["type"].clone())
        };
        let named = Named::of(&json);
        // Of an envelope the rows count, whose record is defined in `before`.
        let record = match field(&json, "before") {
            Some(before) => before[1].clone(),
            None => json.clone(),
        };
        ensure!(record["fields"].is_array(), "not a record");
        let meanings = Meaning::fields(&record, &named).into_iter().collect();
        Ok(Self {
            schema: Schema::parse_str(text)?,
            meanings,
        })
    }
}

/// The ends of all partitions behind these offsets; the consumer is assigned to them.
fn ends(
    consumer: &BaseConsumer,
    surveyor: impl Fn() -> KafkaResult<BaseConsumer>,
    topics: &[&str],
    offsets: &Offsets,
) -> Result<Offsets> {
    let mut assignment = TopicPartitionList::new();
    let mut ends = Offsets::new();
    let mut asked = surveyor()?;
    for topic in topics {
        let metadata = answered(|| consumer.fetch_metadata(Some(topic), ANSWER))?;
        let partitions = metadata.topics().first().context("no such topic")?;
        for partition in partitions.partitions() {
            let place = ((*topic).to_owned(), partition.id());
            let (low, high) = answered(|| {
                let found = asked.fetch_watermarks(topic, partition.id(), ANSWER);
                if found.is_err() {
                    // One that has once heard of no such partition was seen to say so for two minutes.
                    asked = surveyor()?;
                }
                found
            })?;
            let from = low.max(offsets.get(&place).copied().unwrap_or_default());
            if high > from {
                assignment.add_partition_offset(topic, partition.id(), Offset::Offset(from))?;
                ends.insert(place, high);
            }
        }
    }
    consumer.assign(&assignment)?;
    Ok(ends)
}

/// Asks until there is an answer: a topic that was created a moment ago has no leader that the client knows of, and a
/// busy broker may close connections.
fn answered<T>(mut ask: impl FnMut() -> KafkaResult<T>) -> Result<T> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match ask() {
            Err(error) if Instant::now() >= deadline => return Err(error.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
            Ok(found) => return Ok(found),
        }
    }
}

/// Whether all ends are passed; keeps the positions. Control records count too: the position, not the last record,
/// tells the end.
fn passed(consumer: &BaseConsumer, ends: &Offsets, offsets: &mut Offsets) -> Result<bool> {
    let position = consumer.position()?;
    let mut all = true;
    for (place, end) in ends {
        let at = position.find_partition(&place.0, place.1);
        match at.map(|element| element.offset()) {
            Some(Offset::Offset(offset)) => {
                offsets.insert(place.clone(), offset);
                all &= offset >= *end;
            }
            _ => all = false,
        }
    }
    Ok(all)
}

/// The column that a field stands for.
fn column(field: &str, meaning: &Meaning) -> String {
    meaning.column.clone().unwrap_or_else(|| field.to_owned())
}

fn envelope(value: Value, meanings: &HashMap<String, Meaning>) -> Result<TopicChange> {
    let Value::Record(fields) = value else {
        bail!("the value is not a record")
    };
    let (mut op, mut read) = (None, false);
    let mut after = BTreeMap::new();
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("source", Value::Record(source)) => read = is_read(&source),
            ("op", Value::String(text)) => op = text.chars().next(),
            ("after", Value::Union(_, row)) => {
                if let Value::Record(columns) = *row {
                    for (name, value) in columns {
                        let meaning = meanings
                            .get(&name)
                            .with_context(|| format!("no type of column {name}"))?;
                        let text = avro_text::text(&value, meaning)
                            .with_context(|| format!("column {name}"))?;
                        after.insert(column(&name, meaning), text);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(TopicChange {
        op: op.context("no op")?,
        read,
        after,
    })
}

fn is_read(source: &[(String, Value)]) -> bool {
    source.iter().any(|(name, value)| match value {
        Value::Union(_, value) if name == "snapshot" => {
            matches!(&**value, Value::String(text) if text != "false")
        }
        _ => false,
    })
}
