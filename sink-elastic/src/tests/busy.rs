//! An engine that is asked for more than it bears.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tributary_engine::{Lane as _, WriteError};
use tributary_runtime::Policy;
use tributary_schemas::record::{Datum, FieldType};

use super::fixture::{Fixture, record_type, text_key, upsert};
use super::proxy::Proxy;
use crate::ElasticLane;
use crate::lane::Elastic;

/// A topic whose engine is behind a proxy; requests of a few documents each.
async fn behind(proxy: &Proxy) -> (Fixture, ElasticLane) {
    let mut fixture = Fixture::new();
    fixture.config.url = vec![proxy.url.clone()];
    fixture.config.bulk_bytes = 256 * 1024;
    fixture.elastic =
        Elastic::with_patience(fixture.config.clone(), Duration::from_millis(200)).unwrap();
    let writer = fixture.writer().await;
    (fixture, writer)
}

/// Writes rows of 40 KiB each as often as the engine turns them away.
async fn put(writer: &ElasticLane, numbers: Range<usize>) {
    let (key, row) = (text_key(), record_type(&[("text", FieldType::String)]));
    let text = "x".repeat(40 * 1024);
    let ids: Vec<_> = numbers.clone().map(|n| format!("{n:05}")).collect();
    loop {
        let changes = numbers.clone().zip(&ids).map(|(n, id)| {
            let row_of = [Datum::Str(&text)];
            upsert(
                n as i64,
                n as u64 + 1,
                (&key, Datum::Str(id)),
                (&row, &row_of),
            )
        });
        match writer.put(changes).await {
            Ok(()) => return,
            Err(WriteError::Target(error)) => assert_eq!(error.policy(), Policy::Retry, "{error}"),
            Err(error) => panic!("{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Writes rows by four writers at the same time, as the engine of the sink does.
async fn put_by_four(writer: &ElasticLane, numbers: Range<usize>) {
    let each = numbers.len() / 4;
    let of = |quarter: usize| {
        let first = numbers.start + quarter * each;
        put(writer, first..first + each)
    };
    tokio::join!(of(0), of(1), of(2), of(3));
}

/// How many requests may be under way, where it is fewer than might be.
fn limit(writer: &ElasticLane) -> Option<usize> {
    let text = writer.held_back()?;
    let words: Vec<_> = text.split(' ').collect();
    let of = words.iter().position(|word| *word == "of").unwrap();
    Some(words[of - 1].parse().unwrap())
}

/// The engine says for a while that it is too much: less is asked of it, and all again when it does not any more.
async fn fewer_requests_for_a_while(status: u16) {
    const WHILE: usize = 24;
    let engine = std::env::var("TRIBUTARY_SEARCH").unwrap();
    let told = AtomicUsize::new(0);
    let fault = move |path: &str| {
        let is_told = path.ends_with("/_bulk") && told.fetch_add(1, Ordering::SeqCst) < WHILE;
        is_told.then_some(status)
    };
    let proxy = Proxy::start(&engine, fault).await;
    let (fixture, writer) = behind(&proxy).await;
    assert_eq!(limit(&writer), None);
    let mut lowest = 8;
    let watching = async {
        while proxy.failed() < WHILE {
            lowest = lowest.min(limit(&writer).unwrap_or(8));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::join!(put_by_four(&writer, 0..80), watching);
    lowest = lowest.min(limit(&writer).unwrap_or(8));
    assert!(lowest <= 2, "{status}: {lowest}");
    let mut rows = 80;
    while let Some(limit) = limit(&writer) {
        proxy.most();
        put_by_four(&writer, rows..rows + 80).await;
        rows += 80;
        assert!(rows < 8_000, "{status}: still {limit}");
    }
    assert!((1..=8).contains(&proxy.most()));
    assert_eq!(fixture.ids().await.len(), rows, "{status}");
    fixture.finish().await;
}

#[tokio::test]
async fn an_engine_that_is_busy_gets_fewer_requests_until_it_is_not() {
    for status in [429, 503] {
        fewer_requests_for_a_while(status).await;
    }
}

#[tokio::test]
async fn no_more_requests_are_under_way_than_configured() {
    let engine = std::env::var("TRIBUTARY_SEARCH").unwrap();
    let proxy = Proxy::start(&engine, |_| None).await;
    let (mut fixture, _) = behind(&proxy).await;
    for most in [1, 3] {
        fixture.config.in_flight = most;
        fixture.elastic = Elastic::new(fixture.config.clone()).unwrap();
        let writer = fixture.writer().await;
        proxy.most();
        put_by_four(&writer, 0..80).await;
        assert!((1..=most as usize).contains(&proxy.most()));
    }
    fixture.finish().await;
}

/// As one whose `indexing_pressure.memory.limit` is low, or a proxy that takes small requests only.
#[tokio::test]
async fn an_engine_that_takes_small_requests_only_gets_those() {
    let engine = std::env::var("TRIBUTARY_SEARCH").unwrap();
    for status in [429, 413] {
        let fault = move |path: &str, bytes: usize| {
            (path.ends_with("/_bulk") && bytes > 150_000).then_some(status)
        };
        let proxy = Proxy::start_by_size(&engine, fault).await;
        let (fixture, writer) = behind(&proxy).await;
        put_by_four(&writer, 0..160).await;
        assert_eq!(fixture.ids().await.len(), 160, "{status}");
        let refused = proxy.failed();
        put_by_four(&writer, 160..320).await;
        assert_eq!(fixture.ids().await.len(), 320, "{status}");
        // Larger ones are tried again, but not each time.
        let again = proxy.failed() - refused;
        assert!(again * 4 < proxy.passed(), "{status}: {again}");
        fixture.finish().await;
    }
}
