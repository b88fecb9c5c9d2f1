//! An alias that somebody else moves while the sink runs.

use reqwest::Method;
use serde_json::{Value, json};
use tributary_engine::WriteError;
use tributary_runtime::Policy;
use tributary_schemas::record::{Datum, FieldType, RecordType};

use super::fixture::{Fixture, delete, record_type, target_error, text_key, upsert};
use crate::ElasticLane;
use crate::chunk::{Task, VersionType};
use crate::failure;

fn old_row() -> RecordType {
    record_type(&[("id", FieldType::String)])
}

fn new_row() -> RecordType {
    record_type(&[("id", FieldType::String), ("added", FieldType::Int32)])
}

/// Writes the rows with these ids, as the table was before ADD COLUMN or as it is behind.
async fn put(
    writer: &ElasticLane,
    ids: &[&str],
    seq: u64,
    has_column: bool,
) -> Result<(), WriteError> {
    let (key, row) = (text_key(), if has_column { new_row() } else { old_row() });
    let changes = ids.iter().enumerate().map(|(n, id)| {
        let values = [Datum::Str(id), Datum::Int(7)];
        let values = values.get(..row.fields.len()).unwrap();
        upsert(n as i64, seq, (&key, Datum::Str(id)), (&row, values))
    });
    writer.put(changes.collect::<Vec<_>>().into_iter()).await
}

impl Fixture {
    fn second_index(&self) -> String {
        format!("{}-by-hand", self.topic)
    }

    /// Makes a second index with what `mappings` says, and copies all rows.
    async fn copy(&self, mappings: Value) {
        let body = json!({"settings": {"index.number_of_replicas": 0}, "mappings": mappings});
        self.put(&format!("/{}", self.second_index()), body).await;
        // What `_reindex` does with `"version_type": "external"`; it is a module that an engine may lack.
        let mut lines = String::new();
        for (id, source) in self.documents().await {
            let version = &source["_tributary_seq"];
            let action = json!({"_id": id, "version": version, "version_type": "external"});
            lines += &format!("{}\n{source}\n", json!({"index": action}));
        }
        let bulk = format!("{}/{}/_bulk?refresh=true", self.url, self.second_index());
        let request = self
            .http
            .post(bulk)
            .header("content-type", "application/x-ndjson");
        let answer: Value = request
            .body(lines)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        assert_eq!(answer["errors"], json!(false), "{answer}");
    }

    async fn mappings(&self) -> Value {
        let path = format!("/{}", self.first_index());
        let (_, answer) = self.call(Method::GET, &path, None).await;
        answer[self.first_index()]["mappings"].clone()
    }

    async fn move_alias(&self) {
        let body = json!({"actions": [
            {"remove": {"index": self.first_index(), "alias": self.alias()}},
            {"add": {"index": self.second_index(), "alias": self.alias(), "is_write_index": true}},
        ]});
        let (status, answer) = self.call(Method::POST, "/_aliases", Some(body)).await;
        assert_eq!(status, 200, "{answer}");
    }

    async fn found_by_added(&self) -> Vec<String> {
        let hits = self.search(json!({"term": {"added": 7}})).await;
        let mut ids: Vec<_> = hits
            .iter()
            .map(|hit| hit["_id"].as_str().unwrap().to_owned())
            .collect();
        ids.sort();
        ids
    }
}

#[tokio::test]
async fn alias_moved_by_hand_under_load() {
    let fixture = Fixture::new();
    let writer = fixture.writer().await;
    put(&writer, &["a", "b"], 1, false).await.unwrap();
    fixture.copy(fixture.mappings().await).await;
    fixture.move_alias().await;

    // Rows go on, then comes ADD COLUMN.
    put(&writer, &["c"], 2, false).await.unwrap();
    put(&writer, &["a", "d"], 3, true).await.unwrap();
    let mut ids = fixture.ids().await;
    ids.sort();
    assert_eq!(ids, ["a", "b", "c", "d"]);
    assert_eq!(fixture.found_by_added().await, ["a", "d"]);
    let path = format!("/{}?flat_settings=true", fixture.second_index());
    let (_, answer) = fixture.call(Method::GET, &path, None).await;
    let index = &answer[fixture.second_index()];
    assert_eq!(index["settings"]["index.gc_deletes"], "1h");
    assert_eq!(
        index["mappings"]["_meta"]["tributary"]["topic"],
        json!(fixture.topic)
    );
    fixture.finish().await;
}

/// The first rows that reach the new index are those that it does not map.
#[tokio::test]
async fn rows_that_reach_the_new_index_before_it_is_ready_are_found_by_its_fields() {
    let fixture = Fixture::new();
    let writer = fixture.writer().await;
    let mappings = fixture.mappings_of_an_old_row(&writer).await;
    put(&writer, &["a", "b"], 2, true).await.unwrap();
    fixture.copy(mappings).await;
    assert_eq!(fixture.found_by_added().await, ["a", "b"]);
    fixture.move_alias().await;
    put(&writer, &["c", "d"], 3, true).await.unwrap();
    let key = text_key();
    let gone = delete(9, 4, (&key, Datum::Str("d")));
    writer.put([gone].into_iter()).await.unwrap();
    // What was copied before the field was mapped is the copier's.
    assert_eq!(fixture.found_by_added().await, ["c"]);
    fixture.finish().await;
}

impl Fixture {
    async fn mappings_of_an_old_row(&self, writer: &ElasticLane) -> Value {
        put(writer, &["a"], 1, false).await.unwrap();
        self.mappings().await
    }
}

#[tokio::test]
async fn an_index_that_is_not_ours_is_not_taken_while_the_service_runs() {
    let fixture = Fixture::new();
    let writer = fixture.writer().await;
    put(&writer, &["a"], 1, false).await.unwrap();
    let mut mappings = fixture.mappings().await;
    mappings.as_object_mut().unwrap().remove("_meta");
    fixture.copy(mappings).await;
    fixture.move_alias().await;
    let error = target_error(put(&writer, &["b"], 2, false).await);
    assert_eq!(error.policy(), Policy::Stop);
    let text = error.to_string();
    assert!(
        text.contains("was moved away from") && text.contains("did not make"),
        "{text}"
    );

    // The remedy, to the letter.
    let remedy = error.remedy_text().unwrap();
    let body = &remedy[remedy.find("/_aliases {").unwrap() + 10..remedy.rfind("};").unwrap() + 1];
    let body: Value = serde_json::from_str(body).unwrap();
    let (status, answer) = fixture.call(Method::POST, "/_aliases", Some(body)).await;
    assert_eq!(status, 200, "{answer}");
    let again = Fixture {
        topic: fixture.topic.clone(),
        ..Fixture::new()
    };
    put(&again.writer().await, &["b"], 2, false).await.unwrap();
    assert_eq!(fixture.ids().await, ["a", "b"]);
    fixture.finish().await;
}

#[tokio::test]
async fn a_sweep_whose_alias_is_moved_begins_again() {
    let fixture = Fixture::new();
    let writer = fixture.writer().await;
    put(&writer, &["a", "b"], 1, false).await.unwrap();
    fixture.copy(fixture.mappings().await).await;
    fixture.move_alias().await;
    writer.sweep_all(2).await.unwrap();
    assert_eq!(fixture.ids().await, [""; 0]);
    fixture.finish().await;
}

#[tokio::test]
async fn values_are_written_as_the_index_maps_them_that_the_alias_leads_to() {
    let fixture = Fixture::new();
    let (key, row) = (text_key(), record_type(&[("doc", FieldType::Json)]));
    let values = [Datum::Str(r#"{"a": 1, "a": 2}"#)];
    let change = |seq| upsert(0, seq, (&key, Datum::Str("a")), (&row, &values));
    let writer = fixture.writer().await;
    writer.put([change(1)].into_iter()).await.unwrap();
    let document = fixture.documents().await.remove(0).1;
    assert_eq!(document["doc"], r#"{"a": 1, "a": 2}"#);

    // The other one takes a text as well: what it has taken is written again.
    let mut mappings = fixture.mappings().await;
    mappings["properties"]["doc"] = json!({"type": "object", "enabled": false});
    fixture.copy(mappings).await;
    fixture.move_alias().await;
    let written = writer.put([change(2)].into_iter()).await;
    assert!(failure::is_otherwise_mapped(&target_error(written)));
    let again = [Task::Apply(change(2))].into_iter();
    let written = writer.apply(again, VersionType::ExternalGte, false).await;
    written.unwrap();
    let document = fixture.documents().await.remove(0).1;
    assert_eq!(document["doc"], json!({"a": 2}));
    fixture.finish().await;
}
