//! A source on a database of its own, and its topics folded as a consumer would.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio_postgres::Client;
use tributary_tests::oracle::{TopicReader, TopicRecord};
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::stack::{Postgres, Server, Stack};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// So that nobody waits for the watch.
pub(crate) const OFTEN: &str = "watch_interval_ms = 200";

/// What the log says when a table is read beside the stream.
pub(crate) const READ: &str = "the table's rows are in the log";

/// Rows as text, by column.
pub(crate) type Row = BTreeMap<String, Option<String>>;

pub(crate) struct Stage {
    stack: Stack,
    pub(crate) pipeline: Pipeline,
    pub(crate) client: Client,
    pub(crate) source: Service,
    looks: usize,
}

impl Stage {
    /// A database with these objects, and a source of `s.*` that streams. `postgres` is added to its section.
    pub(crate) async fn begin(name: &str, sql: &str, postgres: &str) -> Self {
        let mut stage = Self::set(name, sql, postgres).await;
        stage.source.start().unwrap();
        stage.source.wait_ready(PATIENCE).unwrap();
        stage
    }

    /// [`Stage::begin`] without starting the source.
    pub(crate) async fn set(name: &str, sql: &str, postgres: &str) -> Self {
        let stack = Stack::from_env().unwrap();
        let pipeline = Pipeline::new(&stack, name).await.unwrap();
        Self::with(stack, pipeline, sql, postgres).await
    }

    /// [`Stage::begin`] on a server of its own, where it may use up slots and leave transactions open.
    pub(crate) async fn begin_alone(
        name: &str,
        sql: &str,
        postgres: &str,
        settings: &[(&str, &str)],
    ) -> (Self, Server) {
        let stack = Stack::from_env().unwrap();
        let mut pipeline = Pipeline::new(&stack, name).await.unwrap();
        let version = Postgres::from_env().unwrap().unwrap_or_default();
        let server = Server::start_new(pipeline.dir(), "alone", version, settings).unwrap();
        pipeline.source_url = server.url("postgres");
        let mut stage = Self::with(stack, pipeline, sql, postgres).await;
        stage.source.start().unwrap();
        stage.source.wait_ready(PATIENCE).unwrap();
        (stage, server)
    }

    async fn with(stack: Stack, mut pipeline: Pipeline, sql: &str, postgres: &str) -> Self {
        pipeline.tables = vec!["s.*".to_owned()];
        let client = pipeline.source().await.unwrap();
        client.batch_execute("CREATE SCHEMA s").await.unwrap();
        client.batch_execute(sql).await.unwrap();
        let config = pipeline.source_config().replacen(
            "[postgres]\n",
            &format!("[postgres]\n{postgres}\n"),
            1,
        );
        let source = pipeline.service(Kind::Source, "source", &config).unwrap();
        Self {
            stack,
            pipeline,
            client,
            source,
            looks: 0,
        }
    }

    pub(crate) async fn run(&self, sql: &str) {
        self.client
            .batch_execute(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    pub(crate) async fn catch_up(&mut self) {
        let caught_up = self.pipeline.wait_source(&mut self.source, PATIENCE).await;
        caught_up.unwrap();
    }

    /// Waits for the source's end, which must be an error that says this.
    pub(crate) fn stops_with(&mut self, message: &str) {
        assert_eq!(self.source.wait(PATIENCE).unwrap().code(), Some(1));
        let log = self.source.log_tail();
        assert!(log.contains(message), "{message:?} is not in:\n{log}");
    }

    /// Waits until the log says this so often.
    pub(crate) async fn logs(&self, message: &str, times: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.source.log().matches(message).count() < times {
            assert!(
                Instant::now() < deadline,
                "{message:?} is not {times} times in:\n{}",
                self.source.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a query says so.
    pub(crate) async fn until(&self, query: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self
            .client
            .query_one(query, &[])
            .await
            .unwrap()
            .get::<_, bool>(0)
        {
            let log = self.source.log_tail();
            assert!(Instant::now() < deadline, "{query}: not so\n{log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the source has looked at the catalog, and done what it found: the new table stands behind the others,
    /// and is empty.
    pub(crate) async fn look(&mut self) {
        self.looks += 1;
        let table = format!("s.z{}", self.looks);
        self.run(&format!("CREATE TABLE {table} (id int PRIMARY KEY)"))
            .await;
        self.logs(&format!("{READ} table=\"{table}\""), 1).await;
    }

    /// Signals that all rows of a table are to be read again.
    pub(crate) fn read_again(&self, table: &str) {
        let command = ["snapshot", "--table", table];
        let (code, out, err) = self.source.command(&command).unwrap();
        assert_eq!(code, 0, "{out}{err}");
    }

    /// Waits until the newest schema of a subject says this.
    pub(crate) async fn registers(&self, subject: &str, text: &str) {
        let url = format!(
            "{}/subjects/{subject}/versions/latest",
            self.stack.registry_url()
        );
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = reqwest::get(&url).await.unwrap().text().await.unwrap();
            if answer.contains(text) {
                return;
            }
            assert!(Instant::now() < deadline, "{text:?} is not in {answer}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The schemas of all versions of a subject.
    pub(crate) async fn schemas(&self, subject: &str) -> Vec<String> {
        let url = format!("{}/subjects/{subject}/versions", self.stack.registry_url());
        let answer = reqwest::get(&url).await.unwrap().text().await.unwrap();
        let versions: Vec<u32> = serde_json::from_str(&answer).unwrap();
        let mut schemas = Vec::new();
        for version in versions {
            let answer = reqwest::get(format!("{url}/{version}")).await.unwrap();
            let answer: serde_json::Value = answer.json().await.unwrap();
            schemas.push(answer["schema"].as_str().unwrap().to_owned());
        }
        schemas
    }

    /// The compatibility that a subject is set to.
    pub(crate) async fn compatibility(&self, subject: &str) -> String {
        let url = format!("{}/config/{subject}", self.stack.registry_url());
        let answer = reqwest::get(&url).await.unwrap().text().await.unwrap();
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let level = answer["compatibilityLevel"].as_str();
        level
            .unwrap_or_else(|| panic!("{subject}: {answer}"))
            .to_owned()
    }

    /// Changes the source's configuration for its next start.
    pub(crate) fn configure(&self, from: &str, to: &str) {
        let path = self.source.config_path();
        let config = std::fs::read_to_string(path).unwrap();
        assert!(config.contains(from), "{config}");
        std::fs::write(path, config.replacen(from, to, 1)).unwrap();
    }

    /// A reader of the topics, however they are judged.
    pub(crate) fn reader(&self) -> TopicReader {
        TopicReader::new(self.stack.kafka(), self.stack.registry_url())
    }

    pub(crate) async fn records(&self, table: &str) -> Vec<TopicRecord> {
        self.reader()
            .read(&self.pipeline.topic(table))
            .await
            .unwrap()
    }

    /// The operations on a table's topic, in the order of their `seq`; `-` is a tombstone.
    pub(crate) async fn ops(&self, table: &str) -> String {
        let mut records = self.records(table).await;
        records.sort_by_key(|record| record.seq);
        let op = |record: &TopicRecord| record.change.as_ref().map_or('-', |change| change.op);
        records.iter().map(op).collect()
    }

    /// The rows of a topic that are left, in no order; those without a key as often as they are there.
    pub(crate) async fn fold(&self, topic: &str) -> Vec<Row> {
        let records = self.records(topic).await;
        let mut keyed: BTreeMap<BTreeMap<String, String>, (u64, Option<Row>)> = BTreeMap::new();
        let mut bag: Vec<(u64, Row)> = Vec::new();
        let below = records.iter().filter_map(|record| record.below).max();
        for record in records.iter().filter(|record| record.below.is_none()) {
            let row = match &record.change {
                Some(change) if change.op != 'd' => Some(change.after.clone()),
                _ => None,
            };
            if record.key.is_empty() {
                bag.push((record.seq, row.expect("a delete without a key")));
            } else if keyed
                .get(&record.key)
                .is_none_or(|(seq, _)| *seq <= record.seq)
            {
                keyed.insert(record.key.clone(), (record.seq, row));
            }
        }
        let keyed = keyed
            .into_values()
            .filter_map(|(seq, row)| Some((seq, row?)));
        let left = keyed.chain(bag).filter(|(seq, _)| Some(*seq) >= below);
        left.map(|(_, row)| row).collect()
    }

    /// The rows of a table, each column as text.
    pub(crate) async fn rows(&self, table: &str) -> Vec<Row> {
        let query = format!("SELECT to_jsonb(t)::text FROM {table} t");
        let columns = "SELECT attname::text FROM pg_attribute
            WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''";
        let columns = self.client.query(columns, &[&table]).await.unwrap();
        let columns: Vec<String> = columns.iter().map(|row| row.get(0)).collect();
        let rows = self.client.query(&query, &[]).await.unwrap();
        let read = |row: &tokio_postgres::Row| {
            let json: serde_json::Value = serde_json::from_str(row.get(0)).unwrap();
            let text = |value: &serde_json::Value| match value {
                serde_json::Value::Null => None,
                serde_json::Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            };
            let column = |name: &String| (name.clone(), text(&json[name]));
            columns.iter().map(column).collect()
        };
        rows.iter().map(read).collect()
    }

    /// Fails unless a table and its topic, folded, hold the same rows. `table` is what SQL calls it.
    pub(crate) async fn same(&self, table: &str, topic: &str) {
        let (mut wanted, mut got) = (self.rows(table).await, self.fold(topic).await);
        wanted.sort_unstable();
        got.sort_unstable();
        assert!(
            wanted == got,
            "{table}: {} rows in the table, {} in the topic: {:?}",
            wanted.len(),
            got.len(),
            difference(&wanted, &got)
        );
    }

    /// Waits until a table and its topic, folded, hold the same rows.
    pub(crate) async fn converges(&mut self, table: &str, topic: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.catch_up().await;
            let (mut wanted, mut got) = (self.rows(table).await, self.fold(topic).await);
            wanted.sort_unstable();
            got.sort_unstable();
            if wanted == got {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{table}: {:?}\n{}",
                difference(&wanted, &got),
                self.source.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The first rows that only one side has.
fn difference(wanted: &[Row], got: &[Row]) -> Vec<String> {
    let missing = wanted.iter().filter(|row| !got.contains(row));
    let extra = got.iter().filter(|row| !wanted.contains(row));
    let missing = missing.map(|row| format!("missing {row:?}"));
    let extra = extra.map(|row| format!("too much {row:?}"));
    missing.take(3).chain(extra.take(3)).collect()
}
