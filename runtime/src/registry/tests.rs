//! Against the real registry at `TRIBUTARY_REGISTRY`, and against a server that answers what a real one
//! cannot be made to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use http::{HeaderMap, StatusCode, Uri, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::fault::{Fault, Kind};
use super::{BACKWARD_TRANSITIVE, Registry, Schema};
use crate::Policy;

fn real() -> Registry {
    let url = std::env::var("TRIBUTARY_REGISTRY")
        .expect("TRIBUTARY_REGISTRY is not set: start the local stack and source its variables");
    Registry::new(&url).unwrap()
}

/// A subject of its own for each test and run; the characters are those that need encoding in a URL.
fn subject(name: &str) -> String {
    let run = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_nanos();
    format!("test é+{name} {run}-value")
}

fn record(field: &str, rest: &str) -> String {
    format!(
        r#"{{"type":"record","name":"Row","fields":[{{"name":"{field}","type":"long"}}{rest}]}}"#
    )
}

#[tokio::test]
async fn registering_twice_gives_the_same_id() {
    let registry = real();
    let subject = subject("twice");
    let first = record("a", "");
    assert_eq!(registry.latest(&subject).await.unwrap(), None);
    assert_eq!(registry.lookup(&subject, &first).await.unwrap(), None);

    let id = registry.register(&subject, &first).await.unwrap();
    assert_eq!(registry.register(&subject, &first).await.unwrap(), id);
    assert_eq!(registry.lookup(&subject, &first).await.unwrap(), Some(id));
    let stored = registry.schema(id).await.unwrap();
    let stored = stored.and_then(Schema::avro).unwrap();
    let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(parse(&stored), parse(&first));

    let second = record(
        "a",
        r#",{"name":"b","type":["null","long"],"default":null}"#,
    );
    assert_eq!(registry.lookup(&subject, &second).await.unwrap(), None);
    let newer = registry.register(&subject, &second).await.unwrap();
    assert_ne!(newer, id);
    let latest = registry.latest(&subject).await.unwrap().unwrap();
    assert_eq!((latest.id, latest.version), (newer, 2));
    assert_eq!(parse(&latest.schema), parse(&second));
}

#[tokio::test]
async fn an_incompatible_schema_stops_with_the_subject_and_the_remedy() {
    let registry = real();
    let subject = subject("incompatible");
    let id = registry.register(&subject, &record("a", "")).await.unwrap();
    registry
        .set_compatibility(&subject, BACKWARD_TRANSITIVE)
        .await
        .unwrap();
    assert_eq!(
        registry.compatibility(&subject).await.unwrap().as_deref(),
        Some(BACKWARD_TRANSITIVE)
    );
    registry
        .set_compatibility(&subject, BACKWARD_TRANSITIVE)
        .await
        .unwrap();

    let error = registry
        .register(&subject, &record("b", ""))
        .await
        .unwrap_err();
    assert_eq!(error.policy(), Policy::Stop);
    let message = error.to_string();
    let expected = format!(
        "register a schema under subject '{subject}': the registry says that it is incompatible: "
    );
    assert!(message.starts_with(&expected), "{message}");
    let remedy = error.remedy_text().unwrap();
    assert!(
        remedy.contains(&subject) && remedy.contains("NONE"),
        "{remedy}"
    );
    assert_eq!(registry.latest(&subject).await.unwrap().unwrap().id, id);
}

#[tokio::test]
async fn an_unknown_id_is_none_and_an_invalid_schema_stops() {
    let registry = real();
    assert_eq!(registry.schema(u32::MAX / 2).await.unwrap(), None);
    let invalid = r#"{"type":"record","name":"Row"}"#;
    let error = registry
        .register(&subject("invalid"), invalid)
        .await
        .unwrap_err();
    assert_eq!(error.policy(), Policy::Stop);
    assert!(error.to_string().contains("answers 422"), "{error}");
}

#[tokio::test]
async fn check_finds_the_registry_and_nothing_else() {
    real().check().await.unwrap();
    let url = std::env::var("TRIBUTARY_REGISTRY").unwrap();
    let other = url.replace("/apis/ccompat/v7", "/apis/nothing");
    let error = Registry::new(&other).unwrap().check().await.unwrap_err();
    assert_eq!(error.policy(), Policy::Stop);
    assert!(
        error
            .to_string()
            .contains("is not a schema registry's Confluent API"),
        "{error}"
    );
    assert!(error.remedy_text().unwrap().contains("kafka.registry"));
}

/// The key schemas' ids are part of the rows' identity, and registries hash the text: what is sent is what was given,
/// and the id is the one that a plain request of the API gets.
#[tokio::test]
async fn the_text_of_a_schema_is_sent_as_it_is() {
    let odd = "{ \"type\":\"record\",\n\t\"name\" : \"Row\",\"doc\":\"\u{e4}\\u00e4 \\\" \u{1f600}\", \"fields\":[]}";
    let (address, seen) = recording(r#"{"id":7,"schema":"","version":1}"#).await;
    let registry = Registry::new(&format!("http://user:p%40ss@{address}/base/")).unwrap();
    let subject = "a/b %3F?c#d.\u{e4}-key";
    assert_eq!(registry.register(subject, odd).await.unwrap(), 7);
    assert_eq!(registry.lookup(subject, odd).await.unwrap(), Some(7));
    registry.latest(subject).await.unwrap().unwrap();
    let encoded = "/base/subjects/a%2Fb%20%253F%3Fc%23d.%C3%A4-key";
    let seen = seen.lock().unwrap();
    let paths: Vec<_> = seen.iter().map(|request| request.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            format!("{encoded}/versions"),
            format!("{encoded}?deleted=false"),
            format!("{encoded}/versions/latest")
        ]
    );
    for request in &seen[..2] {
        let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
        assert_eq!(body["schema"], odd);
    }
    for request in seen.iter() {
        assert_eq!(request.authorization, "Basic dXNlcjpwQHNz");
    }
}

#[tokio::test]
async fn the_id_is_that_of_a_plain_request() {
    let subject = subject("plain");
    let schema = r#"{"name":"Row",  "fields":[], "type":"record"}"#;
    let id = real().register(&subject, schema).await.unwrap();
    let url = format!(
        "{}/subjects/{subject}/versions",
        std::env::var("TRIBUTARY_REGISTRY").unwrap()
    );
    let answer = reqwest::Client::new()
        .post(url)
        .json(&serde_json::json!({ "schema": schema }))
        .send()
        .await
        .unwrap();
    let answer: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(answer["id"], id);
}

/// What a request had.
struct Seen {
    path: String,
    authorization: String,
    body: String,
}

/// Answers everything with one body, and remembers the requests.
async fn recording(answer: &'static str) -> (SocketAddr, Arc<Mutex<Vec<Seen>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let remembered = Arc::clone(&seen);
    let router = Router::new().fallback(move |uri: Uri, headers: HeaderMap, body: String| {
        let authorization = headers.get(header::AUTHORIZATION);
        remembered.lock().unwrap().push(Seen {
            path: uri.to_string(),
            authorization: authorization
                .map_or("", |value| value.to_str().unwrap())
                .to_owned(),
            body,
        });
        async move { answer }
    });
    (serving(router).await, seen)
}

async fn serving(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Serves one answer to everything, and nothing at all when `status` is `None`.
async fn answering(status: Option<StatusCode>, body: String) -> SocketAddr {
    let router = Router::new().fallback(move || async move {
        match status {
            Some(status) => (status, body),
            None => std::future::pending().await,
        }
    });
    serving(router).await
}

/// Row by row, with the call of ours that no crate sees and the one that goes through it.
#[tokio::test]
async fn refusals_are_classified_and_print_no_password() {
    let own = |code: u32| format!(r#"{{"error_code":{code},"message":"no such luck"}}"#);
    let cases = [
        (500, own(500), Policy::Retry, None),
        (503, own(503), Policy::Retry, None),
        (502, "<html>".to_owned(), Policy::Retry, None),
        (429, own(429), Policy::Retry, None),
        (408, String::new(), Policy::Retry, None),
        (401, own(401), Policy::Stop, Some("user and password")),
        (
            403,
            "<html>".to_owned(),
            Policy::Stop,
            Some("user and password"),
        ),
        (404, own(404), Policy::Stop, Some("base URL")),
        (404, "<html>".to_owned(), Policy::Stop, Some("base URL")),
        (422, own(42_201), Policy::Stop, None),
        (409, own(409), Policy::Stop, None),
        (301, own(1), Policy::Stop, None),
        (200, "<html>".to_owned(), Policy::Stop, Some("base URL")),
        (200, "{}".to_owned(), Policy::Stop, Some("base URL")),
        (200, " ".repeat(17 << 20), Policy::Stop, Some("base URL")),
    ];
    for (status, body, policy, remedy) in cases {
        let status = StatusCode::from_u16(status).unwrap();
        let said = body.contains("no such luck") && status != StatusCode::NOT_FOUND;
        let address = answering(Some(status), body).await;
        let registry = Registry::new(&format!("http://user:hunter2@{address}/v7")).unwrap();
        let errors = [
            registry.schema(1).await.unwrap_err(),
            registry.check().await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.policy(), policy, "{error}");
            let message = format!("{error} {error:?} {registry:?}");
            assert!(!message.contains("hunter2"), "{message}");
            assert_eq!(message.contains("no such luck"), said, "{message}");
            match remedy {
                Some(remedy) => assert!(error.remedy_text().unwrap().contains(remedy), "{error}"),
                None => assert_eq!(error.remedy_text(), None),
            }
        }
    }
}

/// How the row of a kind is found in docs/operations.md.
const fn documented(kind: Kind) -> &'static str {
    match kind {
        Kind::Silent => "`the registry … does not answer in time: …`",
        Kind::Unreachable => "`the registry … cannot be reached: …`",
        Kind::Busy => "`the registry … answers …` with 408, 429 or 5xx",
        Kind::NotAllowed => "`the registry … answers …` with 401 or 403",
        Kind::Missing | Kind::Refused => "`the registry … answers …` with another status",
        Kind::Conflict => "`register a schema under subject '…': … incompatible …`",
        Kind::Foreign => "`what answers at … is not a schema registry's Confluent API`",
        Kind::TooLarge => "`the registry … answers more than … bytes`",
    }
}

#[test]
fn every_row_of_the_policy_is_documented() {
    let kinds = [
        Kind::Silent,
        Kind::Unreachable,
        Kind::Busy,
        Kind::NotAllowed,
        Kind::Missing,
        Kind::Conflict,
        Kind::Refused,
        Kind::Foreign,
        Kind::TooLarge,
    ];
    for kind in kinds {
        let row = include_str!("../../../docs/operations.md")
            .lines()
            .find(|line| line.starts_with(&format!("| {}", documented(kind))))
            .unwrap_or_else(|| panic!("{kind:?} has no row"));
        let error = Fault::new(kind, "…".to_owned()).into_error("…");
        let retried = error.policy() == Policy::Retry;
        assert_eq!(row.contains("(tried again)"), retried, "{row}");
        if let Some(remedy) = error.remedy_text() {
            let (row, remedy) = (row.to_lowercase(), remedy.to_lowercase());
            assert!(row.contains(remedy.split(':').next().unwrap()), "{row}");
        }
    }
}

#[tokio::test]
async fn silence_and_absence_are_tried_again() {
    let address = answering(None, String::new()).await;
    let short = Duration::from_millis(100);
    let registry = Registry::with_timeouts(&format!("http://{address}"), short, short).unwrap();
    let error = registry.check().await.unwrap_err();
    assert_eq!(error.policy(), Policy::Retry);
    assert!(
        error.to_string().contains("does not answer in time"),
        "{error}"
    );

    // A port that was free a moment ago: nobody listens.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url = format!("http://user:hunter2@{address}");
    let error = Registry::new(&url).unwrap().check().await.unwrap_err();
    assert_eq!(error.policy(), Policy::Retry);
    let message = format!("{error} {error:?}");
    assert!(message.contains("cannot be reached"), "{message}");
    assert!(!message.contains("hunter2"), "{message}");

    // An answer that ends before it is whole.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            assert!(connection.read(&mut [0; 1024]).await.unwrap() > 0);
            let torn = b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"schema\":";
            connection.write_all(torn).await.unwrap();
        }
    });
    let registry = Registry::new(&url).unwrap();
    for error in [
        registry.schema(1).await.unwrap_err(),
        registry.check().await.unwrap_err(),
    ] {
        assert_eq!(error.policy(), Policy::Retry, "{error}");
        assert!(error.to_string().contains("cannot be reached"), "{error}");
    }
}

#[test]
fn a_wrong_url_is_an_error_and_not_a_panic() {
    for url in ["", "registry:8081", "http://", "ftp://registry"] {
        let error = Registry::new(url).unwrap_err();
        assert_eq!(error.policy(), Policy::Stop, "{url}");
    }
    let tls = Registry::new("https://registry:8081");
    assert!(tls.is_ok() || tls.unwrap_err().to_string().contains("set up the client"));
}
