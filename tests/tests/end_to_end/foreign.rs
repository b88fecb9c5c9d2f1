//! What others write into topics that the sinks read: junk, truncates of Debezium's, and what sources write about themselves.

use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use tributary_tests::http;
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::stack::Stack;

const PATIENCE: Duration = Duration::from_secs(60);
const SINKS: [Kind; 2] = [Kind::SinkElastic, Kind::SinkRedshift];

async fn pipeline(name: &str) -> (Stack, Pipeline) {
    let stack = Stack::from_env().unwrap();
    let mut pipeline = Pipeline::new(&stack, name).await.unwrap();
    pipeline.tables = vec!["s.*".to_owned()];
    (stack, pipeline)
}

fn config(pipeline: &Pipeline, kind: Kind) -> String {
    pipeline.sink_config(kind)
}

/// A sink that puts aside what it cannot use.
fn diverting(pipeline: &Pipeline, kind: Kind, config: &str) -> Service {
    let config = format!("on_error = \"dead-letter\"\n{config}");
    pipeline
        .service(kind, &format!("{kind}-divert"), &config)
        .unwrap()
}

/// Records without headers, one after the other.
fn produce(stack: &Stack, topic: &str, partition: i32, records: &[(Option<Vec<u8>>, Vec<u8>)]) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", stack.kafka())
        .create()
        .unwrap();
    for (key, value) in records {
        let mut record: BaseRecord<'_, [u8], [u8]> =
            BaseRecord::to(topic).partition(partition).payload(value);
        record.key = key.as_deref();
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

fn junk() -> (Option<Vec<u8>>, Vec<u8>) {
    (Some(b"junk".to_vec()), b"not avro".to_vec())
}

/// Waits for a state of the sink that is running.
async fn until(what: &str, sink: &mut Service, look: impl AsyncFn(&Service) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !look(sink).await {
        assert!(sink.is_running().unwrap(), "{}", sink.log_tail());
        assert!(Instant::now() < deadline, "{what}:\n{}", sink.log_tail());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// How many rows a target has of a topic's table; `None` while there is no table.
async fn rows(stack: &Stack, pipeline: &Pipeline, kind: Kind, topic: &str) -> Option<i64> {
    if kind == Kind::SinkRedshift {
        let warehouse = pipeline.warehouse().await.unwrap();
        let mut parts = topic.rsplit('.');
        let (table, schema) = (parts.next()?, parts.next()?);
        let count = format!("SELECT count(*) FROM {schema}.{table}");
        return Some(warehouse.query_one(&count, &[]).await.ok()?.get(0));
    }
    let url = format!("{}/{topic}", stack.search_url());
    let client = http::client();
    client.post(format!("{url}/_refresh")).send().await.unwrap();
    let answer = client.get(format!("{url}/_count")).send().await.unwrap();
    let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    answer["count"].as_i64()
}

async fn until_rows(
    stack: &Stack,
    pipeline: &Pipeline,
    kind: Kind,
    sink: &mut Service,
    topic: &str,
    count: i64,
) {
    until(&format!("{count} rows of {topic}"), sink, async |_| {
        rows(stack, pipeline, kind, topic).await == Some(count)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_among_our_records_is_diverted() {
    let (stack, pipeline) = pipeline("junk").await;
    let client = pipeline.source().await.unwrap();
    let table = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, name text)";
    client.batch_execute(table).await.unwrap();
    let [mut source, _, _] = pipeline.services().unwrap();
    source.start().unwrap();
    source.wait_ready(PATIENCE).unwrap();
    let topic = pipeline.topic("s.t");
    let insert = async |range: &str| {
        let rows = format!("INSERT INTO s.t SELECT g, 'x' FROM generate_series({range}) g");
        client.batch_execute(&rows).await.unwrap();
    };
    // First in each partition, then in the middle.
    for partition in 0..3 {
        produce(&stack, &topic, partition, &[junk()]);
    }
    insert("1, 50").await;
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    produce(&stack, &topic, 0, &[junk()]);
    insert("51, 100").await;
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    for kind in SINKS {
        let mut sink = diverting(&pipeline, kind, &config(&pipeline, kind));
        sink.start().unwrap();
        until_rows(&stack, &pipeline, kind, &mut sink, &topic, 100).await;
        assert_eq!(sink.metric("tributary_sink_dead_letters_total"), Some(4.0));
        assert!(sink.stop(PATIENCE).unwrap().success());
    }
    // First after a restart.
    produce(&stack, &topic, 1, &[junk()]);
    insert("101, 150").await;
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    for kind in SINKS {
        let mut sink = diverting(&pipeline, kind, &config(&pipeline, kind));
        sink.start().unwrap();
        until_rows(&stack, &pipeline, kind, &mut sink, &topic, 150).await;
        assert_eq!(sink.metric("tributary_sink_dead_letters_total"), Some(1.0));
        assert!(sink.stop(PATIENCE).unwrap().success());
    }
}

/// Debezium's records of a table `f (id int)`.
struct Foreign {
    key: u32,
    value: u32,
}

impl Foreign {
    async fn new(stack: &Stack, topic: &str) -> Self {
        let row =
            json!({"type": "record", "name": "Value", "fields": [{"name": "id", "type": "int"}]});
        let key = json!({"type": "record", "name": "Key", "namespace": topic, "fields": [{"name": "id", "type": "int"}]});
        let value = json!({"type": "record", "name": "Envelope", "namespace": topic, "fields": [
            {"name": "before", "type": ["null", row]},
            {"name": "after", "type": ["null", "Value"]},
            {"name": "op", "type": "string"},
        ]});
        Self {
            key: register(stack, &format!("{topic}-key"), &key).await,
            value: register(stack, &format!("{topic}-value"), &value).await,
        }
    }

    /// Of an id below 64: one byte in Avro.
    fn row(&self, id: u8) -> (Option<Vec<u8>>, Vec<u8>) {
        let id = id * 2;
        let key = framed(self.key, &[id]);
        (Some(key), framed(self.value, &[0, 2, id, 2, b'c']))
    }

    fn truncate(&self) -> (Option<Vec<u8>>, Vec<u8>) {
        (None, framed(self.value, &[0, 0, 2, b't']))
    }
}

async fn register(stack: &Stack, subject: &str, schema: &Value) -> u32 {
    let url = format!("{}/subjects/{subject}/versions", stack.registry_url());
    let body = json!({ "schema": schema.to_string() }).to_string();
    let request = http::client().post(url).body(body);
    let request = request.header("content-type", "application/vnd.schemaregistry.v1+json");
    let answer = request.send().await.unwrap().text().await.unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    u32::try_from(answer["id"].as_u64().unwrap()).unwrap()
}

/// The Avro wire format.
fn framed(id: u32, body: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], body].concat()
}

/// Rows in both partitions of a foreign topic (or its only one), a truncate behind the longer one's, rows behind the
/// other's. Both targets end with as many rows.
async fn truncated(name: &str, partitions: i32, expected: i64, letters: Option<f64>) {
    let (stack, pipeline) = pipeline(name).await;
    let topic = pipeline.topic("s.f");
    let settings = ["cleanup.policy", "delete"];
    create(&stack, &topic, partitions, settings).await;
    let foreign = Foreign::new(&stack, &topic).await;
    let of = |ids: std::ops::Range<u8>| ids.map(|id| foreign.row(id)).collect::<Vec<_>>();
    let last = partitions - 1;
    produce(&stack, &topic, last, &of(0..50));
    produce(&stack, &topic, 0, &of(50..53));
    for kind in SINKS {
        let mut sink = diverting(&pipeline, kind, &config(&pipeline, kind));
        sink.start().unwrap();
        until_rows(&stack, &pipeline, kind, &mut sink, &topic, 53).await;
        assert!(sink.stop(PATIENCE).unwrap().success());
    }
    produce(&stack, &topic, last, &[foreign.truncate()]);
    produce(&stack, &topic, 0, &of(54..59));
    for kind in SINKS {
        let mut sink = diverting(&pipeline, kind, &config(&pipeline, kind));
        sink.start().unwrap();
        until_rows(&stack, &pipeline, kind, &mut sink, &topic, expected).await;
        until("the letters", &mut sink, async |sink| {
            letters.is_none() || sink.metric("tributary_sink_dead_letters_total") == letters
        })
        .await;
        assert_eq!(rows(&stack, &pipeline, kind, &topic).await, Some(expected));
        assert!(sink.stop(PATIENCE).unwrap().success());
    }
    // A fresh group over the same log, into targets that are empty.
    let fresh = pipeline.beside("again");
    for kind in SINKS {
        let own = match kind {
            Kind::SinkElastic => fresh.elastic_config(&fresh.group(kind), "again-"),
            _ => fresh.redshift_config(&fresh.group(kind), Some("again")),
        };
        let own = own.replace(
            &format!("\"{}.*\"", fresh.prefix()),
            &format!("\"{topic}\""),
        );
        let mut sink = diverting(&fresh, kind, &own);
        sink.start().unwrap();
        let target = match kind {
            Kind::SinkElastic => format!("again-{topic}"),
            _ => "again.f".to_owned(),
        };
        until_rows(&stack, &fresh, kind, &mut sink, &target, expected).await;
        assert!(sink.stop(PATIENCE).unwrap().success());
    }
}

async fn create(stack: &Stack, topic: &str, partitions: i32, [key, value]: [&str; 2]) {
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    use rdkafka::client::DefaultClientContext;
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", stack.kafka())
        .create()
        .unwrap();
    let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1)).set(key, value);
    let created = admin.create_topics(&[topic], &AdminOptions::new()).await;
    created.unwrap()[0].as_ref().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_truncate_in_one_partition() {
    truncated("truncate_two", 2, 58, Some(1.0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_truncate_in_the_only_partition() {
    truncated("truncate_one", 1, 5, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dotted_topic_prefix() {
    let (stack, pipeline) = pipeline("dotted").await;
    let prefix = format!("eu.{}", pipeline.prefix());
    let client = pipeline.source().await.unwrap();
    let tables = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY); CREATE TABLE s.progress (id int PRIMARY KEY); \
        INSERT INTO s.t SELECT generate_series(1, 10); INSERT INTO s.progress SELECT generate_series(1, 20)";
    client.batch_execute(tables).await.unwrap();
    let dotted = |config: String| {
        let (topics, topic_prefix) = (
            format!("\"{}.*\"", pipeline.prefix()),
            format!("topic_prefix = \"{}\"", pipeline.prefix()),
        );
        config
            .replace(&topics, &format!("\"{prefix}.*\""))
            .replace(&topic_prefix, &format!("topic_prefix = \"{prefix}\""))
    };
    let source = dotted(pipeline.source_config());
    let source = format!("{source}[publish]\ntransactions = true\nmessages = true\n");
    let mut source = pipeline.service(Kind::Source, "source", &source).unwrap();
    source.start().unwrap();
    source.wait_ready(PATIENCE).unwrap();
    let changes =
        "INSERT INTO s.t VALUES (11); SELECT pg_logical_emit_message(true, 'app', 'hello')";
    client.batch_execute(changes).await.unwrap();
    let signal = (None, br#"{"type": "resume"}"#.to_vec());
    produce(&stack, &format!("{prefix}.signals"), 0, &[signal]);
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();

    for kind in SINKS {
        let config = dotted(config(&pipeline, kind));
        let mut sink = diverting(&pipeline, kind, &config);
        let (code, out, err) = sink.command(&["check"]).unwrap();
        assert_eq!(code, 0, "{out}{err}");
        sink.start().unwrap();
        for (table, count) in [("t", 11), ("progress", 20)] {
            let topic = format!("{prefix}.s.{table}");
            until_rows(&stack, &pipeline, kind, &mut sink, &topic, count).await;
        }
        for name in ["progress", "signals", "transaction", "message"] {
            let partition = format!("{prefix}.{name}[0]");
            let is_told = |line: &str| line.contains("passed over") && line.contains(&partition);
            until(&partition, &mut sink, async |sink| {
                sink.log().lines().any(is_told)
            })
            .await;
            let topic = format!("{prefix}.{name}");
            assert_eq!(rows(&stack, &pipeline, kind, &topic).await, None, "{topic}");
        }
        let letters = sink.metric("tributary_sink_dead_letters_total");
        assert!(letters.is_none_or(|count| count == 0.0), "{letters:?}");
        assert!(sink.stop(PATIENCE).unwrap().success());
    }
}
