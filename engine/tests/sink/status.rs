//! What `status` says of a topic.

use tributary_engine::OnError;

use crate::double::Target;
use crate::stage::{Stage, start};

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_tells_what_it_waits_for_and_what_it_has_done() {
    let stage = Stage::new("tells").await;
    let topic = stage.topic("t");
    stage.create(&topic, 2).await;
    let rows = (0..10).map(|n| stage.change('c', n, n, 10));
    stage.send_all(&topic, 0, rows).await;
    let target = Target::new();
    target.hold(true);
    let mut config = stage.config(&[&topic]);
    config.on_error = OnError::DeadLetter;
    config.dead_letter_topic = Some(format!("{}.x.dead-letter", stage.prefix));
    let sink = start(config, target.clone());
    let told = sink
        .until_topic(&topic, "waits", |topic| topic["waits_for"] == "target")
        .await;
    let reason = told["reason"].as_str().unwrap();
    assert!(reason.starts_with("a write is under way for "), "{told}");
    let told = sink
        .until_topic(&topic, "behind", |topic| topic["lag_records"] == 10)
        .await;
    assert_eq!(told["partitions"], 2);
    assert_eq!(
        (&told["accepted"], &told["records"]),
        (&0.into(), &0.into())
    );

    target.refuse([100]);
    target.hold(false);
    let refused = stage.change('c', 100, 1, 11);
    let twice = (0..10).map(|n| stage.change('u', 7, n, 20));
    stage
        .send_all(&topic, 0, std::iter::once(refused).chain(twice))
        .await;
    let told = sink
        .until_topic(&topic, "done", |topic| topic["records"] == 21)
        .await;
    assert_eq!(told["diverted"], 1, "{told}");
    let (accepted, replaced) = (
        told["accepted"].as_u64().unwrap(),
        told["replaced_by_newer"].as_u64().unwrap(),
    );
    assert_eq!(accepted + replaced + 1, 21, "{told}");
    assert!(
        told["log_to_durable_ms"]["p50"].as_f64().is_some(),
        "{told}"
    );
    assert!(told["generation"].is_string(), "{told}");

    // A target that is away is told with its own words.
    target.fail(1_000);
    stage.send(&topic, 1, stage.change('c', 200, 1, 30)).await;
    let told = sink
        .until_topic(&topic, "away", |topic| topic["waits_for"] == "target")
        .await;
    assert!(
        told["reason"]
            .as_str()
            .unwrap()
            .contains("the target is away"),
        "{told}"
    );
    target.fail(0);
    let is_well = |topic: &serde_json::Value| {
        topic["waits_for"].is_null() && topic["lag_records"] == 0 && topic["lag_seconds"] == 0.0
    };
    sink.until_topic(&topic, "well", is_well).await;
    sink.stop().await;
}
