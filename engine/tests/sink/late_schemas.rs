//! Schemas that the registry does not know yet, and those that are of another kind.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::get;
use serde_json::json;
use tributary_engine::{OnError, dead_letter};
use tributary_runtime::registry::{Registry, Schema};
use tributary_schemas::wire;

use crate::double::Target;
use crate::stage::{Stage, header_of, start};

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

async fn known(registry: &Registry, id: u32) -> (StatusCode, String) {
    let schema = registry.schema(id).await.unwrap().and_then(Schema::avro);
    (StatusCode::OK, json!({ "schema": schema }).to_string())
}

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
            known(&registry, id).await
        }
    };
    serve(Router::new().route("/schemas/ids/{id}", get(answer))).await
}

const OF_ANOTHER_KIND: u32 = 900_000;

/// Has a JSON schema, too, and takes no number for an id that is not one of 32 bits with a sign.
async fn mixed_registry(url: &str) -> String {
    let registry = Registry::new(url).unwrap();
    let answer = move |Path(id): Path<u32>| {
        let registry = registry.clone();
        async move {
            if i32::try_from(id).is_err() {
                let no_path = json!({"error_code": 404, "message": "HTTP 404 Not Found"});
                return (StatusCode::NOT_FOUND, no_path.to_string());
            }
            if id == OF_ANOTHER_KIND {
                let other = json!({"schemaType": "JSON", "schema": "{}"});
                return (StatusCode::OK, other.to_string());
            }
            known(&registry, id).await
        }
    };
    serve(Router::new().route("/schemas/ids/{id}", get(answer))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_avro_by_its_schema_id_is_put_aside() {
    let stage = Stage::new("kinds").await;
    let topic = stage.topic("t");
    stage.create(&topic, 1).await;
    for (id, seq) in [(OF_ANOTHER_KIND, 1), (u32::MAX, 2)] {
        let mut bad = stage.change('c', 1, seq, 1_000);
        bad.value = Some([&wire::prefix(id)[..], b"{}"].concat());
        stage.send(&topic, 0, bad).await;
    }
    stage.send(&topic, 0, stage.change('c', 1, 3, 1_000)).await;
    let mut config = stage.config(&[&topic]);
    config.kafka.registry = mixed_registry(&stage.kafka().registry).await;
    config.on_error = OnError::DeadLetter;
    let letters = config.dead_letter_topic().unwrap();
    let sink = start(config, Target::new());
    stage.until_committed(&topic, 0, 3).await;
    sink.stop().await;
    let letters = stage.read(&letters, 2);
    let errors: Vec<_> = letters
        .iter()
        .map(|letter| header_of(letter, dead_letter::ERROR).unwrap())
        .collect();
    assert!(
        errors[0].contains("a Json schema, not an Avro one"),
        "{errors:?}"
    );
    assert!(errors[1].contains("4294967295"), "{errors:?}");
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
