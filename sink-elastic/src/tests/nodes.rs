//! Several nodes, of which some fail.

use std::time::{Duration, Instant};

use tributary_runtime::Policy;
use tributary_schemas::record::{Datum, FieldType};

use super::fixture::{
    Fixture, HEALTH, config, record_type, service, target_error, text_key, upsert,
};
use super::proxy::Proxy;
use crate::lane::Elastic;
use crate::{ElasticLane, check};

/// A topic whose target has these nodes.
fn with_nodes(urls: &[&str]) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.config = config(&urls.join(","));
    fixture.elastic =
        Elastic::with_patience(fixture.config.clone(), Duration::from_millis(200)).unwrap();
    fixture
}

async fn put(writer: &ElasticLane, number: usize) -> Result<(), tributary_engine::WriteError> {
    let (key, row) = (text_key(), record_type(&[("n", FieldType::Int32)]));
    let id = number.to_string();
    let seq = number as u64 + 1;
    let change = upsert(
        number as i64,
        seq,
        (&key, Datum::Str(&id)),
        (&row, &[Datum::Int(1)]),
    );
    writer.put([change].into_iter()).await
}

/// Writes some rows while the first of two nodes fails; no write may fail, and the first is hardly asked.
async fn first_node_fails(name: &str, fault: impl Fn(&str) -> Option<u16> + Send + Sync + 'static) {
    let engine = std::env::var("TRIBUTARY_SEARCH").unwrap();
    let bad = Proxy::start(&engine, fault).await;
    let good = Proxy::start(&engine, |_| None).await;
    let fixture = with_nodes(&[&bad.url, &good.url]);
    let begun = Instant::now();
    let writer = fixture.writer().await;
    for number in 0..40 {
        put(&writer, number)
            .await
            .unwrap_or_else(|error| panic!("{name}: row {number}: {error:?}"));
    }
    assert_eq!(fixture.ids().await.len(), 40, "{name}");
    // Once at first, and again after 1, 2, 4 s and so on, for `_bulk` and for all else apart.
    let most = 2 * (2 + begun.elapsed().as_secs() as usize);
    assert!(
        (1..=most).contains(&bad.failed()),
        "{name}: {}",
        bad.failed()
    );
    assert!(good.passed() >= 40, "{name}");
    fixture.finish().await;
}

#[tokio::test]
async fn first_node_always_503() {
    for status in [503, 502, 429, 500] {
        first_node_fails(&format!("always {status}"), move |_| Some(status)).await;
    }
}

#[tokio::test]
async fn first_node_always_503_on_bulk_alone() {
    first_node_fails("503 on _bulk", |path| {
        path.ends_with("/_bulk").then_some(503)
    })
    .await;
}

#[tokio::test]
async fn first_node_refuses_connections() {
    let engine = std::env::var("TRIBUTARY_SEARCH").unwrap();
    let fixture = with_nodes(&["http://127.0.0.1:1", &engine]);
    let writer = fixture.writer().await;
    for number in 0..10 {
        put(&writer, number).await.unwrap();
    }
    assert_eq!(fixture.ids().await.len(), 10);
    fixture.finish().await;
}

#[tokio::test]
async fn nodes_are_taken_in_turn_and_one_that_comes_back_too() {
    let engine = std::env::var("TRIBUTARY_SEARCH").unwrap();
    let mended = Proxy::start(&engine, |_| Some(503)).await;
    let good = Proxy::start(&engine, |_| None).await;
    let fixture = with_nodes(&[&mended.url, &good.url]);
    let writer = fixture.writer().await;
    put(&writer, 0).await.unwrap();
    mended.mend();
    let mut number = 1;
    let deadline = Instant::now() + Duration::from_secs(30);
    while mended.passed() == 0 {
        assert!(Instant::now() < deadline);
        put(&writer, number).await.unwrap();
        number += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let before = [mended.passed(), good.passed()];
    for number in number..number + 20 {
        put(&writer, number).await.unwrap();
    }
    for (now, before) in [mended.passed(), good.passed()].into_iter().zip(before) {
        assert!(now - before >= 8, "{now} {before}");
    }
    fixture.finish().await;
}

#[tokio::test]
async fn when_all_nodes_fail_the_loop_is_told_and_none_is_stormed() {
    let engine = std::env::var("TRIBUTARY_SEARCH").unwrap();
    let fault = |path: &str| path.ends_with("/_bulk").then_some(503);
    let nodes = [
        Proxy::start(&engine, fault).await,
        Proxy::start(&engine, fault).await,
    ];
    let fixture = with_nodes(&[&nodes[0].url, &nodes[1].url]);
    let writer = fixture.writer().await;
    for number in 0..5 {
        let error = target_error(put(&writer, number).await);
        assert_eq!(error.policy(), Policy::Retry);
        assert!(error.to_string().contains("503"), "{error}");
    }
    let asked: usize = nodes.iter().map(Proxy::failed).sum();
    // Both by the first write, then one by each.
    assert!((5..=7).contains(&asked), "{asked}");
    nodes[1].mend();
    let deadline = Instant::now() + Duration::from_secs(30);
    while put(&writer, 9).await.is_err() {
        assert!(Instant::now() < deadline);
    }
    assert_eq!(fixture.ids().await, ["9"]);
    fixture.finish().await;
}

#[tokio::test]
async fn check_passes_while_another_node_works() {
    let _healthy = HEALTH.lock().await;
    let engine = std::env::var("TRIBUTARY_SEARCH").unwrap();
    let bad = Proxy::start(&engine, |_| Some(503)).await;
    let found = async |urls: &[&str]| {
        let config = service(&format!("{urls:?}"));
        check::engine(&config).await
    };
    for first in [bad.url.as_str(), "http://127.0.0.1:1"] {
        let problems = found(&[first, &engine]).await;
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].is_note, "{problems:?}");
        let host = first.trim_start_matches("http://");
        assert!(problems[0].what.contains(host), "{problems:?}");

        let problems = found(&[first]).await;
        assert!(problems.iter().all(|problem| !problem.is_note));
        assert!(!problems.is_empty());
    }
}
