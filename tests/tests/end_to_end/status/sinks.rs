//! What a sink does, topic by topic.

use serde_json::Value;
use tributary_tests::service::Kind;
use tributary_tests::stack::Stack;

use super::Stage;

/// Both sinks: what is there, how far behind, how fast.
async fn tells(name: &str, kind: Kind) -> Stage {
    let stack = Stack::from_env().unwrap();
    let stage = Stage::set(&stack, name, kind).await;
    stage
        .run("INSERT INTO s.a SELECT g, g FROM generate_series(1, 100) g")
        .await;
    stage.run("DELETE FROM s.a WHERE id <= 10").await;
    let is_done = |status: &Value| {
        let topic = stage.topic(status, "s.a");
        // Transaction markers lie behind the last record.
        topic["lag_records"] == 0 && topic["records"].as_u64() >= Some(120)
    };
    let status = stage.until("s.a is written", is_done).await;
    let topic = stage.topic(&status, "s.a");
    assert_eq!(topic["lag_seconds"], 0.0, "{topic}");
    assert_eq!(topic["partitions"], 3, "{topic}");
    assert!(
        topic["generation"].is_string() && topic["waits_for"].is_null(),
        "{topic}"
    );
    assert!(topic["records_per_second"].as_f64() > Some(0.0), "{topic}");
    assert!(topic["accepted"].as_u64() >= Some(90), "{topic}");
    assert_eq!(topic["diverted"], 0, "{topic}");
    for stretch in [
        "commit_to_log_ms",
        "log_to_accepted_ms",
        "log_to_durable_ms",
    ] {
        let half = topic[stretch]["p50"].as_f64().unwrap();
        assert!((0.0..60_000.0).contains(&half), "{topic}");
    }
    let (code, text, _) = stage.sink.command(&["status"]).unwrap();
    assert_eq!(code, 0, "{text}");
    let topic = stage.pipeline.topic("s.a");
    assert!(text.contains("0 records behind, 0 waiting"), "{text}");
    assert!(text.lines().any(|line| line.starts_with(&topic)), "{text}");
    // The metrics follow within seconds.
    let is_shown = |_: &Value| stage.sink.metric("tributary_sink_lag_offsets") == Some(0.0);
    stage.until("the lag is shown", is_shown).await;
    stage
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_tells_what_a_sink_does() {
    let stage = tells("status_e", Kind::SinkElastic).await;
    stage.run("INSERT INTO s.b VALUES (1, 1)").await;
    let is_done = |status: &Value| stage.topic(status, "s.b")["accepted"] == 1;
    stage.until("s.b is written", is_done).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_tells_of_a_locked_table() {
    let stage = tells("status_w", Kind::SinkRedshift).await;
    let mut analyst = stage.pipeline.warehouse().await.unwrap();
    let lock = analyst.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE s.a IN SHARE MODE")
        .await
        .unwrap();
    stage
        .run("INSERT INTO s.a SELECT g, g FROM generate_series(1001, 1100) g")
        .await;
    let waits = |status: &Value| {
        let topic = stage.topic(status, "s.a");
        topic["waits_for"] == "target" && topic["lag_records"].as_u64() >= Some(100)
    };
    let status = stage.until("s.a waits", waits).await;
    let topic = stage.topic(&status, "s.a");
    assert!(topic["reason"].is_string(), "{topic}");
    assert!(
        stage.topic(&status, "s.b")["waits_for"].is_null(),
        "{status}"
    );
    let (_, text, _) = stage.sink.command(&["status"]).unwrap();
    assert!(text.contains("  waits for the target: "), "{text}");
    lock.rollback().await.unwrap();
    let is_done = |status: &Value| {
        let topic = stage.topic(status, "s.a");
        topic["waits_for"].is_null() && topic["lag_records"] == 0
    };
    stage.until("s.a goes on", is_done).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_is_paused_and_resumed_from_the_command_line() {
    let stage = tells("status_p", Kind::SinkElastic).await;
    let (code, text, errors) = stage.sink.command(&["pause"]).unwrap();
    assert_eq!(code, 0, "{text}{errors}");
    assert!(
        text.starts_with("all topics are paused\nthis instance only: "),
        "{text}"
    );
    stage
        .until("is paused", |status| status["phase"] == "paused")
        .await;
    stage.run("INSERT INTO s.a VALUES (5000, 1)").await;
    let waits = |status: &Value| {
        let topic = stage.topic(status, "s.a");
        topic["waits_for"] == "paused" && topic["lag_records"].as_u64() >= Some(1)
    };
    let status = stage.until("s.a is behind", waits).await;
    assert_eq!(status["ready"], true, "{status}");
    let (code, text, _) = stage.sink.command(&["status"]).unwrap();
    assert_eq!(code, 3, "{text}");
    assert!(
        text.contains("warning: all topics are paused in this instance"),
        "{text}"
    );
    assert!(text.lines().any(|line| line == "  paused"), "{text}");

    let topic = stage.pipeline.topic("s.a");
    let (code, _, errors) = stage.sink.command(&["resume", "--topic", &topic]).unwrap();
    assert_eq!(code, 1);
    assert!(errors.contains("the whole sink is paused"), "{errors}");
    let (code, text, _) = stage.sink.command(&["resume", "--output", "json"]).unwrap();
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &answer["ok"]), (0, &true.into()), "{text}");
    let is_done = |status: &Value| {
        let topic = stage.topic(status, "s.a");
        topic["waits_for"].is_null() && topic["lag_records"] == 0
    };
    stage.until("s.a goes on", is_done).await;
}
