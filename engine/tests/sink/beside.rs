//! What stands beside change events in the topics that a pattern matches.

use serde_json::json;
use tributary_engine::OnError;
use tributary_runtime::registry::Registry;
use tributary_schemas::wire;

use crate::double::Target;
use crate::stage::{Outgoing, Stage, start};

fn plain(key: &str, value: &str) -> Outgoing {
    Outgoing {
        key: Some(key.as_bytes().to_vec()),
        value: Some(value.as_bytes().to_vec()),
        headers: Vec::new(),
    }
}

/// A registered schema's id, and a body of one string.
async fn avro(stage: &Stage, name: &str, text: &str) -> Vec<u8> {
    let registry = Registry::new(&stage.kafka().registry).unwrap();
    let (namespace, short) = name.rsplit_once('.').unwrap();
    let schema = json!({
        "type": "record", "name": short, "namespace": namespace,
        "fields": [{"name": "text", "type": "string"}],
    });
    let subject = format!("loop-test-{short}");
    let id = registry.register(&subject, &schema.to_string()).await;
    let length = u8::try_from(text.len() * 2).unwrap();
    [&wire::prefix(id.unwrap())[..], &[length], text.as_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn dotted_topic_prefix() {
    let stage = Stage::new("dotted").await;
    let prefix = format!("eu.{}", stage.prefix);
    let topic = |rest: &str| format!("{prefix}.{rest}");
    let (table, namesake) = (topic("s.t"), topic("s.progress"));
    for name in [
        "progress",
        "signals",
        "transaction",
        "message",
        "shop.dead-letter",
        "s.t",
        "s.progress",
    ] {
        stage.create(&topic(name), 1).await;
    }
    let progress = topic("progress");
    let position = r#"{"format":3,"system_id":"7","timeline":1,"position":{"lsn":1},"changed":{}}"#;
    stage.send(&progress, 0, plain("shop", position)).await;
    let all = r#"{"format":3,"tables":{}}"#;
    stage.send(&progress, 0, plain("shop/tables", all)).await;
    let signal = r#"{"type": "snapshot", "tables": ["s.t"]}"#;
    stage.send(&topic("signals"), 0, plain("any", signal)).await;
    for (name, record) in [
        (
            "transaction",
            "io.debezium.connector.common.TransactionMetadata",
        ),
        ("message", "io.debezium.connector.postgresql.Message"),
    ] {
        let record = Outgoing {
            key: Some(avro(&stage, &format!("{record}Key"), "k").await),
            value: Some(avro(&stage, &format!("{record}Value"), "v").await),
            headers: Vec::new(),
        };
        stage.send(&topic(name), 0, record).await;
    }
    stage
        .send(&topic("shop.dead-letter"), 0, plain("a", "letter"))
        .await;
    stage.send(&table, 0, stage.change('c', 1, 1, 1_000)).await;
    stage
        .send(&namesake, 0, stage.change('c', 2, 2, 1_000))
        .await;
    // No record of the source's own, though it has the topic's name.
    stage.send(&namesake, 0, plain("x", "{\"id\": 1}")).await;

    let mut config = stage.config(&[&format!("{prefix}.*")]);
    config.on_error = OnError::DeadLetter;
    config.dead_letter_topic = Some(topic("own.dead-letter"));
    assert_eq!(tributary_engine::check(&config).await, []);
    let target = Target::new();
    let sink = start(config, target.clone());
    for (name, count) in [
        ("progress", 2),
        ("signals", 1),
        ("transaction", 1),
        ("message", 1),
        ("s.t", 1),
        ("s.progress", 2),
    ] {
        stage.until_committed(&topic(name), 0, count).await;
    }
    sink.stop().await;
    let ids: Vec<_> = target.state().live_rows().into_keys().collect();
    assert_eq!(ids, [1, 2]);
    assert_eq!(stage.end(&topic("own.dead-letter"), 0), 1, "letters");
    assert_eq!(stage.committed(&topic("shop.dead-letter"), 0), None);
}

/// JSON, a flattened row, a heartbeat.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_envelope_is_refused_with_a_sentence() {
    let stage = Stage::new("no-envelope").await;
    let key = stage.foreign('c', 1, 1).key;
    let flattened = avro(&stage, "inventory.customers.Value", "x").await;
    let with_schema = br#"{"schema":{"type":"struct"},"payload":{"op":"c"}}"#.to_vec();
    for (name, value, expected) in [
        (
            "json",
            br#"{"before":null,"after":{"id":1},"op":"c"}"#.to_vec(),
            "the value is JSON without a schema (schemas.enable=false), not Avro; to do: set the connector's key.converter \
             and value.converter to an Avro converter with the schema registry, and begin the topic again",
        ),
        (
            "json-schema",
            with_schema,
            "the value is JSON with its schema in each record (schemas.enable=true), not Avro",
        ),
        (
            "flattened",
            flattened,
            "the value's schema id ID cannot be used: 'inventory.customers.Value' is not a Debezium change event \
             envelope (it has no fields 'op' and 'after'). The topic needs whole envelopes: if the \
             ExtractNewRecordState transform flattens its records, take that transform out of the connector",
        ),
    ] {
        let topic = stage.topic(name);
        stage.create(&topic, 1).await;
        let id = wire::parse(&value).map_or(0, |(id, _)| id).to_string();
        let record = Outgoing {
            key: key.clone(),
            value: Some(value),
            headers: Vec::new(),
        };
        stage.send(&topic, 0, record).await;
        let mut config = stage.config(&[&topic]);
        config.name = format!("{}-{name}", config.name);
        let message = start(config, Target::new()).stops().await.to_string();
        let expected = expected.replace("ID", &id);
        assert!(
            message.starts_with(&format!("topic {topic} partition 0 offset 0: {expected}")),
            "{message}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_are_passed_over() {
    let stage = Stage::new("heartbeat").await;
    let own = format!("__debezium-heartbeat.{}", stage.prefix);
    let renamed = stage.topic("beat");
    let beat = Outgoing {
        key: Some(avro(&stage, "io.debezium.connector.common.ServerNameKey", "shop").await),
        value: Some(avro(&stage, "io.debezium.connector.common.Heartbeat", "1").await),
        headers: Vec::new(),
    };
    for topic in [&own, &renamed] {
        stage.create(topic, 1).await;
        stage
            .send_all(
                topic,
                0,
                [Outgoing {
                    key: beat.key.clone(),
                    value: beat.value.clone(),
                    headers: Vec::new(),
                }],
            )
            .await;
    }
    let sink = start(
        stage.config(&[&format!("*{}*", stage.prefix)]),
        Target::new(),
    );
    stage.until_committed(&renamed, 0, 1).await;
    sink.stop().await;
    assert_eq!(stage.committed(&own, 0), None, "the topic's name says it");
}
