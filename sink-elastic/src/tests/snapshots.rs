//! Snapshots that the engine takes of an index, and restores.

use std::fmt::Write as _;

use reqwest::Method;
use serde_json::{Value, json};
use tributary_engine::{Known, Lane as _};

use super::engine::put;
use super::fixture::Fixture;
use super::wire::Dice;
use crate::snapshot;

/// Where snapshots of the fixture are kept.
async fn repository(fixture: &Fixture, name: &str, rate: &str) -> String {
    let location = format!("{}-{name}", fixture.topic.replace('.', "-"));
    let path = format!("/_snapshot/{location}");
    let settings = json!({"location": location, "max_snapshot_bytes_per_sec": rate});
    fixture
        .put(&path, json!({"type": "fs", "settings": settings}))
        .await;
    path
}

fn of_index(fixture: &Fixture) -> Value {
    json!({"indices": fixture.first_index(), "include_global_state": false})
}

/// The group has committed what the index does not hold any more.
#[tokio::test]
async fn an_index_that_was_restored_is_unfit_whether_it_was_there_or_not() {
    let fixture = Fixture::new();
    put(&fixture, "before", 1, 10).await;
    let lane = fixture.lane().await;
    assert!(matches!(lane.known().await.unwrap(), Known::Marked(_)));
    let repository = repository(&fixture, "whole", "40mb").await;
    let taken = format!("{repository}/taken?wait_for_completion=true");
    fixture.put(&taken, of_index(&fixture)).await;
    put(&fixture, "after", 1, 11).await;
    assert!(matches!(lane.known().await.unwrap(), Known::Marked(_)));
    let index = format!("/{}", fixture.first_index());
    let restore = format!("{repository}/taken/_restore?wait_for_completion=true");
    for is_there in [true, false] {
        let (method, path) = match is_there {
            true => (Method::POST, format!("{index}/_close")),
            false => (Method::DELETE, index.clone()),
        };
        for (method, path, body) in [
            (method, path, None),
            (Method::POST, restore.clone(), Some(of_index(&fixture))),
        ] {
            let (status, answer) = fixture.call(method, &path, body).await;
            assert_eq!(status, 200, "{answer}");
        }
        let known = lane.known().await.unwrap();
        let Known::Unfit { generation, reason } = known else {
            panic!("is there: {is_there}, {known:?}");
        };
        assert_eq!(generation.as_deref(), Some("first"));
        assert!(reason.contains("restored from a snapshot"), "{reason}");
        assert_eq!(fixture.ids().await, ["before"]);
    }
    fixture.call(Method::DELETE, &repository, None).await;
    fixture.finish().await;
}

#[tokio::test]
async fn an_index_that_is_in_a_snapshot_is_discarded_once_that_has_ended() {
    let fixture = Fixture::new();
    let lane = fixture.writer().await;
    let (mut noise, mut dice) = (String::new(), Dice(1));
    for _ in 0..10_000 {
        write!(noise, "{:016x}", dice.roll()).unwrap();
    }
    let path = format!("/{}/_doc/1?refresh=true", fixture.first_index());
    let (status, answer) = fixture
        .call(Method::PUT, &path, Some(json!({ "noise": noise })))
        .await;
    assert_eq!(status, 201, "{answer}");
    // For some fifteen seconds.
    let repository = repository(&fixture, "slow", "10kb").await;
    let taken = format!("{repository}/taken");
    let begun = fixture.call(Method::PUT, &taken, Some(of_index(&fixture)));
    let (status, answer) = begun.await;
    assert!(status < 300, "{answer}");
    let error = lane.discard(Some("first")).await.unwrap_err();
    assert!(snapshot::is_awaited(&error), "{error}");
    let (status, answer) = fixture.call(Method::DELETE, &taken, None).await;
    assert_eq!(status, 200, "{answer}");
    lane.discard(Some("first")).await.unwrap();
    assert_eq!(lane.known().await.unwrap(), Known::Nothing);
    fixture.call(Method::DELETE, &repository, None).await;
}
