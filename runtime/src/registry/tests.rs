//! Against the real registry at `TRIBUTARY_REGISTRY`, and against a server that answers what a real one
//! cannot be made to.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;

use super::{BACKWARD_TRANSITIVE, Registry};
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
    let stored = registry.schema(id).await.unwrap().unwrap();
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

/// Serves one answer to everything, and nothing at all when `status` is `None`.
async fn answering(status: Option<StatusCode>, body: &'static str) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(move || async move {
        match status {
            Some(status) => (status, body),
            None => std::future::pending().await,
        }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test]
async fn refusals_are_classified_and_print_no_password() {
    let cases = [
        (500, Policy::Retry),
        (503, Policy::Retry),
        (429, Policy::Retry),
        (401, Policy::Stop),
        (403, Policy::Stop),
        (422, Policy::Stop),
        (301, Policy::Stop),
    ];
    for (status, policy) in cases {
        let status = StatusCode::from_u16(status).unwrap();
        let address = answering(Some(status), r#"{"error_code":1,"message":"no such luck"}"#).await;
        let registry = Registry::new(&format!("http://user:hunter2@{address}/v7")).unwrap();
        let error = registry.schema(1).await.unwrap_err();
        assert_eq!(error.policy(), policy, "{error}");
        let message = format!("{error} {error:?}");
        assert!(message.contains("no such luck"), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[tokio::test]
async fn silence_and_absence_are_tried_again() {
    let address = answering(None, "").await;
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
