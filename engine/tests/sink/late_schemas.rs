//! Schemas that the registry does not know yet.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::json;
use tributary_engine::OnError;
use tributary_runtime::registry::Registry;

use crate::double::Target;
use crate::stage::{Stage, start};

/// Answers as the registry does, but knows no schema for two seconds after it was asked first.
async fn late_registry(url: &str) -> String {
    let registry = Registry::new(url).unwrap();
    let asked = Arc::new(Mutex::new(None));
    let answer = move |Path(id): Path<u32>| {
        let (registry, asked) = (registry.clone(), Arc::clone(&asked));
        async move {
            let since: Instant = *asked.lock().unwrap().get_or_insert_with(Instant::now);
            if since.elapsed() < Duration::from_secs(2) {
                let unknown = json!({"error_code": 40403, "message": "Schema not found"});
                return (StatusCode::NOT_FOUND, unknown.to_string());
            }
            let schema = registry.schema(id).await.unwrap();
            (StatusCode::OK, json!({ "schema": schema }).to_string())
        }
    };
    let router = Router::new().route("/schemas/ids/{id}", get(answer));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn fresh_schema_id_not_known_yet() {
    let stage = Stage::new("fresh").await;
    let topic = stage.topic("t");
    stage.create(&topic, 1).await;
    stage.send(&topic, 0, stage.change('c', 1, 1, 1_000)).await;
    let mut config = stage.config(&[&topic]);
    config.kafka.registry = late_registry(&stage.kafka().registry).await;
    config.on_error = OnError::DeadLetter;
    let target = Target::new();
    let sink = start(config, target.clone());
    let what = "the schema registry does not know schema id";
    sink.until_not_ready(&topic, what).await;
    target.until("the row", |state| state.rows.len() == 1).await;
    stage.until_committed(&topic, 0, 1).await;
    assert_eq!(sink.health.not_ready(), None);
    sink.stop().await;
}
