//! Ingest pipelines of the user's, by which an index takes no document.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tributary_engine::WriteError;
use tributary_runtime::Policy;
use tributary_schemas::record::{Datum, FieldType};

use super::faults::{Server, item, items};
use super::fixture::{Fixture, record_type, rejections, target_error, text_key, upsert};
use crate::ElasticLane;
use crate::chunk::{Task, VersionType};

/// More than may be refused in a row.
const MANY: usize = 1_100;

/// Writes so many rows with this text in "flag".
async fn put(writer: &ElasticLane, text: &str, count: usize) -> Result<(), WriteError> {
    write(writer, text, count, false).await
}

async fn write(
    writer: &ElasticLane,
    text: &str,
    count: usize,
    is_replay: bool,
) -> Result<(), WriteError> {
    let (key, row) = (text_key(), record_type(&[("flag", FieldType::String)]));
    let ids: Vec<_> = (0..count).map(|n| n.to_string()).collect();
    let changes = ids.iter().enumerate().map(|(n, id)| {
        let value = [Datum::Str(text)];
        upsert(n as i64, 2, (&key, Datum::Str(id)), (&row, &value))
    });
    let tasks = changes.map(Task::Apply).collect::<Vec<_>>().into_iter();
    writer.apply(tasks, VersionType::External, is_replay).await
}

/// What a pipeline says to a document.
fn refused() -> Value {
    item(400, Some("illegal_argument_exception"))
}

/// Makes "flag" a boolean.
async fn map_flag(writer: &ElasticLane) {
    let (key, row) = (text_key(), record_type(&[("flag", FieldType::Bool)]));
    let values = [Datum::Bool(true)];
    let change = upsert(0, 1, (&key, Datum::Str("first")), (&row, &values));
    writer.put([change].into_iter()).await.unwrap();
}

#[tokio::test]
async fn an_index_whose_pipeline_is_missing_stops_the_service_and_rejects_nobody() {
    let fixture = Fixture::new();
    let writer = fixture.writer().await;
    let settings = format!("/{}/_settings", fixture.alias());
    for name in ["default", "final"] {
        let set = json!({format!("index.{name}_pipeline"): "tributary-none"});
        fixture.put(&settings, set).await;
        let error = target_error(put(&writer, "a", 1).await);
        assert_eq!(error.policy(), Policy::Stop);
        let text = error.to_string();
        let told = "takes no documents (illegal_argument_exception: pipeline with id [tributary-none] does not exist)";
        assert!(text.contains(told), "{text}");
        let remedy = error.remedy_text().unwrap();
        let body =
            &remedy[remedy.find("_settings {").unwrap() + 10..remedy.rfind('}').unwrap() + 1];
        let body = serde_json::from_str(body).unwrap();
        fixture.put(&settings, body).await;
        put(&writer, "a", 1).await.unwrap();
    }
    fixture.finish().await;
}

#[tokio::test]
async fn a_pipeline_that_refuses_every_document_stops_the_service() {
    let server = Server::start_piped(|before, ids| {
        items(ids, |_| match before {
            0 => item(201, None),
            _ => refused(),
        })
    })
    .await;
    let writer = server.writer().await;
    put(&writer, "passes", 1).await.unwrap();
    let error = target_error(put(&writer, "secret", MANY).await);
    assert_eq!(error.policy(), Policy::Stop);
    let text = format!("{error} {}", error.remedy_text().unwrap());
    assert!(text.contains("refuses every document"), "{text}");
    assert!(text.contains("/_ingest/pipeline/pipe"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

/// Rows that do not fit are put aside, however many of them come together.
#[tokio::test]
async fn rows_of_another_type_than_their_field_stop_nothing() {
    let fixture = Fixture::new();
    let writer = fixture.writer().await;
    map_flag(&writer).await;
    // An engine may lack all processors: without `ingest-common`.
    let pipeline = format!("/_ingest/pipeline/{}", fixture.topic);
    fixture.put(&pipeline, json!({"processors": []})).await;
    let settings = format!("/{}/_settings", fixture.alias());
    let default = json!({"index.default_pipeline": fixture.topic});
    fixture.put(&settings, default).await;
    let rejected = rejections(put(&writer, "no flag", MANY).await);
    assert_eq!(rejected.len(), MANY);
    fixture.finish().await;
}

/// Beside those that the pipeline refuses, all others wait for a shard: it is the same rows each time.
#[tokio::test]
async fn rows_that_are_refused_again_with_those_that_wait_are_counted_once() {
    let is_away = Arc::new(AtomicBool::new(true));
    let away = Arc::clone(&is_away);
    let server = Server::start_piped(move |_, ids| {
        items(ids, |id| match id.parse::<usize>() {
            Ok(0..300) => refused(),
            _ if away.load(Ordering::Relaxed) => item(503, Some("unavailable_shards_exception")),
            _ => item(201, None),
        })
    })
    .await;
    let writer = server.writer().await;
    for _ in 0..4 {
        let error = target_error(put(&writer, "a", 400).await);
        assert_eq!(error.policy(), Policy::Retry, "{error}");
    }
    is_away.store(false, Ordering::Relaxed);
    assert_eq!(rejections(put(&writer, "a", 400).await).len(), 300);
}

#[tokio::test]
async fn letters_that_the_pipeline_still_refuses_are_put_aside_again() {
    let server = Server::start_piped(|_, ids| items(ids, |_| refused())).await;
    let writer = server.writer().await;
    let replayed = write(&writer, "a", MANY, true).await;
    assert_eq!(rejections(replayed).len(), MANY);
    let error = target_error(put(&writer, "a", MANY).await);
    assert_eq!(error.policy(), Policy::Stop, "{error}");
}
