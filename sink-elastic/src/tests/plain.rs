//! An index that a delete has made in the alias' place, once that was gone, and what two instances do about it.

use reqwest::Method;
use serde_json::json;
use tributary_engine::{Known, Lane as _};
use tributary_runtime::Policy;
use tributary_schemas::record::Datum;

use super::fixture::{Fixture, delete, mark, target_error, text_key};
use super::wire::{Act, Wire};
use crate::lane::Elastic;

const GONE: &str = r#"{"error":{"type":"index_not_found_exception"},"status":404}"#;
const IS_AN_ALIAS: &str = r#"{"error":{"type":"illegal_argument_exception","reason":"The provided expression [t] matches an alias, specify the corresponding concrete indices instead."},"status":400}"#;

/// Through a wire.
async fn wired() -> (Fixture, Wire) {
    let mut fixture = Fixture::new();
    let wire = Wire::start(&fixture.url).await;
    fixture.config.url = vec![wire.url.clone()];
    fixture.elastic = Elastic::new(fixture.config.clone()).unwrap();
    (fixture, wire)
}

/// The other instance has sent the delete, and is about to take the index away; this one has never met the alias, or builds it again.
#[tokio::test]
async fn an_index_that_says_nothing_is_waited_for_and_one_that_is_prepared_is_not() {
    let fixture = Fixture::new();
    let path = format!("/{}", fixture.alias());
    fixture.put(&path, json!({})).await;
    let lane = fixture.lane().await;
    for error in [
        lane.known().await.unwrap_err(),
        lane.begin(&mark("first")).await.unwrap_err(),
        lane.discard(Some("first")).await.unwrap_err(),
    ] {
        assert_eq!(error.policy(), Policy::Retry, "{error}");
        let remedy = error.remedy_text().unwrap();
        let expected = format!("DELETE {path}");
        assert!(remedy.contains(&expected), "{remedy}");
    }
    // Nobody deletes what has not come by a delete of one's own.
    assert_eq!(fixture.call(Method::DELETE, &path, None).await.0, 200);
    assert_eq!(lane.known().await.unwrap(), Known::Nothing);

    let prepared = json!({"mappings": {"dynamic": "strict"}});
    fixture.put(&path, prepared).await;
    let error = lane.known().await.unwrap_err();
    assert_eq!(error.policy(), Policy::Stop, "{error}");
    assert_eq!(fixture.call(Method::DELETE, &path, None).await.0, 200);
    lane.begin(&mark("first")).await.unwrap();
    assert!(matches!(lane.known().await.unwrap(), Known::Marked(_)));
    fixture.finish().await;
}

#[tokio::test]
async fn an_index_that_comes_in_the_alias_place_while_the_next_one_is_made_stops_nobody() {
    let (fixture, wire) = wired().await;
    let path = format!("/{}", fixture.alias());
    fixture.put(&path, json!({})).await;
    let lane = fixture.lane().await;
    wire.fails(|asked| match asked.method.as_str() {
        "GET" => Act::Answer(404, GONE),
        _ => Act::Pass,
    });
    let error = lane.begin(&mark("first")).await.unwrap_err();
    assert_eq!(error.policy(), Policy::Retry, "{error}");
    assert!(error.to_string().contains("is gone"), "{error}");
    assert_eq!(wire.failed(), 1);
    fixture.finish().await;
}

#[tokio::test]
async fn an_alias_that_comes_back_before_its_like_is_deleted_stops_nobody() {
    let (fixture, wire) = wired().await;
    let writer = fixture.writer().await;
    let path = format!("/{}", fixture.first_index());
    assert_eq!(fixture.call(Method::DELETE, &path, None).await.0, 200);
    wire.fails(|asked| match asked.method.as_str() {
        "DELETE" => Act::Answer(400, IS_AN_ALIAS),
        _ => Act::Pass,
    });
    let key = text_key();
    let gone = delete(0, 1, (&key, Datum::Str("a")));
    let error = target_error(writer.put([gone].into_iter()).await);
    assert_eq!(error.policy(), Policy::Retry, "{error}");
    assert!(error.to_string().contains("is gone"), "{error}");
    assert_eq!(wire.failed(), 1);
    fixture.finish().await;
}
