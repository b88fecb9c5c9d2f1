//! What a running sink says of itself: to people, to programs, and to whoever watches it.

mod away;
mod sinks;

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_postgres::Client;
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::stack::Stack;

const TABLES: &str = "CREATE SCHEMA s; CREATE TABLE s.a (id int PRIMARY KEY, v int); CREATE TABLE s.b (id int PRIMARY KEY, v int)";
const PATIENCE: Duration = Duration::from_secs(90);

/// A source and a sink at work, on two tables.
struct Stage {
    pipeline: Pipeline,
    client: Client,
    _source: Service,
    sink: Service,
}

impl Stage {
    async fn set(stack: &Stack, name: &str, kind: Kind) -> Self {
        let mut pipeline = Pipeline::new(stack, name).await.unwrap();
        pipeline.tables = vec!["s.*".to_owned()];
        let client = pipeline.source().await.unwrap();
        client.batch_execute(TABLES).await.unwrap();
        let config = pipeline.source_config();
        let mut source = pipeline.service(Kind::Source, "source", &config).unwrap();
        source.start().unwrap();
        source.wait_ready(PATIENCE).unwrap();
        let config = pipeline.sink_config(kind);
        let mut sink = pipeline.service(kind, "sink", &config).unwrap();
        sink.start().unwrap();
        sink.wait_ready(PATIENCE).unwrap();
        Self {
            pipeline,
            client,
            _source: source,
            sink,
        }
    }

    async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    /// Waits until `/status` is as wanted.
    async fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until(&self.sink, what, PATIENCE, wanted).await
    }

    /// What `/status` says of a table's topic.
    fn topic(&self, status: &Value, table: &str) -> Value {
        let topic = self.pipeline.topic(table);
        let mut topics = status["details"]["topics"].as_array().unwrap().iter();
        let found = topics.find(|found| found["topic"] == topic.as_str());
        found.cloned().unwrap_or_default()
    }
}

async fn until(
    sink: &Service,
    what: &str,
    patience: Duration,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    let begun = Instant::now();
    loop {
        let (_, body) = sink.get("/status").unwrap();
        let status: Value = serde_json::from_str(&body).unwrap();
        if wanted(&status) {
            return status;
        }
        assert!(
            begun.elapsed() < patience,
            "{what}: {body}\n{}",
            sink.log_tail()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
