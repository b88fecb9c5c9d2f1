//! One target that cannot be written to holds back nobody but itself.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_postgres::Client;
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::stack::Stack;

const TABLES: &str = "CREATE SCHEMA s; CREATE TABLE s.slow (id int PRIMARY KEY, v int); CREATE TABLE s.quick (id int PRIMARY KEY, v int)";
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a change may take to be in a target that nothing is wrong with: less than one waits for a lock. 10 to 59 s were seen.
const SOON: Duration = Duration::from_secs(8);
/// So many single changes are measured.
const CHANGES: i32 = 10;

/// A source with ten partitions per topic, and a sink.
struct Stage {
    pipeline: Pipeline,
    source: Service,
    sink: Service,
    client: Client,
}

impl Stage {
    async fn set(name: &str, kind: Kind) -> Self {
        let stack = Stack::from_env().unwrap();
        let mut pipeline = Pipeline::new(&stack, name).await.unwrap();
        pipeline.tables = vec!["s.*".to_owned()];
        let client = pipeline.source().await.unwrap();
        client.batch_execute(TABLES).await.unwrap();
        let config = pipeline.source_config();
        let config = config.replace("partitions = 3", "partitions = 10");
        let mut source = pipeline.service(Kind::Source, "source", &config).unwrap();
        source.start().unwrap();
        source.wait_ready(PATIENCE).unwrap();
        let config = pipeline.sink_config(kind);
        let sink = pipeline.service(kind, "sink", &config).unwrap();
        Self {
            pipeline,
            source,
            sink,
            client,
        }
    }

    async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    /// The longest time from the commit of a single change until `is_there` says that it is in the target.
    async fn slowest(&self, is_there: impl AsyncFn(i32) -> bool) -> Duration {
        let mut slowest = Duration::ZERO;
        for id in 1..=CHANGES {
            self.run(&format!("INSERT INTO s.quick VALUES ({id}, {id})"))
                .await;
            let committed = Instant::now();
            while !is_there(id).await {
                let waited = committed.elapsed();
                assert!(waited < PATIENCE, "{id}: {}", self.sink.log_tail());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            slowest = slowest.max(committed.elapsed());
        }
        slowest
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locked_table_delays_no_other_table() {
    let mut stage = Stage::set("lanes_locked", Kind::SinkRedshift).await;
    stage
        .run("INSERT INTO s.slow VALUES (0, 0); INSERT INTO s.quick VALUES (0, 0)")
        .await;
    stage.sink.start().unwrap();
    let mut analyst = stage.pipeline.warehouse().await.unwrap();
    let reader = stage.pipeline.warehouse().await.unwrap();
    let count = async |table: &str| -> i64 {
        let query = format!("SELECT count(*) FROM s.{table}");
        reader
            .query_one(&query, &[])
            .await
            .map_or(0, |row| row.get(0))
    };
    let begun = Instant::now();
    while count("slow").await < 1 || count("quick").await < 1 {
        assert!(begun.elapsed() < PATIENCE, "{}", stage.sink.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let lock = analyst.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE s.slow IN SHARE MODE")
        .await
        .unwrap();
    stage
        .run("INSERT INTO s.slow SELECT g, g FROM generate_series(1, 1000) g")
        .await;
    // The write is under way, and waits.
    let waits = "SELECT count(*) FROM pg_locks WHERE relation = 's.slow'::regclass AND NOT granted";
    while reader.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(begun.elapsed() < PATIENCE, "{}", stage.sink.log_tail());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let slowest = stage
        .slowest(async |id| count("quick").await > i64::from(id))
        .await;
    assert!(slowest < SOON, "{slowest:?}");
    assert_eq!(count("slow").await, 1);
    lock.rollback().await.unwrap();

    let tables = ["s.slow", "s.quick"];
    stage
        .pipeline
        .wait_source(&mut stage.source, PATIENCE)
        .await
        .unwrap();
    let topics = stage.pipeline.read_topics(&tables).await.unwrap();
    let group = stage.pipeline.group(Kind::SinkRedshift);
    stage
        .pipeline
        .wait_sink(&mut stage.sink, &group, &topics, PATIENCE)
        .await
        .unwrap();
    let differences = stage.pipeline.warehouse_differences(&tables, None).await;
    assert_eq!(differences.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unassigned_index_delays_no_other_index() {
    let mut stage = Stage::set("unassigned", Kind::SinkElastic).await;
    let url = std::env::var("TRIBUTARY_SEARCH").unwrap();
    let http = tributary_tests::http::client();
    let prefix = stage.pipeline.prefix().to_owned();
    let slow = format!("{prefix}.s.slow");
    let template = json!({
        "index_patterns": [format!("{slow}*")],
        "template": {"settings": {"index.routing.allocation.require._name": "nosuch"}},
        "priority": 500,
    });
    let path = format!("{url}/_index_template/{prefix}");
    let made = http.put(&path).json(&template).send().await.unwrap();
    assert!(made.status().is_success(), "{}", made.text().await.unwrap());
    stage
        .run("INSERT INTO s.slow SELECT g, g FROM generate_series(1, 1000) g; INSERT INTO s.quick VALUES (0, 0)")
        .await;
    stage.sink.start().unwrap();
    let alias = format!("{prefix}.s.quick");
    // By its id, so that no refresh is waited for.
    let is_there = async |id: i32| {
        let answer = http
            .get(format!("{url}/{alias}/_doc/{id}"))
            .send()
            .await
            .unwrap();
        let answer: Value = answer.json().await.unwrap_or_default();
        answer["found"] == true
    };
    let begun = Instant::now();
    while !is_there(0).await || http_status(&http, &format!("{url}/{slow}")).await != 200 {
        assert!(begun.elapsed() < PATIENCE, "{}", stage.sink.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let slowest = stage.slowest(is_there).await;
    assert!(slowest < SOON, "{slowest:?}");

    let settings = json!({"index.routing.allocation.require._name": null});
    let freed = http
        .put(format!("{url}/{slow}/_settings"))
        .json(&settings)
        .send()
        .await
        .unwrap();
    assert!(freed.status().is_success());
    http.delete(&path).send().await.unwrap();
    let tables = ["s.slow", "s.quick"];
    stage
        .pipeline
        .wait_source(&mut stage.source, PATIENCE)
        .await
        .unwrap();
    let topics = stage.pipeline.read_topics(&tables).await.unwrap();
    let group = stage.pipeline.group(Kind::SinkElastic);
    stage
        .pipeline
        .wait_sink(&mut stage.sink, &group, &topics, PATIENCE)
        .await
        .unwrap();
    let differences = stage.pipeline.search_differences(&tables, "").await;
    assert_eq!(differences.unwrap(), Vec::<String>::new());
}

async fn http_status(http: &reqwest::Client, url: &str) -> u16 {
    http.get(url).send().await.unwrap().status().as_u16()
}
