//! Requests that are compressed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tributary_runtime::Policy;
use tributary_schemas::record::{Datum, FieldType};

use super::fixture::{Fixture, delete, record_type, target_error, text_key, upsert};
use super::proxy::Proxy;
use crate::config::Compression;
use crate::lane::Elastic;

/// A topic whose requests are compressed, behind a proxy.
fn behind(proxy: &Proxy) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.config.url = vec![proxy.url.clone()];
    fixture.config.compression = Compression::Gzip;
    fixture.elastic = Elastic::new(fixture.config.clone()).unwrap();
    fixture
}

#[tokio::test]
async fn what_is_compressed_arrives_as_it_was() {
    let engine = std::env::var("TRIBUTARY_SEARCH").unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let weigh = move |path: &str, bytes: usize| {
        if path.ends_with("/_bulk") {
            count.fetch_add(bytes, Ordering::Relaxed);
        }
        None
    };
    let proxy = Proxy::start_by_size(&engine, weigh).await;
    let fixture = behind(&proxy);
    let (key, row) = (
        text_key(),
        record_type(&[("text", FieldType::String), ("n", FieldType::Int64)]),
    );
    let texts: Vec<_> = (0..500)
        .map(|n| format!("№ {n} \"\\\n{}", "naïve 🦀 ".repeat(40)))
        .collect();
    let ids: Vec<_> = (0..500).map(|n| n.to_string()).collect();
    let rows = texts.iter().zip(&ids).enumerate().map(|(n, (text, id))| {
        let row_of = [Datum::Str(text), Datum::Int(n as i64)];
        upsert(
            n as i64,
            n as u64 + 1,
            (&key, Datum::Str(id)),
            (&row, &row_of),
        )
    });
    let writer = fixture.writer().await;
    writer.put(rows).await.unwrap();
    let gone = delete(500, 501, (&key, Datum::Str("7")));
    writer.put([gone].into_iter()).await.unwrap();

    let expected: Vec<_> = texts
        .iter()
        .enumerate()
        .filter(|(n, _)| *n != 7)
        .map(|(n, text)| {
            let source = json!({"text": text, "n": n, "_tributary_seq": n + 1});
            (n.to_string(), source)
        })
        .collect();
    assert_eq!(fixture.documents().await, expected);
    let bytes: usize = texts.iter().map(String::len).sum();
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent > 0 && sent * 4 < bytes, "{sent} of {bytes} bytes");
    fixture.finish().await;
}

/// A proxy in front of the engine may take no compressed requests.
#[tokio::test]
async fn compressed_requests_that_nobody_takes_stop_the_service_with_the_remedy() {
    let engine = std::env::var("TRIBUTARY_SEARCH").unwrap();
    for status in [415, 400] {
        let proxy = Proxy::start(&engine, move |path| {
            path.ends_with("/_bulk").then_some(status)
        })
        .await;
        let mut fixture = behind(&proxy);
        let (key, row) = (text_key(), record_type(&[("n", FieldType::Int64)]));
        let row_of = [Datum::Int(1)];
        let rows = || {
            ["a", "b"]
                .map(|id| upsert(1, 1, (&key, Datum::Str(id)), (&row, &row_of)))
                .into_iter()
        };
        let error = target_error(fixture.writer().await.put(rows()).await);
        assert_eq!(error.policy(), Policy::Stop);
        let text = error.to_string();
        assert!(text.contains(&format!("{status}")), "{text}");
        assert!(
            text.contains("set elasticsearch.compression = \"none\""),
            "{text}"
        );

        // The remedy, to the letter.
        fixture.config.compression = Compression::None;
        proxy.mend();
        fixture.elastic = Elastic::new(fixture.config.clone()).unwrap();
        fixture.writer().await.put(rows()).await.unwrap();
        assert_eq!(fixture.ids().await.len(), 2);
        fixture.finish().await;
    }
}
