//! Records that a target refuses, put aside, and replayed once the target takes them: then it equals its table.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_postgres::Client;
use tributary_tests::http;
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::stack::Stack;

const TABLE: &str = "CREATE SCHEMA s; CREATE TABLE s.a (id int PRIMARY KEY, v int)";
const PATIENCE: Duration = Duration::from_secs(90);

/// A source, and a sink that puts aside what its target refuses.
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
        client.batch_execute(TABLE).await.unwrap();
        let config = pipeline.source_config();
        let mut source = pipeline.service(Kind::Source, "source", &config).unwrap();
        source.start().unwrap();
        source.wait_ready(PATIENCE).unwrap();
        let config = pipeline.sink_config(kind);
        let config = format!("on_error = \"dead-letter\"\n{config}");
        let mut sink = pipeline.service(kind, "sink", &config).unwrap();
        sink.start().unwrap();
        sink.wait_ready(PATIENCE).unwrap();
        let stage = Self {
            pipeline,
            client,
            _source: source,
            sink,
        };
        stage
            .run("INSERT INTO s.a SELECT g, g FROM generate_series(1, 100) g")
            .await;
        stage.until_equal().await;
        stage
    }

    async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    /// Six rows are refused. One of them gets better by itself, another one goes.
    async fn refused(&self) {
        self.run("UPDATE s.a SET v = v + 5000 WHERE id <= 6").await;
        self.until("six letters", async || self.diverted() == 6)
            .await;
        self.run("UPDATE s.a SET v = 1 WHERE id = 1; DELETE FROM s.a WHERE id = 2; INSERT INTO s.a VALUES (101, 101)")
            .await;
        // The four that are left.
        self.until("all others", async || self.differences().await.len() == 4)
            .await;
    }

    fn status(&self) -> Value {
        let (_, body) = self.sink.get("/status").unwrap();
        serde_json::from_str(&body).unwrap()
    }

    fn diverted(&self) -> i64 {
        let status = self.status();
        let topics = status["details"]["topics"].as_array().unwrap();
        let diverted = topics.iter().filter_map(|topic| topic["diverted"].as_i64());
        diverted.sum()
    }

    async fn differences(&self) -> Vec<String> {
        match self.sink.kind() {
            Kind::SinkElastic => self.pipeline.search_differences(&["s.a"], "").await,
            _ => self.pipeline.warehouse_differences(&["s.a"], None).await,
        }
        // There is no target yet.
        .unwrap_or_else(|error| vec![error.to_string()])
    }

    async fn until_equal(&self) {
        self.until("equal", async || self.differences().await.is_empty())
            .await;
    }

    async fn until(&self, what: &str, wanted: impl AsyncFn() -> bool) {
        let begun = Instant::now();
        while !wanted().await {
            let in_time = begun.elapsed() < PATIENCE;
            assert!(in_time, "{what}: {}", self.sink.log_tail());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Does a command, and returns its exit code, what it says to people and what to programs.
    fn command(&self, words: &[&str]) -> (i32, String, Value) {
        let words = [&["dead-letters"], words, &["--output", "json"]].concat();
        let (code, out, errors) = self.sink.command(&words).unwrap();
        (code, errors, serde_json::from_str(&out).unwrap())
    }

    fn open(&self) -> usize {
        let (code, errors, listed) = self.command(&["list"]);
        assert_eq!(code, 0, "{errors}");
        listed["letters"].as_array().unwrap().len()
    }

    /// The letters are replayed, and nothing else than that is needed.
    async fn replays(&self) {
        let (code, _, plan) = self.command(&["replay"]);
        assert_eq!(code, 5, "{plan}");
        let keys = plan["plan"].as_array().unwrap().iter();
        assert_eq!(
            keys.filter_map(|pile| pile["keys"].as_i64()).sum::<i64>(),
            6
        );
        let (code, errors, replayed) = self.command(&["replay", "--yes"]);
        assert_eq!(code, 0, "{errors} {replayed}");
        let expected = json!({
            "topic": self.pipeline.topic("s.a"), "applied": 4, "superseded": 2, "put_aside": 0, "gone": 0,
        });
        assert_eq!(replayed["topics"], json!([expected]));
        assert_eq!(self.differences().await, [""; 0]);
        assert_eq!(self.open(), 0);
        self.run("UPDATE s.a SET v = 7").await;
        self.until_equal().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_the_warehouse_refused_are_replayed_also_after_a_kill() {
    let stack = Stack::from_env().unwrap();
    let mut stage = Stage::set(&stack, "letters_w", Kind::SinkRedshift).await;
    let mut analyst = stage.pipeline.warehouse().await.unwrap();
    let check = "ALTER TABLE s.a ADD CONSTRAINT small CHECK (v < 1000)";
    analyst.batch_execute(check).await.unwrap();
    stage.refused().await;
    assert_eq!(stage.open(), 6);
    // Too early: each of those that are left is one letter again.
    let (code, _, early) = stage.command(&["replay", "--yes"]);
    assert_eq!(code, 0, "{early}");
    assert_eq!(early["topics"][0]["put_aside"], 4, "{early}");
    assert_eq!(stage.open(), 4);
    assert_eq!(stage.differences().await.len(), 4);
    stage
        .run("UPDATE s.a SET v = v + 1 WHERE id = 3; UPDATE s.a SET v = 5001 WHERE id IN (1, 101)")
        .await;
    stage
        .until("three more", async || stage.diverted() == 13)
        .await;

    let drop = "ALTER TABLE s.a DROP CONSTRAINT small";
    analyst.batch_execute(drop).await.unwrap();
    // The replay waits for the table, and dies.
    let lock = analyst.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE s.a IN SHARE MODE")
        .await
        .unwrap();
    let asking = Command::new(stage.sink.binary().unwrap())
        .args(["dead-letters", "replay", "--yes", "--config"])
        .arg(stage.sink.config_path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    stage
        .until("the replay waits for the table", async || {
            let topics = stage.status()["details"]["topics"].clone();
            topics[0]["reason"]
                .as_str()
                .is_some_and(|reason| reason.contains("under way"))
        })
        .await;
    stage.sink.kill().unwrap();
    let asked = asking.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&asked.stderr);
    assert_eq!(asked.status.code(), Some(1), "{errors}");
    assert!(errors.contains("to do: "), "{errors}");
    lock.rollback().await.unwrap();
    // One row has two.
    assert_eq!(stage.open(), 7);

    stage.sink.start().unwrap();
    stage.sink.wait_ready(PATIENCE).unwrap();
    let (code, errors, replayed) = stage.command(&["replay", "--yes"]);
    assert_eq!(code, 0, "{errors} {replayed}");
    assert_eq!(replayed["topics"][0]["applied"], 6, "{replayed}");
    assert_eq!(stage.differences().await, [""; 0]);
    assert_eq!(stage.open(), 0);
    stage.run("UPDATE s.a SET v = 7").await;
    stage.until_equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_that_the_index_refused_are_replayed() {
    let stack = Stack::from_env().unwrap();
    let stage = Stage::set(&stack, "letters_e", Kind::SinkElastic).await;
    let (client, url) = (http::client(), stack.search_url());
    let pipeline = format!("{url}/_ingest/pipeline/{}", stage.pipeline.prefix());
    let settings = format!("{url}/{}/_settings", stage.pipeline.topic("s.a"));
    let put = async |url: &str, body: Value| {
        let request = client.put(url).header("content-type", "application/json");
        let answer = request.body(body.to_string()).send().await.unwrap();
        let status = answer.status();
        assert!(status.is_success(), "{}", answer.text().await.unwrap());
    };
    let source = "if (ctx.v > 1000) { throw new IllegalArgumentException('too large') }";
    let script = json!({"processors": [{"script": {"source": source}}]});
    put(&pipeline, script).await;
    let of_pipeline = |name: &str| json!({"index.final_pipeline": name});
    put(&settings, of_pipeline(stage.pipeline.prefix())).await;
    stage.refused().await;
    assert_eq!(stage.open(), 6);
    put(&settings, of_pipeline("_none")).await;
    stage.replays().await;
    client.delete(&pipeline).send().await.unwrap();
}
