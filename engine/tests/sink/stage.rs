//! Topics, records and running sinks of a test, on the real Kafka and registry.

#[path = "running.rs"]
pub(crate) mod running;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use tokio::sync::OnceCell;
use tributary_engine::{BatchConfig, OnError, OnUnfitTarget, SinkConfig};
use tributary_runtime::cli::{self, Answer};
use tributary_runtime::config::KafkaConfig;
use tributary_runtime::registry::Registry;
use tributary_schemas::{header, wire};

pub(crate) use running::start;

const TIMEOUT: Duration = Duration::from_secs(30);

const KEY_SCHEMA: &str =
    r#"{"type":"record","name":"test.Key","fields":[{"name":"id","type":"long"}]}"#;
const TRUNCATE_SCHEMA: &str = r#"{"type":"record","name":"test.TruncateKey","fields":[
    {"name":"source","type":"string"},{"name":"schema","type":"string"},{"name":"table","type":"string"}]}"#;
pub(crate) const VALUE_SCHEMA: &str = r#"{"type":"record","name":"test.Envelope","fields":[
    {"name":"before","type":["null",{"type":"record","name":"test.Value","fields":[
        {"name":"id","type":"long"},{"name":"number","type":"long"},{"name":"text","type":"string"}]}]},
    {"name":"after","type":["null","test.Value"]},
    {"name":"source","type":{"type":"record","name":"test.Source","fields":[{"name":"ts_us","type":"long"}]}},
    {"name":"op","type":"string"}]}"#;

/// A test's own topics and schema ids.
pub(crate) struct Stage {
    pub(crate) prefix: String,
    kafka: KafkaConfig,
    admin: AdminClient<DefaultClientContext>,
    pub(crate) producer: FutureProducer,
    key_id: u32,
    truncate_id: u32,
    value_id: u32,
}

/// A record to send.
pub(crate) struct Outgoing {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(&'static str, Vec<u8>)>,
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: start the local stack (`make up`) and load its environment")
    })
}

/// Registers the schemas, once per process: Apicurio answers 409 to two first registrations at once.
async fn schema_ids(url: &str) -> [u32; 3] {
    static IDS: OnceCell<[u32; 3]> = OnceCell::const_new();
    let ids = IDS.get_or_init(async || {
        let registry = Registry::new(url).unwrap();
        let register = async |subject: &str, schema: &str| {
            let subject = format!("loop-test-{subject}");
            registry.register(&subject, schema).await.unwrap()
        };
        [
            register("key", KEY_SCHEMA).await,
            register("truncate-key", TRUNCATE_SCHEMA).await,
            register("value", VALUE_SCHEMA).await,
        ]
    });
    *ids.await
}

impl Stage {
    /// A prefix that no other test and no earlier run has, and the schemas registered.
    pub(crate) async fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let prefix = format!(
            "loop-{name}-{}-{}",
            since.as_millis(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let kafka = KafkaConfig {
            brokers: vec![variable("TRIBUTARY_KAFKA")],
            registry: variable("TRIBUTARY_REGISTRY"),
        };
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", kafka.brokers.join(","));
        let [key_id, truncate_id, value_id] = schema_ids(&kafka.registry).await;
        Self {
            key_id,
            truncate_id,
            value_id,
            admin: client.create().unwrap(),
            producer: client.create().unwrap(),
            prefix,
            kafka,
        }
    }

    /// Registers the schemas of a topic's values, and of its keys if it has any, as a source does before the first record.
    pub(crate) async fn register(&self, topic: &str, value: &str, has_key: bool) {
        let registry = Registry::new(&self.kafka.registry).unwrap();
        if has_key {
            let subject = format!("{topic}-key");
            registry.register(&subject, KEY_SCHEMA).await.unwrap();
        }
        let subject = format!("{topic}-value");
        registry.register(&subject, value).await.unwrap();
    }

    /// The test's topic of a table.
    pub(crate) fn topic(&self, table: &str) -> String {
        format!("{}.s.{table}", self.prefix)
    }

    pub(crate) async fn create(&self, topic: &str, partitions: i32) {
        self.create_with(topic, partitions, &[]).await;
    }

    /// A topic with settings of its own.
    pub(crate) async fn create_with(
        &self,
        topic: &str,
        partitions: i32,
        settings: &[(&str, &str)],
    ) {
        let topic = settings.iter().fold(
            NewTopic::new(topic, partitions, TopicReplication::Fixed(1)),
            |topic, (key, value)| topic.set(key, value),
        );
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
        let created = self.admin.create_topics([&topic], &options).await.unwrap();
        created[0].as_ref().unwrap();
    }

    /// Deletes a topic, and creates it again once it is gone.
    pub(crate) async fn recreate(&self, topic: &str, partitions: i32) {
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
        let deleted = self.admin.delete_topics(&[topic], &options).await.unwrap();
        deleted[0].as_ref().unwrap();
        let deadline = tokio::time::Instant::now() + TIMEOUT;
        loop {
            let made = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
            let created = self.admin.create_topics([&made], &options).await.unwrap();
            if created[0].is_ok() {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{:?}", created[0]);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Gives a topic more partitions. A producer that knows the topic would not see them for minutes: another one is made.
    pub(crate) async fn grow(&mut self, topic: &str, partitions: usize) {
        let grown = NewPartitions::new(topic, partitions);
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
        let grown = self
            .admin
            .create_partitions([&grown], &options)
            .await
            .unwrap();
        grown[0].as_ref().unwrap();
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", self.kafka.brokers.join(","));
        self.producer = client.create().unwrap();
    }

    /// Deletes the group's offsets of a topic's partition, as somebody might by hand.
    pub(crate) async fn forget_offsets(&self) {
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
        let group = format!("{}-sink", self.prefix);
        let deleted = self.admin.delete_groups(&[&group], &options).await.unwrap();
        deleted[0].as_ref().unwrap();
    }

    /// Deletes the records below an offset, as a retention time would.
    pub(crate) async fn delete_below(&self, topic: &str, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset))
            .unwrap();
        let deleted = self.admin.delete_records(&list, &AdminOptions::new()).await;
        deleted.unwrap();
    }

    pub(crate) async fn send(&self, topic: &str, partition: i32, record: Outgoing) {
        self.enqueue(topic, partition, &record)
            .await
            .unwrap()
            .unwrap();
    }

    /// Sends many records; the order is kept.
    pub(crate) async fn send_all(
        &self,
        topic: &str,
        partition: i32,
        records: impl IntoIterator<Item = Outgoing>,
    ) {
        let mut sent = Vec::new();
        for record in records {
            sent.push(self.enqueue(topic, partition, &record));
            if sent.len() == 1_000 {
                for sent in sent.drain(..) {
                    sent.await.unwrap().unwrap();
                }
            }
        }
        for sent in sent {
            sent.await.unwrap().unwrap();
        }
    }

    fn enqueue(
        &self,
        topic: &str,
        partition: i32,
        outgoing: &Outgoing,
    ) -> rdkafka::producer::DeliveryFuture {
        let mut headers = OwnedHeaders::new();
        for (key, value) in &outgoing.headers {
            headers = headers.insert(Header {
                key,
                value: Some(value),
            });
        }
        let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic)
            .partition(partition)
            .headers(headers);
        record.key = outgoing.key.as_deref();
        record.payload = outgoing.value.as_deref();
        match self.producer.send_result(record) {
            Ok(delivery) => delivery,
            Err((error, _)) => panic!("{error}"),
        }
    }

    /// A change of a row with a version.
    pub(crate) fn change(&self, op: char, id: i64, number: i64, seq: u64) -> Outgoing {
        self.wide_change(op, id, number, seq, 1)
    }

    /// The same with a text of so many bytes.
    pub(crate) fn wide_change(
        &self,
        op: char,
        id: i64,
        number: i64,
        seq: u64,
        bytes: usize,
    ) -> Outgoing {
        let mut value = wire::prefix(self.value_id).to_vec();
        long(&mut value, 0);
        if matches!(op, 'd' | 't') {
            long(&mut value, 0);
        } else {
            long(&mut value, 1);
            long(&mut value, id);
            long(&mut value, number);
            long(&mut value, i64::try_from(bytes).unwrap());
            value.resize(value.len() + bytes, b'x');
        }
        long(&mut value, 1_700_000_000_000_000);
        long(&mut value, 1);
        value.push(u8::try_from(op).unwrap());
        Outgoing {
            key: Some(self.key(id)),
            value: Some(value),
            headers: vec![(header::SEQ, seq.to_be_bytes().to_vec())],
        }
    }

    pub(crate) fn tombstone(&self, id: i64, seq: u64) -> Outgoing {
        Outgoing {
            value: None,
            ..self.change('d', id, 0, seq)
        }
    }

    /// A change as other sources write it: without a version.
    pub(crate) fn foreign(&self, op: char, id: i64, number: i64) -> Outgoing {
        Outgoing {
            headers: Vec::new(),
            ..self.change(op, id, number, 1)
        }
    }

    /// A truncate as Debezium writes it: without a key.
    pub(crate) fn foreign_truncate(&self) -> Outgoing {
        Outgoing {
            key: None,
            ..self.foreign('t', 0, 0)
        }
    }

    /// "Rows below are gone".
    pub(crate) fn gone_below(&self, below: u64, seq: u64) -> Outgoing {
        let mut outgoing = self.change('t', 0, 0, seq);
        let key = [&wire::prefix(self.truncate_id)[..], b"\x02s\x02s\x02t"];
        outgoing.key = Some(key.concat());
        outgoing
            .headers
            .push((header::BELOW, below.to_be_bytes().to_vec()));
        outgoing
    }

    fn key(&self, id: i64) -> Vec<u8> {
        let mut key = wire::prefix(self.key_id).to_vec();
        long(&mut key, id);
        key
    }

    pub(crate) fn value_id(&self) -> u32 {
        self.value_id
    }

    pub(crate) fn kafka(&self) -> &KafkaConfig {
        &self.kafka
    }

    /// A sink's configuration; the group has the stage's name.
    pub(crate) fn config(&self, topics: &[&str]) -> SinkConfig {
        SinkConfig {
            name: format!("{}-sink", self.prefix),
            topics: topics.iter().map(|&topic| topic.to_owned()).collect(),
            kafka: self.kafka.clone(),
            batch: BatchConfig::default(),
            on_error: OnError::Stop,
            dead_letter_topic: None,
            on_unfit_target: OnUnfitTarget::Stop,
        }
    }

    /// The group's committed offset.
    pub(crate) fn committed(&self, topic: &str, partition: i32) -> Option<i64> {
        let consumer = self.consumer(&format!("{}-sink", self.prefix));
        committed(&consumer, topic, partition)
    }

    /// The partition's end.
    pub(crate) fn end(&self, topic: &str, partition: i32) -> i64 {
        let consumer = self.consumer("loop-test-ends");
        let (_, end) = consumer
            .fetch_watermarks(topic, partition, TIMEOUT)
            .unwrap();
        end
    }

    /// The first records of a topic's only partition.
    pub(crate) fn read(&self, topic: &str, count: usize) -> Vec<OwnedMessage> {
        let consumer = self.consumer("loop-test-reader");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Beginning)
            .unwrap();
        consumer.assign(&list).unwrap();
        let messages = (0..count).map(|_| match consumer.poll(TIMEOUT) {
            Some(message) => message.unwrap().detach(),
            None => panic!("fewer than {count} records in {topic}"),
        });
        messages.collect()
    }

    fn consumer(&self, group: &str) -> BaseConsumer {
        ClientConfig::new()
            .set("bootstrap.servers", self.kafka.brokers.join(","))
            .set("group.id", group)
            .set("isolation.level", "read_committed")
            .create()
            .unwrap()
    }

    /// Waits until the group has committed an offset; panics after a minute.
    pub(crate) async fn until_committed(&self, topic: &str, partition: i32, offset: i64) {
        let is_there = |committed| committed == offset;
        self.until_offset(topic, partition, is_there).await;
    }

    /// Waits until the group has committed more than an offset, and returns what it has.
    pub(crate) async fn until_committed_beyond(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> i64 {
        let is_beyond = |committed| committed > offset;
        self.until_offset(topic, partition, is_beyond).await
    }

    async fn until_offset(&self, topic: &str, partition: i32, wanted: impl Fn(i64) -> bool) -> i64 {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        let consumer = self.consumer(&format!("{}-sink", self.prefix));
        loop {
            let committed = committed(&consumer, topic, partition);
            if let Some(offset) = committed.filter(|&offset| wanted(offset)) {
                return offset;
            }
            let in_time = tokio::time::Instant::now() < deadline;
            assert!(in_time, "{topic}[{partition}]: {committed:?} is committed");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn committed(consumer: &BaseConsumer, topic: &str, partition: i32) -> Option<i64> {
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, partition);
    // A group's coordinator may not be there yet; then nothing is known to be committed.
    let list = consumer.committed_offsets(list, TIMEOUT).ok()?;
    match list.elements()[0].offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}

/// Does a command, as a sink's binary does.
pub(crate) async fn command(config: &SinkConfig, running: cli::Running, words: &[&str]) -> Answer {
    let command = tributary_engine::commands().remove(0);
    let words = ["dead-letters"].iter().chain(words);
    let matches = command.try_get_matches_from(words).unwrap();
    let done = tributary_engine::command(config.clone(), "dead-letters", &matches, running);
    done.await.unwrap()
}

/// The letters that are open.
pub(crate) async fn list(config: &SinkConfig, arguments: &[&str]) -> Answer {
    let nowhere = cli::Running::at("127.0.0.1:1".to_owned());
    let words: Vec<_> = ["list"].iter().chain(arguments).copied().collect();
    command(config, nowhere, &words).await
}

/// Avro's form of a long.
fn long(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).unwrap());
}

/// A header of a message.
pub(crate) fn header_of<'a>(message: &'a OwnedMessage, name: &str) -> Option<&'a str> {
    use rdkafka::message::Headers;
    let headers = message.headers()?;
    let found = headers.iter().find(|header| header.key == name)?;
    std::str::from_utf8(found.value?).ok()
}

/// Makes a transactional producer for the stage.
pub(crate) fn transactional(stage: &Stage) -> FutureProducer {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", stage.kafka().brokers.join(","))
        .set("transactional.id", &stage.prefix)
        .create()
        .unwrap();
    producer.init_transactions(TIMEOUT).unwrap();
    producer
}
