//! A reindex that puts another index in the place of the one that is written, and one that dies while it does.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tributary_engine::{Known, Lane as _};
use tributary_runtime::Policy;
use tributary_schemas::record::{Datum, FieldType};

use super::fixture::{Fixture, mark, record_type, target_error, text_key, upsert};
use crate::ElasticLane;
use crate::requests::written_by;
use crate::succession::{Build, Handover, Notes};

const CLAIM: &str = "claim";

/// Writes a row.
async fn put(writer: &ElasticLane, id: &str, seq: u64) -> Result<(), tributary_engine::WriteError> {
    let (key, row) = (text_key(), record_type(&[("id", FieldType::String)]));
    let values = [Datum::Str(id)];
    let change = upsert(0, seq, (&key, Datum::Str(id)), (&row, &values));
    writer.put([change].into_iter()).await
}

impl Fixture {
    fn successor(&self) -> String {
        format!("{}-000002", self.topic)
    }

    fn claim(&self) -> String {
        format!("{}~~{CLAIM}", self.topic)
    }

    fn handover(&self) -> Handover {
        Handover {
            to: self.successor(),
            claim: self.claim(),
            kept: None,
        }
    }

    /// The index as it is.
    async fn described(&self, index: &str) -> Value {
        let path = format!("/{index}?flat_settings=true");
        let (_, answer) = self.call(Method::GET, &path, None).await;
        answer[index].clone()
    }

    /// Makes the index that a reindex builds, with all rows of the first one.
    async fn build_successor(&self) {
        let mut mappings = self.described(&self.first_index()).await["mappings"].clone();
        let build = Build {
            of: self.first_index(),
            group: "group".to_owned(),
            alias: format!("{}~~build", self.topic),
            runner: "runner".to_owned(),
            documents: None,
            claim: Some(self.claim()),
            is_over: false,
            is_back: false,
            is_attended: false,
        };
        let notes = Notes::of(&json!({ "mappings": mappings })).with_build(Some(&build));
        mappings["_meta"] = notes.mapping()["_meta"].clone();
        let body = json!({"settings": {"index.number_of_replicas": 0}, "mappings": mappings});
        self.put(&format!("/{}", self.successor()), body).await;
    }

    /// Has the first index say that a reindex hands over, and blocks it.
    async fn block(&self) {
        let first = self.first_index();
        let notes = Notes::of(&self.described(&first).await).with_handover(Some(&self.handover()));
        self.put(&format!("/{first}/_mapping"), notes.mapping())
            .await;
        self.put(&format!("/{first}/_block/write"), Value::Null)
            .await;
    }

    /// Moves the alias as a reindex does; the answer's status.
    async fn swap(&self) -> u16 {
        let (first, second) = (self.first_index(), self.successor());
        let actions = json!([
            written_by(&second, self.alias()),
            {"remove": {"index": first, "alias": self.alias()}},
            written_by(&second, &self.claim()),
        ]);
        let body = json!({ "actions": actions });
        self.call(Method::POST, "/_aliases", Some(body)).await.0
    }

    async fn is_blocked(&self) -> bool {
        let settings = self.described(&self.first_index()).await["settings"].clone();
        settings["index.blocks.write"] == "true"
    }
}

#[tokio::test]
async fn a_write_that_meets_the_block_waits_and_goes_to_the_other_index() {
    let fixture = Fixture::new();
    let writer = fixture.writer().await;
    put(&writer, "a", 1).await.unwrap();
    fixture.build_successor().await;
    fixture.block().await;
    let (written, ()) = tokio::join!(put(&writer, "b", 2), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(fixture.swap().await, 200);
    });
    written.unwrap();
    assert_eq!(fixture.ids().await, ["b"]);
    let path = format!("/{}/_doc/b", fixture.first_index());
    assert_eq!(fixture.call(Method::GET, &path, None).await.0, 404);
    let Known::Marked(mark) = writer.known().await.unwrap() else {
        panic!("the index has no mark");
    };
    assert_eq!(mark.generation, "first", "the group's offsets are good");
    fixture.finish().await;
}

#[tokio::test]
async fn a_block_of_somebody_else_is_not_waited_out() {
    let fixture = Fixture::new();
    let writer = fixture.writer().await;
    put(&writer, "a", 1).await.unwrap();
    let path = format!("/{}/_block/write", fixture.first_index());
    fixture.put(&path, Value::Null).await;
    let error = target_error(put(&writer, "b", 2).await);
    assert_eq!(error.policy(), Policy::Retry);
    assert!(!error.to_string().contains("hands over"), "{error}");
    assert!(fixture.is_blocked().await);
    fixture.finish().await;
}

/// Whoever is first, the other one is refused: the service that gives up waiting, or the reindex that was held up.
#[tokio::test]
async fn a_reindex_whose_block_was_lifted_cannot_take_the_place_any_more() {
    let fixture = Fixture::new();
    let writer = fixture.writer().await;
    put(&writer, "a", 1).await.unwrap();
    fixture.build_successor().await;
    fixture.block().await;
    let index = fixture.elastic.index(&fixture.topic);
    index
        .lift(&fixture.first_index(), &fixture.handover())
        .await
        .unwrap();
    assert!(!fixture.is_blocked().await);
    assert_ne!(fixture.swap().await, 200);
    put(&writer, "b", 2).await.unwrap();
    assert_eq!(fixture.ids().await, ["a", "b"]);
    fixture.finish().await;
}

#[tokio::test]
async fn a_block_is_not_lifted_behind_the_move_of_the_alias() {
    let fixture = Fixture::new();
    let writer = fixture.writer().await;
    put(&writer, "a", 1).await.unwrap();
    fixture.build_successor().await;
    fixture.block().await;
    assert_eq!(fixture.swap().await, 200);
    let index = fixture.elastic.index(&fixture.topic);
    let (first, handover) = (fixture.first_index(), fixture.handover());
    let lifted = index.lift(&first, &handover).await;
    assert_eq!(lifted.unwrap_err().policy(), Policy::Retry);
    assert!(fixture.is_blocked().await);
    fixture.finish().await;
}

/// Each of them lacks rows that the group has committed.
#[tokio::test]
async fn an_index_that_is_unfinished_or_replaced_is_refused_with_the_request_that_mends_it() {
    for is_replaced in [false, true] {
        let fixture = Fixture::new();
        let writer = fixture.writer().await;
        put(&writer, "a", 1).await.unwrap();
        fixture.build_successor().await;
        if is_replaced {
            let notes = Notes::of(&fixture.described(&fixture.successor()).await);
            let notes = notes
                .with_build(None)
                .with_replaced_by(Some(&fixture.first_index()));
            let path = format!("/{}/_mapping", fixture.successor());
            fixture.put(&path, notes.mapping()).await;
        }
        let actions = json!([
            written_by(&fixture.successor(), fixture.alias()),
            {"remove": {"index": fixture.first_index(), "alias": fixture.alias()}},
        ]);
        let body = json!({ "actions": actions });
        assert_eq!(
            fixture.call(Method::POST, "/_aliases", Some(body)).await.0,
            200
        );
        let error = fixture.lane().await.known().await.unwrap_err();
        let expected = if is_replaced {
            "has replaced"
        } else {
            "has not finished"
        };
        assert!(error.to_string().contains(expected), "{error}");

        let remedy = error.remedy_text().unwrap();
        let body = &remedy[remedy.find("/_aliases {").unwrap() + 10..];
        let body: Value = serde_json::from_str(body).unwrap();
        let (status, answer) = fixture.call(Method::POST, "/_aliases", Some(body)).await;
        assert_eq!(status, 200, "{answer}");
        put(&fixture.writer().await, "b", 2).await.unwrap();
        assert_eq!(fixture.ids().await, ["a", "b"]);
        fixture.finish().await;
    }
}

#[tokio::test]
async fn an_index_that_is_made_anew_passes_over_the_number_that_a_reindex_has_taken() {
    let fixture = Fixture::new();
    let writer = fixture.writer().await;
    put(&writer, "a", 1).await.unwrap();
    fixture.build_successor().await;
    // It has seen the first number.
    assert!(matches!(writer.known().await.unwrap(), Known::Marked(_)));
    let path = format!("/{}", fixture.first_index());
    assert_eq!(fixture.call(Method::DELETE, &path, None).await.0, 200);
    assert_eq!(writer.known().await.unwrap(), Known::Nothing);
    let error = writer.begin(&mark("second")).await.unwrap_err();
    assert_eq!(error.policy(), Policy::Retry);
    writer.begin(&mark("second")).await.unwrap();
    let third = fixture
        .described(&format!("{}-000003", fixture.topic))
        .await;
    assert!(third["aliases"][fixture.alias()].is_object(), "{third}");
    fixture.finish().await;
}
