//! Values: TOAST, numbers without a scale, infinities and eras, and what is too large.

use tributary_tests::oracle::TopicChange;

use super::stage::Stage;

/// getindata/kafka-connect-iceberg-sink#17, peerdb#3790: the marker for an unchanged value is written as the value.
#[tokio::test(flavor = "multi_thread")]
async fn iceberg_sink_17_no_toast_marker_is_written() {
    let sql = "CREATE TABLE s.t (id int PRIMARY KEY, n int, name text);
        ALTER TABLE s.t ALTER name SET STORAGE EXTERNAL;
        INSERT INTO s.t SELECT g, 0, repeat('x', 5000) || g FROM generate_series(1, 20) g;
        INSERT INTO s.t VALUES (21, 0, '__debezium_unavailable_value')";
    let mut stage = Stage::streaming("pain_toast", sql).await;
    stage.sql("UPDATE s.t SET n = n + 1").await;
    stage.assert_equal("t").await;
    let updates = stage.changes("t", 'u').await;
    let markers = updates
        .iter()
        .filter(|update| update.after["name"].as_deref() == Some("__debezium_unavailable_value"));
    // The one row whose text this really is.
    assert_eq!((updates.len(), markers.count()), (21, 1));
}

/// risingwave#6848: a numeric without a scale cannot be read downstream.
#[tokio::test(flavor = "multi_thread")]
async fn risingwave_6848_a_numeric_without_a_scale_is_exact() {
    let digits = format!("-{}.{}", "9".repeat(400), "8".repeat(400));
    let sql = format!(
        "CREATE TABLE s.t (id int PRIMARY KEY, n numeric);
         INSERT INTO s.t VALUES (1, 1.10), (2, 1e-20), (3, 1e30), (4, 'NaN'), (5, 'Infinity'), (6, {digits}), (7, 0.000)"
    );
    let mut stage = Stage::streaming("pain_numeric", &sql).await;
    stage.sql("UPDATE s.t SET id = id + 10").await;
    stage.assert_equal("t").await;
    let created = stage.changes("t", 'c').await;
    let texts: Vec<_> = created
        .iter()
        .map(|change| change.after["n"].clone().unwrap())
        .collect();
    assert!(
        texts.contains(&"1.10".to_owned()) && texts.contains(&digits),
        "{texts:?}"
    );
}

/// debezium dbz#1833, dbz#1340: infinity and dates before Christ are wrong, or stop the connector.
#[tokio::test(flavor = "multi_thread")]
async fn dbz_1833_infinity_and_dbz_1340_dates_before_christ() {
    let sql = "CREATE TABLE s.t (id int PRIMARY KEY, d date, t timestamp, m timestamp(3), z timestamptz);
        INSERT INTO s.t VALUES (1, 'infinity', '-infinity', 'infinity', '-infinity'),
            (2, '4714-11-24 BC', '0044-03-15 12:00:00 BC', '0001-12-31 23:59:59.999 BC', '0044-03-15 12:00:00+00 BC'),
            (3, '5874897-12-31', '294246-12-31 23:59:59.999999', '294246-12-31', '294276-12-31 23:59:59.999999+00')";
    let mut stage = Stage::streaming("pain_eras", sql).await;
    stage.sql("UPDATE s.t SET id = id + 10").await;
    stage.assert_equal("t").await;
    let created = stage.changes("t", 'c').await;
    let first = created
        .iter()
        .find(|change| change.after["id"].as_deref() == Some("12"))
        .unwrap();
    assert_eq!(first.after["d"].as_deref(), Some("4714-11-24 BC"));
}

/// A record that is larger than the topic takes is dropped, and nobody hears of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_oversize_message_is_not_dropped_in_silence() {
    let mut stage = Stage::streaming(
        "pain_oversize",
        "CREATE TABLE s.t (id int PRIMARY KEY, name text)",
    )
    .await;
    // md5, so that no compression makes it fit.
    let large = "(SELECT string_agg(md5(g::text), '') FROM generate_series(1, 100000) g)";
    stage
        .sql(&format!(
            "INSERT INTO s.t VALUES (1, 'before'), (2, {large})"
        ))
        .await;
    let told = stage.stops();
    let topic = stage.pipeline.topic("s.t");
    assert!(told.contains("s.t") || told.contains(&topic), "{told}");
    assert!(told.contains("bytes"), "{told}");
    let large = |change: &TopicChange| change.after["id"].as_deref() == Some("2");
    assert!(!stage.changes("t", 'c').await.iter().any(large));
}
