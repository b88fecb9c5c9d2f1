//! Faults that a healthy engine cannot be made to show, by a server that speaks just enough of `_bulk`.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use serde_json::{Value, json};
use tributary_engine::{Lane as _, WriteError};
use tributary_runtime::Policy;
use tributary_schemas::record::{Datum, FieldType};

use crate::ElasticLane;

use super::fixture::{
    impatient, lane, listen, mark, record_type, rejections, target_error, text_key, until_rejected,
    upsert,
};

/// Answers a bulk request, given how many came before it and its action lines.
type Respond = dyn Fn(usize, &[String]) -> (StatusCode, Value) + Send + Sync;

pub(super) struct Server {
    pub(super) url: String,
    /// The `_id`s of each bulk request.
    requests: Arc<Mutex<Vec<Vec<String>>>>,
}

#[derive(Clone)]
struct Shared {
    requests: Arc<Mutex<Vec<Vec<String>>>>,
    answer: Arc<Respond>,
    /// What it answers to who looks at "t"; null is nothing.
    index: Value,
}

async fn serve(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> (StatusCode, String) {
    if !uri.path().ends_with("/_bulk") {
        let gone = json!({"error": {"type": "index_not_found_exception"}});
        return match method {
            Method::GET if !shared.index.is_null() => (StatusCode::OK, shared.index.to_string()),
            Method::GET => (StatusCode::NOT_FOUND, gone.to_string()),
            _ => (StatusCode::OK, "{}".to_owned()),
        };
    }
    let ids: Vec<_> = body
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let line: Value = serde_json::from_slice(line).ok()?;
            let action = line.get("index").or_else(|| line.get("delete"))?;
            Some(action.get("_id")?.as_str()?.to_owned())
        })
        .collect();
    let mut requests = shared.requests.lock().unwrap();
    let (status, answer) = (shared.answer)(requests.len(), &ids);
    requests.push(ids);
    (status, answer.to_string())
}

impl Server {
    async fn start(
        answer: impl Fn(usize, &[String]) -> (StatusCode, Value) + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(Value::Null, answer).await
    }

    /// The same, with an index of ours whose documents pass through an ingest pipeline.
    pub(super) async fn start_piped(
        answer: impl Fn(usize, &[String]) -> (StatusCode, Value) + Send + Sync + 'static,
    ) -> Self {
        let ours = json!({"format": 2, "topic": "t", "generation": "first", "partitions": 1});
        let index = json!({
            "aliases": {"t": {"is_write_index": true}},
            "mappings": {"dynamic": false, "_meta": {"tributary": ours}},
            "settings": {"index.gc_deletes": "1h", "index.default_pipeline": "pipe"},
        });
        Self::start_with(json!({ "t-000001": index }), answer).await
    }

    async fn start_with(
        index: Value,
        answer: impl Fn(usize, &[String]) -> (StatusCode, Value) + Send + Sync + 'static,
    ) -> Self {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let shared = Shared {
            requests: Arc::clone(&requests),
            answer: Arc::new(answer),
            index,
        };
        let url = listen(Router::new().fallback(serve).with_state(shared)).await;
        Self { url, requests }
    }

    pub(super) async fn writer(&self) -> ElasticLane {
        let lane = lane(&impatient(&self.url), "t").await;
        lane.begin(&mark("first")).await.unwrap();
        lane
    }

    /// Writes rows with these `_id`s, at the offsets 0, 1, ….
    async fn write(&self, ids: &[&str]) -> Result<(), WriteError> {
        Self::write_by(&self.writer().await, ids).await
    }

    async fn write_by(lane: &ElasticLane, ids: &[&str]) -> Result<(), WriteError> {
        let (key, row) = (text_key(), record_type(&[("n", FieldType::Int32)]));
        let changes: Vec<_> = ids
            .iter()
            .enumerate()
            .map(|(n, id)| {
                upsert(
                    n as i64,
                    1,
                    (&key, Datum::Str(id)),
                    (&row, &[Datum::Int(1)]),
                )
            })
            .collect();
        lane.put(changes.into_iter()).await
    }

    fn requests(&self) -> Vec<Vec<String>> {
        self.requests.lock().unwrap().clone()
    }
}

pub(super) fn item(status: u16, kind: Option<&str>) -> Value {
    let mut item = json!({"_index": "t-000001", "status": status});
    if let Some(kind) = kind {
        item["error"] = json!({"type": kind, "reason": "secret"});
    }
    json!({"index": item})
}

pub(super) fn items(ids: &[String], item_of: impl Fn(&str) -> Value) -> (StatusCode, Value) {
    let items: Vec<_> = ids.iter().map(|id| item_of(id)).collect();
    (StatusCode::OK, json!({"errors": true, "items": items}))
}

#[tokio::test]
async fn only_the_items_that_were_turned_away_are_sent_again() {
    let server = Server::start(|before, ids| {
        items(ids, |id| match (id, before) {
            ("b", 0) => item(429, Some("es_rejected_execution_exception")),
            ("c", 0) => item(409, Some("version_conflict_engine_exception")),
            ("d", 0 | 1) => item(503, Some("unavailable_shards_exception")),
            _ => item(201, None),
        })
    })
    .await;
    server.write(&["a", "b", "c", "d"]).await.unwrap();
    assert_eq!(
        server.requests(),
        [vec!["a", "b", "c", "d"], vec!["b", "d"], vec!["d"]]
    );
}

#[tokio::test]
async fn items_that_are_turned_away_for_long_go_back_to_the_loop() {
    let server = Server::start(|_, ids| {
        items(ids, |id| match id {
            "a" => item(201, None),
            _ => item(429, Some("es_rejected_execution_exception")),
        })
    })
    .await;
    let error = target_error(server.write(&["a", "b"]).await);
    assert_eq!(error.policy(), Policy::Retry);
    assert!(
        error
            .to_string()
            .contains("es_rejected_execution_exception"),
        "{error}"
    );
    assert!(server.requests().iter().skip(1).all(|ids| ids == &["b"]));
}

#[tokio::test]
async fn a_request_that_is_too_large_is_halved_down_to_the_document_that_is() {
    let server = Server::start(|_, ids| {
        let is_large = ids.len() > 2 || ids.iter().any(|id| id == "large");
        if is_large {
            (StatusCode::PAYLOAD_TOO_LARGE, json!({}))
        } else {
            items(ids, |_| item(201, None))
        }
    })
    .await;
    let rejected = rejections(server.write(&["a", "b", "c", "large", "e"]).await);
    assert_eq!(rejected.len(), 1);
    assert_eq!(rejected[0].offset, 3);
    assert!(
        rejected[0].reason.contains("http.max_content_length"),
        "{rejected:?}"
    );
    let mut written: Vec<_> = server
        .requests()
        .into_iter()
        .filter(|ids| ids.len() <= 2)
        .flatten()
        .collect();
    written.sort();
    written.dedup();
    assert_eq!(written, ["a", "b", "c", "e", "large"]);
}

#[tokio::test]
async fn the_policy_follows_the_status_and_no_value_is_told() {
    let cases = [
        (
            StatusCode::UNAUTHORIZED,
            Policy::Stop,
            "refuses the credentials",
        ),
        (StatusCode::FORBIDDEN, Policy::Stop, "does not allow"),
        (StatusCode::TOO_MANY_REQUESTS, Policy::Retry, "429"),
        (StatusCode::SERVICE_UNAVAILABLE, Policy::Retry, "503"),
        (StatusCode::BAD_GATEWAY, Policy::Retry, "502"),
        (
            StatusCode::BAD_REQUEST,
            Policy::Stop,
            "refuses a bulk request",
        ),
    ];
    for (status, policy, text) in cases {
        let body = json!({"error": {"type": "some_exception", "reason": "secret"}});
        let server = Server::start(move |_, _| (status, body.clone())).await;
        let error = target_error(server.write(&["a"]).await);
        assert_eq!(error.policy(), policy, "{error}");
        assert!(error.to_string().contains(text), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn an_engine_that_is_away_or_answers_nonsense_is_tried_again() {
    let away = Server {
        url: "http://127.0.0.1:1".to_owned(),
        requests: Arc::default(),
    };
    let lane = lane(&impatient(&away.url), "t").await;
    let error = lane.known().await.unwrap_err();
    assert_eq!(error.policy(), Policy::Retry);
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");

    let short = Server::start(|_, _| (StatusCode::OK, json!({"items": []}))).await;
    let error = target_error(short.write(&["a"]).await);
    assert_eq!(error.policy(), Policy::Retry);
    assert!(
        error.to_string().contains("0 items to 1 operations"),
        "{error}"
    );
}

#[tokio::test]
async fn another_node_is_used_when_one_is_away() {
    let server = Server::start(|_, ids| items(ids, |_| item(201, None))).await;
    let both = Server {
        url: format!("http://127.0.0.1:1,{}", server.url),
        requests: Arc::clone(&server.requests),
    };
    both.write(&["a"]).await.unwrap();
    assert_eq!(server.requests(), [vec!["a"]]);
}

/// The engine fails at each that begins with "bad" each time; what `others` says decides about the rest.
async fn fails_at_one(status: u16, others: impl Fn(&str) -> u16 + Send + Sync + 'static) -> Server {
    Server::start(move |_, ids| {
        items(ids, |id| match (id, others(id)) {
            (bad, _) if bad.starts_with("bad") => item(status, Some("null_pointer_exception")),
            (_, 201) => item(201, None),
            (_, status) => item(status, Some("unavailable_shards_exception")),
        })
    })
    .await
}

#[tokio::test]
async fn an_item_that_always_fails_is_rejected_while_others_are_taken() {
    for status in [500, 503, 502] {
        let server = fails_at_one(status, |_| 201).await;
        let writer = server.writer().await;
        let write = async || Server::write_by(&writer, &["a", "bad", "b"]).await;
        let (rejected, _) = until_rejected(write).await;
        assert_eq!(rejected.len(), 1, "{rejected:?}");
        assert_eq!(rejected[0].offset, 1);
        let reason = &rejected[0].reason;
        assert!(
            reason.contains(&format!("{status} null_pointer_exception")),
            "{reason}"
        );
        assert!(!reason.contains("secret"), "{reason}");
        assert_eq!(server.requests().last().unwrap(), &["~?", "bad"]);
    }
}

/// More than one request puts to the proof: none keeps another one from being rejected.
#[tokio::test]
async fn items_that_always_fail_are_rejected_however_many_there_are() {
    let server = fails_at_one(500, |_| 201).await;
    let writer = server.writer().await;
    let bad: Vec<_> = (0..250).map(|n| format!("bad {n}")).collect();
    let ids: Vec<_> = ["good"]
        .into_iter()
        .chain(bad.iter().map(String::as_str))
        .collect();
    let (rejected, _) = until_rejected(async || Server::write_by(&writer, &ids).await).await;
    assert_eq!(rejected.len(), bad.len());
}

#[tokio::test]
async fn an_item_whose_shard_takes_nothing_is_sent_again() {
    // 503 for the probe as well: it is the shard. 429: it is the load.
    let cases: [(u16, u16); 2] = [(503, 503), (429, 201)];
    for (status, probe) in cases {
        let others = move |id: &str| if id == "~?" { probe } else { 201 };
        let server = fails_at_one(status, others).await;
        let writer = server.writer().await;
        let mut last = None;
        for _ in 0..5 {
            last = Some(target_error(Server::write_by(&writer, &["a", "bad"]).await));
        }
        let error = last.unwrap();
        assert_eq!(error.policy(), Policy::Retry);
        assert!(
            error
                .to_string()
                .contains(&format!("{status} null_pointer")),
            "{error}"
        );
    }
}

#[tokio::test]
async fn documents_that_all_fail_are_not_rejected_at_once() {
    let others = |id: &str| if id == "~?" { 201 } else { 500 };
    let server = fails_at_one(500, others).await;
    let writer = server.writer().await;
    for _ in 0..5 {
        let written = Server::write_by(&writer, &["a", "bad", "b"]).await;
        assert_eq!(target_error(written).policy(), Policy::Retry);
    }
}

#[tokio::test]
async fn a_request_that_is_refused_for_one_item_is_halved_down_to_it() {
    let server = Server::start(|_, ids| {
        if ids.iter().any(|id| id == "bad") {
            let error = json!({"type": "some_parse_exception", "reason": "secret"});
            (StatusCode::BAD_REQUEST, json!({"error": error}))
        } else {
            items(ids, |_| item(201, None))
        }
    })
    .await;
    let rejected = rejections(server.write(&["a", "b", "c", "bad", "e"]).await);
    assert_eq!(rejected.len(), 1, "{rejected:?}");
    assert_eq!(rejected[0].offset, 3);
    assert!(rejected[0].reason.contains("400 some_parse_exception"));
    let mut written: Vec<_> = server.requests();
    written.retain(|ids| ids.iter().all(|id| id != "bad"));
    assert_eq!(written.concat(), ["a", "b", "c", "e"]);
}

#[tokio::test]
async fn requests_that_are_all_refused_stop_the_service_and_reject_nobody() {
    let body = json!({"error": {"type": "illegal_argument_exception", "reason": "secret"}});
    let server = Server::start(move |_, _| (StatusCode::BAD_REQUEST, body.clone())).await;
    let ids: Vec<_> = (0..64).map(|n| n.to_string()).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    let error = target_error(server.write(&ids).await);
    assert_eq!(error.policy(), Policy::Stop);
    assert!(
        error.to_string().contains("refuses a bulk request"),
        "{error}"
    );
    assert!(server.requests().len() <= 8, "{}", server.requests().len());
}
