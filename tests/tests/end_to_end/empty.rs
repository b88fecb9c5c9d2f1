//! Tables without rows: their targets are there all the same, so that whoever asks them gets an answer.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::Value;
use tokio_postgres::Client;
use tributary_tests::http;
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::stack::Stack;

const PATIENCE: Duration = Duration::from_secs(90);
/// How long after its topic a target may come.
const SOON: Duration = Duration::from_secs(5);
const SINKS: [Kind; 2] = [Kind::SinkElastic, Kind::SinkRedshift];
const TABLES: &str = "CREATE SCHEMA s; \
    CREATE TABLE s.keyed (id bigint PRIMARY KEY, name text, price numeric(10,2)); \
    CREATE TABLE s.keyless (a int, b text)";

struct Scene {
    stack: Stack,
    pipeline: Pipeline,
    source: Service,
    sinks: [Service; 2],
    client: Client,
    warehouse: Client,
}

impl Scene {
    /// Nothing runs yet.
    async fn new(name: &str) -> Self {
        let stack = Stack::from_env().unwrap();
        let mut pipeline = Pipeline::new(&stack, name).await.unwrap();
        pipeline.tables = vec!["s.*".to_owned()];
        let client = pipeline.source().await.unwrap();
        client.batch_execute(TABLES).await.unwrap();
        let config = format!(
            "{}[publish]\ntransactions = true\nmessages = true\n",
            pipeline.source_config()
        );
        let source = pipeline.service(Kind::Source, "source", &config).unwrap();
        let sinks = SINKS.map(|kind| {
            let config = pipeline.sink_config(kind);
            pipeline.service(kind, &kind.to_string(), &config).unwrap()
        });
        Self {
            warehouse: pipeline.warehouse().await.unwrap(),
            stack,
            source,
            sinks,
            client,
            pipeline,
        }
    }

    async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    fn start_sinks(&mut self) {
        for sink in &mut self.sinks {
            sink.start().unwrap();
        }
    }

    fn stop_sinks(&mut self) {
        for sink in &mut self.sinks {
            assert!(sink.stop(PATIENCE).unwrap().success());
        }
    }

    async fn answer(&self, path: &str) -> Option<Value> {
        let url = format!("{}/{path}", self.stack.search_url());
        let answer = http::client().get(url).send().await.unwrap();
        let found = answer.status().is_success();
        let answer = answer.text().await.unwrap();
        found.then(|| serde_json::from_str(&answer).unwrap())
    }

    /// The fields that the index of a table maps, without ours.
    async fn fields(&self, table: &str) -> Option<BTreeSet<String>> {
        let alias = self.pipeline.topic(table);
        let answer = self.answer(&format!("{alias}/_mapping")).await?;
        let (_, index) = answer.as_object()?.iter().next()?;
        let fields = index.pointer("/mappings/properties")?.as_object()?;
        let names = fields.keys().filter(|name| !name.starts_with("_tributary"));
        Some(names.cloned().collect())
    }

    /// The columns of the warehouse's table, without ours; an analyst's query passes.
    async fn columns(&self, table: &str) -> Option<BTreeSet<String>> {
        let query = format!("SELECT * FROM {table}");
        let statement = self.warehouse.prepare(&query).await.ok()?;
        let names = statement.columns().iter().map(|column| column.name());
        let names = names.filter(|name| !name.starts_with("_tributary"));
        Some(names.map(str::to_owned).collect())
    }

    /// Waits until both targets of a table have these columns; how long after the topic that was.
    async fn until_there(&self, table: &str, columns: &[&str]) -> Duration {
        let wanted = Some(columns.iter().map(|&name| name.to_owned()).collect());
        let kafka: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.stack.kafka())
            .create()
            .unwrap();
        let topic = self.pipeline.topic(table);
        let (begun, mut created) = (Instant::now(), None);
        loop {
            if created.is_none() {
                let metadata = kafka.fetch_metadata(None, PATIENCE).unwrap();
                let is_there = metadata.topics().iter().any(|found| found.name() == topic);
                created = is_there.then(Instant::now);
            }
            if self.fields(table).await == wanted && self.columns(table).await == wanted {
                return created.map_or(Duration::ZERO, |created| created.elapsed());
            }
            let logs = self.sinks.each_ref().map(Service::log_tail);
            assert!(begun.elapsed() < PATIENCE, "{table}\n{}", logs.concat());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Which generations there are.
    async fn generations(&self) -> BTreeSet<String> {
        let path = format!("{}.*/_mapping", self.pipeline.prefix());
        let indices = self.answer(&path).await.unwrap();
        let indices = indices.as_object().unwrap().values();
        let mut found: BTreeSet<_> = indices
            .map(|index| index.pointer("/mappings/_meta/tributary/generation"))
            .map(|generation| generation.unwrap().to_string())
            .collect();
        let ledger =
            "SELECT generation FROM _tributary._tributary_ledger WHERE generation IS NOT NULL";
        let rows = self.warehouse.query(ledger, &[]).await.unwrap();
        found.extend(rows.iter().map(|row| row.get::<_, String>(0)));
        found
    }

    /// Waits until both targets have the row of the table without a key, which nothing compares.
    async fn until_keyless(&self) {
        let begun = Instant::now();
        let path = format!("{}/_count", self.pipeline.topic("s.keyless"));
        loop {
            let documents = self.answer(&path).await.unwrap()["count"].as_i64();
            let query = "SELECT count(*) FROM s.keyless WHERE a = 1 AND b = 'x'";
            let rows: i64 = self.warehouse.query_one(query, &[]).await.unwrap().get(0);
            if (documents, rows) == (Some(1), 1) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{documents:?} and {rows}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn until_equal(&self, tables: &[&str]) {
        let begun = Instant::now();
        loop {
            let search = self.pipeline.search_differences(tables, "").await;
            let warehouse = self.pipeline.warehouse_differences(tables, None).await;
            let found = [search, warehouse];
            if found
                .iter()
                .all(|found| found.as_ref().is_ok_and(Vec::is_empty))
            {
                return;
            }
            let logs = self.sinks.each_ref().map(Service::log_tail);
            assert!(
                begun.elapsed() < PATIENCE,
                "{found:?}\n{}\n{}",
                logs.concat(),
                self.source.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_of_empty_tables_exist() {
    let mut scene = Scene::new("empty").await;
    // The sinks run before there is a topic.
    scene.start_sinks();
    scene.source.start().unwrap();
    let keyed = scene.until_there("s.keyed", &["id", "name", "price"]).await;
    let keyless = scene.until_there("s.keyless", &["a", "b"]).await;
    assert!(keyed < SOON && keyless < SOON, "{keyed:?}, {keyless:?}");
    // One that comes while all run.
    scene.source.wait_ready(PATIENCE).unwrap();
    scene
        .run("CREATE TABLE s.later (id int PRIMARY KEY, n int)")
        .await;
    let later = scene.until_there("s.later", &["id", "n"]).await;
    assert!(later < SOON, "{later:?}");
    println!("targets came after {keyed:?}, {keyless:?} and {later:?}");

    // What the source writes beside tables gets none.
    scene
        .run("SELECT pg_logical_emit_message(true, 'p', 'm'); CREATE TABLE s.full (id int PRIMARY KEY); INSERT INTO s.full VALUES (1)")
        .await;
    scene.until_equal(&["s.full"]).await;
    let made = scene.generations().await;
    assert_eq!(made.len(), 8, "{made:?}");

    // They stay as they are over a restart, and follow their tables with the first row at the latest.
    scene.stop_sinks();
    scene
        .run("ALTER TABLE s.keyed ADD COLUMN extra int; ALTER TABLE s.keyed DROP COLUMN price; DROP TABLE s.later; CREATE TABLE s.later (id int PRIMARY KEY, other text)")
        .await;
    scene.start_sinks();
    scene
        .run("INSERT INTO s.keyed VALUES (1, 'n', 7); INSERT INTO s.later VALUES (1, 'o'); INSERT INTO s.keyless VALUES (1, 'x')")
        .await;
    scene.until_equal(&["s.keyed", "s.later", "s.full"]).await;
    scene.until_keyless().await;
    assert_eq!(scene.generations().await, made);
    scene.stop_sinks();
    assert!(scene.source.stop(PATIENCE).unwrap().success());
}
