//! Sweeps: rows that a truncate or a re-snapshot has left behind are deleted in pieces, beside what is written.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::Uri;
use reqwest::Method;
use serde_json::json;
use tributary_engine::{Lane as _, Swept};
use tributary_runtime::Policy;
use tributary_schemas::record::Datum;

use super::engine::{put, row_type};
use super::fixture::{Fixture, config, lane, listen, text_key, upsert};
use super::proxy::Proxy;
use crate::ElasticLane;
use crate::lane::Elastic;

/// Writes rows of these numbers at `seq`.
async fn fill(writer: &ElasticLane, numbers: std::ops::Range<i64>, seq: u64) {
    let (key, row) = (text_key(), row_type());
    let ids: Vec<_> = numbers.clone().map(|n| n.to_string()).collect();
    let changes = numbers.zip(&ids).map(|(n, id)| {
        let row_of = [Datum::Str(id), Datum::Int(n)];
        upsert(n, seq, (&key, Datum::Str(id)), (&row, &row_of))
    });
    writer.put(changes).await.unwrap();
}

/// How many documents there are.
async fn count(fixture: &Fixture) -> u64 {
    let refresh = format!("/{}/_refresh", fixture.alias());
    assert_eq!(fixture.call(Method::POST, &refresh, None).await.0, 200);
    let path = format!("/{}/_count", fixture.alias());
    let (status, answer) = fixture.call(Method::GET, &path, None).await;
    assert_eq!(status, 200, "{answer}");
    answer["count"].as_u64().unwrap()
}

#[tokio::test]
async fn a_sweep_of_a_big_index_goes_on_between_writes() {
    const ROWS: i64 = 50_000;
    const LATER: u64 = 1_000;
    let fixture = Fixture::new();
    let writer = fixture.writer().await;
    fill(&writer, 0..ROWS, 10).await;
    let (pieces, is_swept) = (AtomicUsize::new(0), AtomicBool::new(false));
    let sweeping = async {
        while writer.sweep(LATER).await.unwrap() == Swept::Some {
            pieces.fetch_add(1, Ordering::Relaxed);
        }
        is_swept.store(true, Ordering::Relaxed);
    };
    let writing = async {
        let (mut between, mut seq) = (Vec::new(), LATER);
        while !is_swept.load(Ordering::Relaxed) {
            put(&fixture, &format!("live {seq}"), 1, seq).await;
            between.push(pieces.load(Ordering::Relaxed));
            seq += 1;
        }
        between.dedup();
        (between, seq - LATER)
    };
    let ((), (between, written)) = tokio::join!(sweeping, writing);
    // A write ends within a piece or between two of them, and not behind them all.
    assert!(between.len() >= 4, "{between:?}");
    assert_eq!(count(&fixture).await, written);
    fixture.finish().await;
}

#[tokio::test]
async fn a_sweep_that_ends_in_the_middle_is_begun_again() {
    let fixture = Fixture::new();
    let writer = fixture.writer().await;
    fill(&writer, 0..12_000, 10).await;
    assert_eq!(writer.sweep(20).await.unwrap(), Swept::Some);
    let left = count(&fixture).await;
    assert!((1..12_000).contains(&left), "{left}");
    // Another instance knows nothing of it, and finds what is left.
    let other = fixture.writer().await;
    put(&fixture, "newer", 1, 20).await;
    assert_eq!(other.sweep_all(20).await.unwrap(), 3);
    assert_eq!(fixture.ids().await, ["newer"]);
    // Nor does it hurt to go on where the first one stood.
    writer.sweep_all(20).await.unwrap();
    assert_eq!(fixture.ids().await, ["newer"]);
    fixture.finish().await;
}

#[tokio::test]
async fn a_sweep_that_fails_finds_what_is_left_and_what_came_meanwhile() {
    let mut fixture = Fixture::new();
    let searches = AtomicUsize::new(0);
    let fault = move |path: &str| {
        let is_second = path.ends_with("/scroll") && searches.fetch_add(1, Ordering::Relaxed) == 0;
        is_second.then_some(503)
    };
    let proxy = Proxy::start(&fixture.url, fault).await;
    fixture.config.url = vec![proxy.url.clone()];
    fixture.elastic = Elastic::new(fixture.config.clone()).unwrap();
    let writer = fixture.writer().await;
    fill(&writer, 0..6_000, 10).await;
    assert_eq!(writer.sweep(20).await.unwrap(), Swept::Some);
    let error = writer.sweep(20).await.unwrap_err();
    assert_eq!(error.policy(), Policy::Retry, "{error}");
    // A row of another partition, in which the record that says so is still to come.
    put(&fixture, "late", 1, 15).await;
    assert_eq!(writer.sweep_all(20).await.unwrap(), 2);
    assert_eq!(fixture.ids().await, [""; 0]);
    fixture.finish().await;
}

#[tokio::test]
async fn rows_below_are_gone_and_stay_gone() {
    let fixture = Fixture::new();
    let (key, row) = (text_key(), row_type());
    let ids: Vec<_> = (0..12_000).map(|n| format!("{n}")).collect();
    let writer = fixture.writer().await;
    let changes = ids.iter().enumerate().map(|(n, id)| {
        upsert(
            n as i64,
            10,
            (&key, Datum::Str(id)),
            (&row, &[Datum::Null, Datum::Int(n as i64)]),
        )
    });
    writer.put(changes).await.unwrap();
    put(&fixture, "newer", 1, 21).await;
    put(&fixture, "equal", 1, 20).await;

    let id = Datum::Str("5");
    let again = upsert(12_001, 22, (&key, id.clone()), (&row, &[id, Datum::Int(0)]));
    writer.put([again].into_iter()).await.unwrap();
    writer.sweep_all(20).await.unwrap();
    assert_eq!(fixture.ids().await, ["equal", "newer", "5"]);
    put(&fixture, "7", 1, 10).await;
    writer.sweep_all(20).await.unwrap();
    assert_eq!(fixture.ids().await, ["equal", "newer", "5"]);
    fixture.finish().await;
}

#[tokio::test]
async fn sweep_boundary_equals_a_rows_version() {
    let fixture = Fixture::new();
    for id in ["0", "1"] {
        put(&fixture, id, 1, 100).await;
    }
    put(&fixture, "last", 1, 199).await;
    let writer = fixture.writer().await;
    writer.sweep_all(200).await.unwrap();
    assert_eq!(fixture.ids().await, [""; 0]);

    put(&fixture, "0", 2, 200).await;
    for (id, seq) in [("1", 100), ("1", 199), ("last", 199)] {
        put(&fixture, id, 3, seq).await;
    }
    let row = json!({"id": "0", "n": 2, "_tributary_seq": 200});
    assert_eq!(fixture.documents().await, [("0".to_owned(), row)]);

    writer.sweep_all(200).await.unwrap();
    assert_eq!(fixture.ids().await, ["0"]);
    fixture.finish().await;
}

/// There is one before the first record: it is gone, and what is said of its rows is true of the next one.
#[tokio::test]
async fn a_sweep_of_an_index_that_is_gone_is_not_at_its_end() {
    let fixture = Fixture::new();
    let writer = fixture.writer().await;
    let index = format!("/{}", fixture.first_index());
    assert_eq!(fixture.call(Method::DELETE, &index, None).await.0, 200);
    let error = writer.sweep_all(9).await.unwrap_err();
    assert_eq!(error.policy(), Policy::Retry);
    assert!(error.to_string().contains("is gone"), "{error}");
    let alias = format!("/{}", fixture.alias());
    assert_eq!(fixture.call(Method::GET, &alias, None).await.0, 404);
}

/// Copies of a shard get what is refreshed a while later there: what a sweep does not find stays for ever.
#[tokio::test]
async fn a_sweep_searches_the_primary_shards_where_copies_follow_by_segments() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    let engine = Router::new().fallback(async move |uri: Uri| {
        if uri.path() == "/t-000001/_search" {
            let query = uri.query().unwrap_or_default();
            heard.lock().unwrap().push(query.to_owned());
        }
        let index = json!({
            "aliases": {"t": {}},
            "mappings": {"_meta": {"tributary": {"format": 1, "topic": "t"}}},
            "settings": {"index.gc_deletes": "1h", "index.replication.type": "SEGMENT"},
        });
        let answer = match uri.path() {
            "/t" => json!({ "t-000001": index }),
            _ => json!({"status": "green", "_scroll_id": "s"}),
        };
        answer.to_string()
    });
    let elastic = Elastic::new(config(&listen(engine).await)).unwrap();
    lane(&elastic, "t").await.sweep_all(9).await.unwrap();
    let asked = asked.lock().unwrap();
    assert!(
        matches!(&asked[..], [query] if query.contains("preference=_primary")),
        "{asked:?}"
    );
}
