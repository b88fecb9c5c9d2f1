//! A topic that another producer writes, without our header.

use rdkafka::admin::{AdminOptions, NewPartitions};
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use tributary_tests::http;
use tributary_tests::service::Service;

use super::{PATIENCE, Place, REBUILD, SINKS, Scene, stopped, until_equal};

const REMEDY: &str = "have the topic's source write it again with that many partitions (delete the topic, and take the source's \
    snapshot again), then start with on_unfit_target = \"rebuild\"";

/// Debezium's records of `s.t`, in a topic that compaction spares.
pub(crate) struct Foreign<'s> {
    scene: &'s Scene,
    topic: String,
    producer: BaseProducer,
    key: u32,
    value: u32,
}

impl<'s> Foreign<'s> {
    pub(crate) async fn new(scene: &'s Scene) -> Self {
        let topic = scene.topic();
        let id = json!({"name": "id", "type": "int"});
        let name = json!({"name": "name", "type": ["null", "string"]});
        let row = json!({"type": "record", "name": "Value", "fields": [id, name]});
        let key = json!({"type": "record", "name": "Key", "namespace": topic, "fields": [row["fields"][0]]});
        let value = json!({"type": "record", "name": "Envelope", "namespace": topic, "fields": [
            {"name": "before", "type": ["null", row]},
            {"name": "after", "type": ["null", "Value"]},
            {"name": "op", "type": "string"},
        ]});
        Self {
            key: register(scene, &format!("{topic}-key"), &key).await,
            value: register(scene, &format!("{topic}-value"), &value).await,
            producer: producer(scene),
            topic,
            scene,
        }
    }

    pub(crate) async fn create(&self, partitions: i32) {
        let settings = [("cleanup.policy", "delete")];
        self.scene.create_topic(partitions, &settings).await;
    }

    async fn grow(&mut self, partitions: usize) {
        let grown = NewPartitions::new(&self.topic, partitions);
        let (admin, options) = (self.scene.admin(), AdminOptions::new());
        let grown = admin.create_partitions(&[grown], &options).await;
        grown.unwrap()[0].as_ref().unwrap();
        // The one before does not know yet.
        self.producer = producer(self.scene);
    }

    /// What the table has now, each row by its id in one of so many partitions. Ids are below 64, names below 64 bytes.
    async fn snapshot(&self, partitions: i32) {
        let rows = self.scene.client.query("SELECT id, name FROM s.t", &[]);
        for row in rows.await.unwrap() {
            self.row(row.get(0), row.get(1), row.get::<_, i32>(0) % partitions);
        }
        self.producer.flush(PATIENCE).unwrap();
    }

    fn row(&self, id: i32, name: &str, partition: i32) {
        let id = u8::try_from(id * 2).unwrap();
        let length = u8::try_from(name.len() * 2).unwrap();
        let row = [&[0, 2, id, 2, length], name.as_bytes(), &[2, b'c']].concat();
        self.send(id, &row, partition);
    }

    fn delete(&self, id: i32, partition: i32) {
        let id = u8::try_from(id * 2).unwrap();
        self.send(id, &[2, id, 0, 0, 2, b'd'], partition);
    }

    fn send(&self, id: u8, value: &[u8], partition: i32) {
        let key = framed(self.key, &[id]);
        self.send_as(&key, value, partition, &[]);
    }

    /// A record with a key and headers of its own.
    pub(crate) fn send_as(
        &self,
        key: &[u8],
        value: &[u8],
        partition: i32,
        headers: &[(&str, i64)],
    ) {
        let value = framed(self.value, value);
        let headers = headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, number)| {
                let value = Some(&number.to_be_bytes());
                headers.insert(Header { key, value })
            });
        let record = BaseRecord::to(&self.topic)
            .partition(partition)
            .key(key)
            .payload(&value)
            .headers(headers);
        let sent = self.producer.send(record);
        sent.map_err(|(error, _)| error).unwrap();
    }

    pub(crate) fn flush(&self) {
        self.producer.flush(PATIENCE).unwrap();
    }
}

fn producer(scene: &Scene) -> BaseProducer {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", scene.stack.kafka());
    client.create().unwrap()
}

pub(crate) async fn register(scene: &Scene, subject: &str, schema: &Value) -> u32 {
    let url = format!("{}/subjects/{subject}/versions", scene.stack.registry_url());
    let body = json!({ "schema": schema.to_string() }).to_string();
    let request = http::client().post(url).body(body);
    let request = request.header("content-type", "application/vnd.schemaregistry.v1+json");
    let answer = request.send().await.unwrap().text().await.unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    u32::try_from(answer["id"].as_u64().unwrap()).unwrap()
}

/// The Avro wire format.
pub(crate) fn framed(id: u32, body: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], body].concat()
}

/// The versions are offsets, and keys move: what lands in the new partition would be taken for older.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_topic_gets_partitions() {
    let scene = Scene::new("grown", 1).await;
    let mut foreign = Foreign::new(&scene).await;
    foreign.create(1).await;
    scene.insert(1, 50).await;
    foreign.snapshot(1).await;
    let mut running = SINKS.map(|kind| scene.sink(kind, "usual", ""));
    for sink in &mut running {
        sink.start().unwrap();
        until_equal(&scene.pipeline, sink, Place::Usual).await;
    }

    foreign.grow(2).await;
    scene
        .run("UPDATE s.t SET name = 'moved' WHERE id <= 10; DELETE FROM s.t WHERE id > 45")
        .await;
    (1..=10).for_each(|id| foreign.row(id, "moved", 1));
    (46..=50).for_each(|id| foreign.delete(id, 1));
    foreign.producer.flush(PATIENCE).unwrap();
    for sink in &mut running {
        says_that_keys_moved(sink);
        // Nor does it when it is started again, whatever it may do to its target.
        for head in ["", REBUILD] {
            let mut again = scene.sink(sink.kind(), "again", head);
            again.start().unwrap();
            says_that_keys_moved(&mut again);
        }
    }

    scene.pipeline.delete_topic(&foreign.topic).await.unwrap();
    foreign.create(2).await;
    foreign.producer = producer(&scene);
    foreign.snapshot(2).await;
    for kind in SINKS {
        let mut sink = scene.sink(kind, "rebuild", REBUILD);
        sink.start().unwrap();
        until_equal(&scene.pipeline, &mut sink, Place::Usual).await;
        assert!(sink.stop(PATIENCE).unwrap().success());
    }
}

fn says_that_keys_moved(sink: &mut Service) {
    let status = sink.wait(PATIENCE).unwrap();
    let log = sink.log_tail().replace("\\\"", "\"");
    assert!(!status.success(), "{log}");
    assert!(
        log.contains("had 1 partitions and has 2 now: keys have moved"),
        "{log}"
    );
    assert!(log.contains(REMEDY), "{log}");
}

/// Rows by hand from another producer, and a new topic with fewer of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recreated_foreign_topic() {
    let scene = Scene::new("foreign", 1).await;
    let foreign = Foreign::new(&scene).await;
    foreign.create(1).await;
    scene.insert(1, 50).await;
    foreign.snapshot(1).await;
    for kind in SINKS {
        let mut sink = scene.sink(kind, "usual", "");
        sink.start().unwrap();
        until_equal(&scene.pipeline, &mut sink, Place::Usual).await;
        assert!(sink.stop(PATIENCE).unwrap().success());
    }
    scene.pipeline.delete_topic(&foreign.topic).await.unwrap();
    foreign.create(1).await;
    scene.run("DELETE FROM s.t WHERE id > 20").await;
    foreign.snapshot(1).await;
    for kind in SINKS {
        let mut sink = scene.sink(kind, "usual", "");
        sink.start().unwrap();
        let why = "was deleted and made again since its target was built";
        stopped(&mut sink, &[why]);
        let mut sink = scene.sink(kind, "rebuild", REBUILD);
        sink.start().unwrap();
        until_equal(&scene.pipeline, &mut sink, Place::Usual).await;
    }
}
