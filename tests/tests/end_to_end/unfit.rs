//! Targets that do not fit their log any more: a topic that was made again, an index or a ledger that is gone, offsets that
//! are lost, deletes that were missed. Each ends in equal targets, or in a stop whose remedy leads there.

mod away;
mod deleted;
mod foreign;
mod lost;
mod recreated;
mod rekeyed;
mod two_keys;

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use serde_json::Value;
use tokio_postgres::Client;
use tributary_tests::http;
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::stack::Stack;

const PATIENCE: Duration = Duration::from_secs(60);
const SINKS: [Kind; 2] = [Kind::SinkElastic, Kind::SinkRedshift];
const REMEDY: &str = "start the service once with on_unfit_target = \"rebuild\"";
/// What the message of [`REMEDY`] says, as a line of the configuration.
const REBUILD: &str = "on_unfit_target = \"rebuild\"\n";

/// One table, `s.t (id, name)`, its source, and the sinks.
struct Scene {
    stack: Stack,
    pipeline: Pipeline,
    client: Client,
    source: Service,
}

impl Scene {
    /// Nothing runs yet.
    async fn new(name: &str, partitions: i32) -> Self {
        let stack = Stack::from_env().unwrap();
        let mut pipeline = Pipeline::new(&stack, &format!("unfit_{name}"))
            .await
            .unwrap();
        pipeline.tables = vec!["s.*".to_owned()];
        let client = pipeline.source().await.unwrap();
        let table = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, name text)";
        client.batch_execute(table).await.unwrap();
        let config = pipeline
            .source_config()
            .replace("partitions = 3", &format!("partitions = {partitions}"));
        let config = format!("on_gap = \"resnapshot\"\n{config}");
        let source = pipeline.service(Kind::Source, "source", &config).unwrap();
        Self {
            stack,
            pipeline,
            client,
            source,
        }
    }

    /// The source runs, and has published so many rows.
    async fn with_rows(name: &str, partitions: i32, rows: i32) -> Self {
        let mut scene = Self::new(name, partitions).await;
        scene.insert(1, rows).await;
        scene.start_source().await;
        scene
    }

    async fn start_source(&mut self) {
        self.source.start().unwrap();
        self.source.wait_ready(PATIENCE).unwrap();
        self.published().await;
    }

    fn stop_source(&mut self) {
        assert!(self.source.stop(PATIENCE).unwrap().success());
    }

    /// Waits until all that is committed is in the log.
    async fn published(&mut self) {
        let waited = self.pipeline.wait_source(&mut self.source, PATIENCE).await;
        waited.unwrap();
    }

    async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    async fn insert(&self, from: i32, to: i32) {
        let rows =
            format!("INSERT INTO s.t SELECT g, 'row ' || g FROM generate_series({from}, {to}) g");
        self.run(&rows).await;
    }

    fn topic(&self) -> String {
        self.pipeline.topic("s.t")
    }

    /// The topic is gone, and made again by the source from the rows that the table has then. The source runs before and
    /// after, not meanwhile.
    async fn recreate_topic(&mut self) {
        self.stop_source();
        self.pipeline.delete_topic(&self.topic()).await.unwrap();
        self.start_source().await;
    }

    /// A sink with the usual names; `head` begins its configuration.
    fn sink(&self, kind: Kind, instance: &str, head: &str) -> Service {
        let config = self.pipeline.sink_config(kind);
        self.configured(kind, instance, &format!("{head}{config}"))
    }

    fn configured(&self, kind: Kind, instance: &str, config: &str) -> Service {
        let instance = format!("{kind}-{instance}");
        self.pipeline.service(kind, &instance, config).unwrap()
    }

    /// A sink reads everything, and is stopped.
    async fn read(&self, kind: Kind) {
        let mut sink = self.sink(kind, "usual", "");
        self.run_until_equal(&mut sink).await;
    }

    async fn run_until_equal(&self, sink: &mut Service) {
        sink.start().unwrap();
        self.until_equal(sink).await;
        assert!(sink.stop(PATIENCE).unwrap().success());
    }

    async fn until_equal(&self, sink: &mut Service) {
        until_equal(&self.pipeline, sink, Place::Usual).await;
    }

    /// The sink does not start, and says why; with what it asks for the target becomes whole.
    async fn stops_and_is_rebuilt(&self, kind: Kind, why: &[&str]) {
        let mut sink = self.sink(kind, "usual", "");
        sink.start().unwrap();
        stopped(&mut sink, why);
        // So that it differs from the target as it is.
        self.run("UPDATE s.t SET name = name || '?' WHERE id = (SELECT max(id) FROM s.t)")
            .await;
        let mut sink = self.sink(kind, "rebuild", REBUILD);
        self.run_until_equal(&mut sink).await;
    }

    /// A sink as usual goes on with changes of every kind.
    async fn goes_on(&self, kind: Kind) {
        let changes = "UPDATE s.t SET name = name || '!' WHERE id % 3 = 0; DELETE FROM s.t WHERE id = \
            (SELECT min(id) FROM s.t); INSERT INTO s.t SELECT max(id) + 1, 'new' FROM s.t";
        self.run(changes).await;
        let mut sink = self.sink(kind, "usual", "");
        self.run_until_equal(&mut sink).await;
    }

    async fn create_topic(&self, partitions: i32, settings: &[(&str, &str)]) {
        let name = self.topic();
        let mut topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let options = AdminOptions::new();
        let created = self.admin().create_topics(&[topic], &options).await;
        created.unwrap()[0].as_ref().unwrap();
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", self.stack.kafka());
        client.create().unwrap()
    }
}

/// Where a sink's rows are.
#[derive(Clone, Copy)]
enum Place<'n> {
    /// By the names of topic and table.
    Usual,
    /// With this prefix of the index, or in this schema.
    Named(&'n str),
}

/// Waits until a sink's target has what the source has.
async fn until_equal(pipeline: &Pipeline, sink: &mut Service, place: Place<'_>) {
    let (prefix, schema) = match place {
        Place::Usual => ("", None),
        Place::Named(name) => (name, Some(name)),
    };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let differences = match sink.kind() {
            Kind::SinkElastic => pipeline.search_differences(&["s.t"], prefix).await,
            _ => pipeline.warehouse_differences(&["s.t"], schema).await,
        };
        // There may be no target yet.
        if differences
            .as_ref()
            .is_ok_and(|differences| differences.is_empty())
        {
            return;
        }
        assert!(sink.is_running().unwrap(), "{}", sink.log_tail());
        assert!(
            Instant::now() < deadline,
            "{differences:?}\n{}",
            sink.log_tail()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A sink that runs ends by itself, with one of these reasons, and says what to do.
fn stopped(sink: &mut Service, why: &[&str]) {
    let status = sink.wait(PATIENCE).unwrap();
    let log = sink.log_tail();
    assert!(!status.success(), "{log}");
    assert!(why.iter().any(|why| log.contains(why)), "{log}");
    let plain = log.replace("\\\"", "\"");
    assert!(plain.contains(REMEDY), "{log}");
}

/// The index behind a topic's alias, if there is one.
async fn index(stack: &Stack, topic: &str) -> Option<String> {
    let url = format!("{}/_alias/{topic}", stack.search_url());
    let answer = http::client().get(url).send().await.unwrap();
    if !answer.status().is_success() {
        return None;
    }
    let answer: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    answer.as_object()?.keys().next().cloned()
}

async fn delete_index(stack: &Stack, topic: &str) {
    let index = index(stack, topic).await.unwrap();
    let url = format!("{}/{index}", stack.search_url());
    let answer = http::client().delete(url).send().await.unwrap();
    assert!(answer.status().is_success());
}
