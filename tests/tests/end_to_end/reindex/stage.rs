//! A source and a search sink that run, and the command beside them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tributary_tests::http;
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::shop;
use tributary_tests::stack::Stack;

use super::PATIENCE;

pub(crate) struct Stage {
    pub(crate) pipeline: Pipeline,
    client: Client,
    _source: Service,
    sink: Mutex<Service>,
    binary: PathBuf,
    config: PathBuf,
    log: PathBuf,
    pub(crate) http: reqwest::Client,
    pub(crate) url: String,
    kafka: String,
    rows: i64,
}

/// Between two changes: the machine is the engine's, too.
const PACE: Duration = Duration::from_millis(25);

/// What a reindex has come to.
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) json: Value,
    pub(crate) errors: String,
}

/// Rows that change until they shall not.
pub(crate) struct Changes {
    ends: Arc<AtomicBool>,
    task: JoinHandle<u64>,
}

impl Stage {
    /// Tables with the rows 1 to `rows`, in their indices.
    pub(crate) async fn set(stack: &Stack, name: &str, tables: &[&str], rows: i64) -> Self {
        Self::set_with(stack, name, (tables, rows), str::to_owned).await
    }

    /// The same, with other configurations of the source and the sink.
    pub(crate) async fn set_with(
        stack: &Stack,
        name: &str,
        (tables, rows): (&[&str], i64),
        change: impl Fn(&str) -> String,
    ) -> Self {
        let mut pipeline = Pipeline::new(stack, name).await.unwrap();
        pipeline.tables = vec!["s.*".to_owned()];
        let client = pipeline.source().await.unwrap();
        client.batch_execute("CREATE SCHEMA s").await.unwrap();
        for table in tables {
            let table = format!(
                "CREATE TABLE {table} (id int PRIMARY KEY, v int, name text);
                 INSERT INTO {table} SELECT g, 0, g::text FROM generate_series(1, {rows}) g"
            );
            client.batch_execute(&table).await.unwrap();
        }
        let config = change(&pipeline.source_config());
        let mut source = pipeline.service(Kind::Source, "source", &config).unwrap();
        source.start().unwrap();
        source.wait_ready(PATIENCE).unwrap();
        // Small batches: a reindex has a middle.
        let config = format!(
            "{}[batch]\nrows = 500\n",
            change(&pipeline.sink_config(Kind::SinkElastic))
        );
        let mut sink = pipeline
            .service(Kind::SinkElastic, "sink", &config)
            .unwrap();
        sink.start().unwrap();
        sink.wait_ready(PATIENCE).unwrap();
        let stage = Self {
            client,
            _source: source,
            binary: sink.binary().unwrap(),
            config: sink.config_path().to_owned(),
            log: pipeline.dir().join("sink.log"),
            sink: Mutex::new(sink),
            http: http::client(),
            url: stack.search_url().to_owned(),
            kafka: stack.kafka().to_owned(),
            pipeline,
            rows,
        };
        for table in tables {
            stage.until_equal(table).await;
        }
        stage
    }

    pub(crate) async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    pub(crate) const fn rows(&self) -> i64 {
        self.rows
    }

    pub(crate) fn alias_of(&self, table: &str) -> String {
        self.pipeline.topic(table)
    }

    pub(crate) fn index(&self, table: &str, number: u32) -> String {
        format!("{}-{number:06}", self.alias_of(table))
    }

    /// A file in the pipeline's folder; its path.
    pub(crate) fn file(&self, name: &str, content: &Value) -> String {
        let path = self.pipeline.dir().join(name);
        fs::write(&path, content.to_string()).unwrap();
        path.display().to_string()
    }

    /// The command, with variables of its environment.
    pub(crate) fn start(&self, table: &str, words: &[&str], environment: &[(&str, &str)]) -> Child {
        self.start_with(&self.config, table, words, environment)
    }

    /// The same with another configuration.
    pub(crate) fn start_with(
        &self,
        config: &Path,
        table: &str,
        words: &[&str],
        environment: &[(&str, &str)],
    ) -> Child {
        Command::new(&self.binary)
            .args([
                "reindex",
                "--topic",
                &self.pipeline.topic(table),
                "--output",
                "json",
            ])
            .args(words)
            .arg("--config")
            .arg(config)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    pub(crate) async fn reindex(&self, table: &str, words: &[&str]) -> Done {
        ended(self.start(table, words, &[])).await
    }

    pub(crate) async fn restart_sink(&self) {
        let mut sink = self.sink().await;
        sink.kill().unwrap();
        sink.start().unwrap();
        sink.wait_ready(PATIENCE).unwrap();
    }

    pub(crate) async fn sink(&self) -> MutexGuard<'_, Service> {
        self.sink.lock().await
    }

    pub(crate) async fn sink_metric(&self, name: &str) -> Option<f64> {
        self.sink().await.metric(name)
    }

    pub(crate) fn sink_log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until the sink's log says this.
    pub(crate) async fn until_said(&self, words: &str) {
        let begun = Instant::now();
        while !self.sink_log().contains(words) {
            let log = self.sink_log();
            assert!(begun.elapsed() < PATIENCE, "no '{words}' in:\n{log}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Rows up to [`Stage::rows`] change and are never gone; those above come and go.
    pub(crate) fn begin_changes(self: &Arc<Self>, table: &str) -> Changes {
        let ends = Arc::new(AtomicBool::new(false));
        let (url, table, rows, over) = (
            self.pipeline.source_url.clone(),
            table.to_owned(),
            self.rows,
            Arc::clone(&ends),
        );
        let task = tokio::spawn(async move {
            let client = shop::connect(&url).await.unwrap();
            let mut number = 0;
            while !over.load(Ordering::Relaxed) {
                number += 1;
                let (id, new) = (1 + (number * 7) % rows, rows + number);
                let sql = format!(
                    "UPDATE {table} SET v = v + 1 WHERE id = {id};
                     INSERT INTO {table} VALUES ({new}, {number}, 'new'); DELETE FROM {table} WHERE id = {new} - 5 AND id % 2 = 0"
                );
                client.batch_execute(&sql).await.unwrap();
                tokio::time::sleep(PACE).await;
            }
            number.unsigned_abs()
        });
        Changes { ends, task }
    }

    pub(crate) async fn until_equal(&self, table: &str) {
        self.until_equal_behind(table, "").await;
    }

    /// The same for the alias with this prefix.
    pub(crate) async fn until_equal_behind(&self, table: &str, prefix: &str) {
        let begun = Instant::now();
        loop {
            let differences = self.pipeline.search_differences(&[table], prefix).await;
            let differences = differences.unwrap_or_else(|error| vec![error.to_string()]);
            if differences.is_empty() {
                return;
            }
            let in_time = begun.elapsed() < PATIENCE;
            assert!(
                in_time,
                "{table}: {differences:?}\n{}",
                self.sink().await.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until the index with this number is the only one, and nothing is left of the reindex.
    pub(crate) async fn until_cleared(&self, table: &str, number: u32) {
        let (alias, begun) = (self.alias_of(table), Instant::now());
        let only = self.index(table, number);
        loop {
            let all = self.get(&format!("/{alias}-*?expand_wildcards=all")).await;
            let names: Vec<_> = all.as_object().unwrap().keys().cloned().collect();
            let reindex = &all[&only]["mappings"]["_meta"]["tributary"]["reindex"];
            if names == [only.as_str()] && reindex.is_null() {
                return self.assert_cleared(table, number).await;
            }
            assert!(begun.elapsed() < PATIENCE, "{names:?}: {reindex}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The index with this number is the only one, and nothing is left of the reindex.
    pub(crate) async fn assert_cleared(&self, table: &str, number: u32) {
        let alias = self.alias_of(table);
        let all = self.get(&format!("/{alias}-*?expand_wildcards=all")).await;
        let names: Vec<_> = all.as_object().unwrap().keys().collect();
        let only = self.index(table, number);
        assert_eq!(names, [&only]);
        assert_eq!(
            all[&only]["aliases"],
            json!({ (alias): {"is_write_index": true} })
        );
        let ours = &all[&only]["mappings"]["_meta"]["tributary"];
        assert_eq!(
            (&ours["reindex"], &ours["handover"]),
            (&Value::Null, &Value::Null)
        );
        let groups = self.groups().await;
        assert!(groups.is_empty(), "{groups:?}");
    }

    /// The consumer groups of reindexes.
    pub(crate) async fn groups(&self) -> Vec<String> {
        let own = self.pipeline.group(Kind::SinkElastic);
        self.groups_of(&own).await
    }

    /// Those beside the service of this name.
    pub(crate) async fn groups_of(&self, own: &str) -> Vec<String> {
        let kafka = self.kafka.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let groups = client(kafka)
                .fetch_group_list(None, Duration::from_secs(20))
                .unwrap();
            let names = groups.groups().iter().map(|group| group.name().to_owned());
            names.collect::<Vec<_>>()
        });
        let mut names = asked.await.unwrap();
        names.retain(|name| name.starts_with(&format!("{own}.reindex.")));
        names
    }

    /// Waits until two members share the group of the reindex that builds this index.
    pub(crate) async fn until_shared(&self, index: &str) {
        let built = self.get(&format!("/{index}")).await;
        let group = built.pointer(&format!("/{index}/mappings/_meta/tributary/reindex/group"));
        let group = group.and_then(Value::as_str).unwrap().to_owned();
        let kafka = self.kafka.clone();
        let asking = tokio::task::spawn_blocking(move || {
            let client = client(kafka);
            let begun = Instant::now();
            loop {
                let groups = client
                    .fetch_group_list(Some(&group), Duration::from_secs(20))
                    .unwrap();
                let shared = groups
                    .groups()
                    .iter()
                    .find(|found| found.state() == "Stable" && found.members().len() > 1);
                if shared.is_some() {
                    return;
                }
                assert!(begun.elapsed() < PATIENCE, "'{group}' is not shared");
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        asking.await.unwrap();
    }

    /// A further alias of an index, by which some rows are found.
    pub(crate) async fn alias(&self, index: &str, name: &str) {
        let add = json!({"index": index, "alias": format!("reindex-{name}"), "filter": {"term": {"v": 0}}});
        let body = json!({"actions": [{ "add": add }]});
        let (status, answer) = self.call(Method::POST, "/_aliases", Some(body)).await;
        assert_eq!(status, 200, "{answer}");
    }

    pub(crate) async fn forget(&self, path: &str) {
        self.call(Method::DELETE, path, None).await;
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.call(Method::GET, path, None).await.1
    }

    pub(crate) async fn put(&self, path: &str, body: Value) {
        let (status, answer) = self.call(Method::PUT, path, Some(body)).await;
        assert_eq!(status, 200, "{answer}");
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request
                .header("content-type", "application/json")
                .body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or_default())
    }
}

impl Changes {
    /// How many there were.
    pub(crate) async fn end(self) -> u64 {
        self.ends.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// Asks Kafka for groups, and is in none.
fn client(kafka: String) -> BaseConsumer {
    let config = ClientConfig::new().set("bootstrap.servers", kafka).clone();
    config.create().unwrap()
}

/// Waits for the end of the command; one that was killed has no code, and -1 here.
pub(crate) async fn ended(child: Child) -> Done {
    let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap());
    let output = output.await.unwrap();
    Done {
        code: output.status.code().unwrap_or(-1),
        json: serde_json::from_slice(&output.stdout).unwrap_or_default(),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
