//! One source and its database.

use std::time::{Duration, Instant};

use tokio_postgres::Client;
use tributary_tests::marks::Marks;
use tributary_tests::oracle::{
    Fold, Lineage, TableRows, TopicChange, TopicReader, TopicRecord, topic_name,
};
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::stack::Stack;

pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) struct Stage {
    pub(crate) pipeline: Pipeline,
    pub(crate) client: Client,
    pub(crate) source: Service,
    registry: String,
    reader: TopicReader,
    marks: Marks,
}

impl Stage {
    /// A database in which `sql` has run, and a source of schema `s`, not started. `config` is added to its own.
    pub(crate) async fn new(name: &str, sql: &str, config: &str) -> Self {
        Self::on(&Stack::from_env().unwrap(), name, sql, config).await
    }

    /// As [`Stage::new`], on a stack of one's own.
    pub(crate) async fn on(stack: &Stack, name: &str, sql: &str, config: &str) -> Self {
        let mut pipeline = Pipeline::new(stack, name).await.unwrap();
        pipeline.tables = vec!["s.*".to_owned(), Marks::TABLE.to_owned()];
        let client = pipeline.source().await.unwrap();
        let sql = format!("{}; CREATE SCHEMA s; {sql}", Marks::SQL);
        client.batch_execute(&sql).await.unwrap();
        let config = format!("{}{config}", pipeline.source_config());
        let source = pipeline.service(Kind::Source, "source", &config).unwrap();
        let reader = TopicReader::new(stack.kafka(), stack.registry_url());
        Self {
            pipeline,
            client,
            source,
            registry: stack.registry_url().to_owned(),
            reader,
            marks: Marks::default(),
        }
    }

    /// The same, with the source streaming and all tables read.
    pub(crate) async fn streaming(name: &str, sql: &str) -> Self {
        let mut stage = Self::new(name, sql, "").await;
        stage.source.start().unwrap();
        stage.quiet().await;
        stage
    }

    pub(crate) async fn sql(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    /// One value as text.
    pub(crate) async fn ask(&self, sql: &str) -> Option<String> {
        self.client.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Waits until all that is committed is published.
    pub(crate) async fn quiet(&mut self) {
        let Self {
            pipeline,
            client,
            source,
            reader,
            marks,
            ..
        } = self;
        marks
            .quiet(pipeline, client, reader, source, PATIENCE)
            .await
            .unwrap();
    }

    /// The slot's name.
    pub(crate) fn slot(&self) -> String {
        format!("tributary_{}", self.pipeline.prefix())
    }

    /// All records of a table's topic.
    pub(crate) async fn records(&mut self, table: &str) -> Vec<TopicRecord> {
        let topic = topic_name(self.pipeline.prefix(), "s", table);
        self.reader.read(&topic).await.unwrap()
    }

    /// The newest schema under the topic's subject, as it is registered.
    pub(crate) async fn latest_value_schema(&self, table: &str) -> String {
        let subject = topic_name(self.pipeline.prefix(), "s", table) + "-value";
        let url = format!("{}/subjects/{subject}/versions/latest", self.registry);
        let answer = tributary_tests::http::client()
            .get(url)
            .send()
            .await
            .unwrap();
        answer.error_for_status().unwrap().text().await.unwrap()
    }

    /// The changes of a table with this `op`.
    pub(crate) async fn changes(&mut self, table: &str, op: char) -> Vec<TopicChange> {
        let records = self.records(table).await;
        let changes = records.into_iter().filter_map(|record| record.change);
        changes.filter(|change| change.op == op).collect()
    }

    /// Waits until a table's topic has records.
    pub(crate) async fn wait_for_topic(&mut self, table: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.records(table).await.is_empty() {
            assert!(
                self.source.is_running().unwrap(),
                "{}",
                self.source.log_tail()
            );
            assert!(Instant::now() < deadline, "{}", self.source.log_tail());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Once all is published, the topic says of each row of the table what the table says.
    pub(crate) async fn assert_equal(&mut self, table: &str) {
        self.quiet().await;
        let mut fold = Fold::default();
        fold.apply(&self.records(table).await);
        let quoted = format!("s.\"{table}\"");
        let rows = TableRows::read(&self.client, &quoted).await.unwrap();
        let found = fold.compare(&rows, &["id".to_owned()], &Lineage::default());
        assert!(found.is_empty(), "{found:#?}\n{}", self.source.log_tail());
    }

    /// The source stops by itself, with exit code 1; the last line of its log.
    pub(crate) fn stops(&mut self) -> String {
        let status = self.source.wait(PATIENCE).unwrap();
        let log = self.source.log();
        assert_eq!(status.code(), Some(1), "{log}");
        log.trim_end().lines().last().unwrap_or_default().to_owned()
    }
}
