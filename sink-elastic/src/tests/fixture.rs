//! A topic of its own per test, and what the engine says about its index.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use reqwest::Method;
use serde_json::Value;
use tributary_engine::{
    Action, Change, KeyRow, Known, Lane as _, Mark, Rejection, Swept, TableName, Target as _,
    ValueRow, WriteError,
};
use tributary_runtime::Error;
use tributary_schemas::record::{Datum, Field, FieldType, RecordType};

use crate::chunk::{Task, VersionType};
use crate::config::{Config, ElasticConfig};
use crate::lane::{Elastic, ElasticLane};

/// A topic that no other test has, its index, and a plain HTTP client beside the product's.
pub(super) struct Fixture {
    pub(super) topic: String,
    pub(super) config: ElasticConfig,
    pub(super) elastic: Elastic,
    pub(super) http: reqwest::Client,
    pub(super) url: String,
}

/// Held by a test that makes an index red, and by one that the health of the whole cluster concerns.
pub(super) static HEALTH: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

pub(super) fn config(url: &str) -> ElasticConfig {
    let mut config: ElasticConfig = toml::from_str(&format!("url = \"{url}\"")).unwrap();
    config.number_of_replicas = Some(0);
    // No test asks for a deadline; a machine under load may need more than the default.
    config.request_timeout_ms = 120_000;
    config
}

/// A service's whole configuration; the address or addresses as TOML.
pub(super) fn service(url: &str) -> Config {
    let text = format!(
        r#"
        name = "search"
        topics = ["shop.*"]
        [kafka]
        brokers = ["kafka:9092"]
        registry = "http://registry:8081"
        [elasticsearch]
        url = {url}
        "#
    );
    toml::from_str(&text).unwrap()
}

impl Fixture {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let url = std::env::var("TRIBUTARY_SEARCH").expect(
            "TRIBUTARY_SEARCH is not set: it names the search engine to test with (make up starts one)",
        );
        let nanos = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_nanos();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let config = config(&url);
        let elastic = Elastic::new(config.clone()).unwrap();
        Self {
            topic: format!("test.t{}-{nanos}-{number}", std::process::id()),
            config,
            elastic,
            http: reqwest::Client::new(),
            url,
        }
    }

    pub(super) fn alias(&self) -> &str {
        &self.topic
    }

    pub(super) fn first_index(&self) -> String {
        format!("{}-000001", self.topic)
    }

    pub(super) async fn writer(&self) -> ElasticLane {
        self.open().await.unwrap()
    }

    /// The lane, with its index made where it is missing.
    pub(super) async fn open(&self) -> Result<ElasticLane, Error> {
        let lane = self.lane().await;
        if lane.known().await? == Known::Nothing {
            lane.begin(&mark("first")).await?;
        }
        Ok(lane)
    }

    pub(super) async fn lane(&self) -> ElasticLane {
        lane(&self.elastic, &self.topic).await
    }

    /// A request to the engine; the status, and the body as JSON.
    pub(super) async fn call(
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
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or_default())
    }

    /// Elasticsearch refuses a body where it expects none: null stands for none.
    pub(super) async fn put(&self, path: &str, body: Value) {
        let body = Some(body).filter(|body| !body.is_null());
        let (status, answer) = self.call(Method::PUT, path, body).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// The documents' `_id`s and `_source`s, after a refresh, in the order of `_tributary_seq`.
    pub(super) async fn documents(&self) -> Vec<(String, Value)> {
        let answer = self.search(serde_json::json!({"match_all": {}})).await;
        answer
            .into_iter()
            .map(|hit| {
                (
                    hit["_id"].as_str().unwrap().to_owned(),
                    hit["_source"].clone(),
                )
            })
            .collect()
    }

    pub(super) async fn ids(&self) -> Vec<String> {
        self.documents()
            .await
            .into_iter()
            .map(|(id, _)| id)
            .collect()
    }

    pub(super) async fn search(&self, query: Value) -> Vec<Value> {
        let path = format!("/{}/_refresh", self.alias());
        assert_eq!(self.call(Method::POST, &path, None).await.0, 200);
        let body = serde_json::json!({"size": 1000, "query": query, "sort": ["_tributary_seq"]});
        let path = format!("/{}/_search", self.alias());
        let (status, answer) = self.call(Method::POST, &path, Some(body)).await;
        assert_eq!(status, 200, "{answer}");
        answer["hits"]["hits"].as_array().unwrap().clone()
    }

    pub(super) async fn finish(self) {
        let path = format!("/{}*", self.topic);
        let (_, answer) = self.call(Method::GET, &path, None).await;
        for index in answer
            .as_object()
            .into_iter()
            .flat_map(|indices| indices.keys())
        {
            self.call(Method::DELETE, &format!("/{index}"), None).await;
        }
    }
}

/// A record type of nullable fields.
pub(super) fn record_type(fields: &[(&str, FieldType)]) -> RecordType {
    RecordType {
        full_name: "test.t.Value".to_owned(),
        fields: fields
            .iter()
            .map(|(name, field_type)| field(name, field_type.clone()))
            .collect(),
    }
}

pub(super) fn field(name: &str, field_type: FieldType) -> Field {
    Field {
        name: name.to_owned(),
        field_type,
        nullable: true,
    }
}

/// The key of the tests that do not care: one text column.
pub(super) fn text_key() -> RecordType {
    record_type(&[("id", FieldType::String)])
}

pub(super) fn upsert<'a>(
    offset: i64,
    seq: u64,
    (key_type, key): (&'a RecordType, Datum<'a>),
    (row_type, row): (&'a RecordType, &[Datum<'a>]),
) -> Change<'a> {
    Change {
        partition: 0,
        offset,
        seq,
        key: Some(KeyRow {
            key_type,
            row: vec![key],
        }),
        action: Action::Upsert(ValueRow {
            row_type,
            row: row.to_vec(),
        }),
    }
}

pub(super) fn delete<'a>(
    offset: i64,
    seq: u64,
    (key_type, key): (&'a RecordType, Datum<'a>),
) -> Change<'a> {
    Change {
        partition: 0,
        offset,
        seq,
        key: Some(KeyRow {
            key_type,
            row: vec![key],
        }),
        action: Action::Delete,
    }
}

/// The error of a write that the target as a whole has refused.
#[track_caller]
pub(super) fn target_error(result: Result<(), WriteError>) -> Error {
    match result {
        Err(WriteError::Target(error)) => error,
        other => panic!("expected an error of the target, got {other:?}"),
    }
}

#[track_caller]
pub(super) fn rejections(result: Result<(), WriteError>) -> Vec<Rejection> {
    match result {
        Err(WriteError::Rejected(rejections)) => rejections,
        other => panic!("expected rejections, got {other:?}"),
    }
}

/// A target with little patience, for a server that never gets better.
pub(super) fn impatient(url: &str) -> Elastic {
    Elastic::with_patience(config(url), Duration::from_millis(200)).unwrap()
}

/// The lane of a topic.
pub(super) async fn lane(elastic: &Elastic, topic: &str) -> ElasticLane {
    let table = TableName {
        schema: "test".to_owned(),
        table: "t".to_owned(),
    };
    elastic.lane(topic, &table).await.unwrap()
}

/// Writes until the target has said what is wrong with the records, as the loop does.
pub(super) async fn until_rejected(
    mut write: impl AsyncFnMut() -> Result<(), WriteError>,
) -> (Vec<Rejection>, u32) {
    for tries in 0..300 {
        match write().await {
            Err(WriteError::Target(error)) => {
                assert_eq!(error.policy(), tributary_runtime::Policy::Retry, "{error}");
            }
            other => return (rejections(other), tries),
        }
    }
    panic!("tried again for ever");
}

/// The mark of a generation of this name.
pub(super) fn mark(generation: &str) -> Mark {
    Mark {
        generation: generation.to_owned(),
        topic_id: Some("topic's id".to_owned()),
        partitions: 2,
        versions_are_offsets: false,
        key_schemas: std::collections::BTreeSet::new(),
        caught_up_ms: std::collections::BTreeMap::new(),
    }
}

/// What the engine of the sink does with a lane, for tests without batches.
impl ElasticLane {
    /// Writes changes.
    pub(super) async fn put<'a>(
        &self,
        changes: impl Iterator<Item = Change<'a>> + Send + 'a,
    ) -> Result<(), WriteError> {
        self.apply(changes.map(Task::Apply), VersionType::External, false)
            .await
    }

    /// Sweeps to the end; how many pieces that took.
    pub(super) async fn sweep_all(&self, below: u64) -> Result<usize, Error> {
        let mut pieces = 1;
        while self.sweep(below).await? == Swept::Some {
            pieces += 1;
        }
        Ok(pieces)
    }
}

/// A server on loopback until the test ends; its URL.
pub(super) async fn listen(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}
