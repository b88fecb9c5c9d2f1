//! The forms in which Debezium can write: what the sinks read of them, and what they refuse with which sentence.

use std::time::Instant;

use tokio_postgres::Client;
use tributary_tests::debezium::{Connect, Connector, Jvm};
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::stack::Stack;

use super::{PATIENCE, POLL};

const SINKS: [Kind; 2] = [Kind::SinkElastic, Kind::SinkRedshift];
const TABLE: &str = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, name text, price numeric(8, 2), body text, raw bytea, \
    doc jsonb, words text[], numbers int[], counts bigint[], ids uuid[], day date); ALTER TABLE s.t ALTER body SET STORAGE EXTERNAL, \
    ALTER raw SET STORAGE EXTERNAL, ALTER doc SET STORAGE EXTERNAL, ALTER words SET STORAGE EXTERNAL, \
    ALTER numbers SET STORAGE EXTERNAL, ALTER counts SET STORAGE EXTERNAL, ALTER ids SET STORAGE EXTERNAL; \
    INSERT INTO s.t SELECT g, 'row ' || g, g, repeat(md5(g::text), 100), decode(repeat(md5(g::text), 200), 'hex'), \
    jsonb_build_object('text', repeat(md5(g::text), 100)), array_fill(md5(g::text), ARRAY[100]), array_fill(g, ARRAY[1000]), \
    array_fill(g::bigint, ARRAY[500]), array_fill(md5(g::text)::uuid, ARRAY[300]), \
    CASE g WHEN 1 THEN 'infinity' WHEN 2 THEN '-infinity' ELSE date '2024-02-29' END FROM generate_series(1, 10) g";
/// Values that are stored apart stay as they are, and Debezium has only a placeholder for them: in the first record of a row behind the
/// snapshot's, and in one that follows another of the same row.
const CHANGES: &str = "UPDATE s.t SET name = 'new' WHERE id < 4; \
    UPDATE s.t SET body = repeat('b', 4000), raw = '\\x00' WHERE id = 2; UPDATE s.t SET price = 7 WHERE id = 2; \
    UPDATE s.t SET numbers = NULL, words = array_fill('w'::text, ARRAY[3000]) WHERE id = 3; \
    UPDATE s.t SET price = 8 WHERE id IN (3, 4); \
    DELETE FROM s.t WHERE id = 5; UPDATE s.t SET id = 5, body = NULL, raw = NULL, doc = NULL, words = NULL, numbers = NULL, counts = NULL, \
    ids = NULL WHERE id = 6; DELETE FROM s.t WHERE id > 7; INSERT INTO s.t VALUES (11, NULL, 0.5); \
    INSERT INTO s.t (id, day) VALUES (12, 'infinity'), (13, '-infinity')";
const JSON: &str = "org.apache.kafka.connect.json.JsonConverter";
const UNWRAP: [(&str, &str); 2] = [
    ("transforms", "unwrap"),
    (
        "transforms.unwrap.type",
        "io.debezium.transforms.ExtractNewRecordState",
    ),
];

/// Both parts of a record as JSON, with the schema in each record or without.
fn json(with_schema: bool) -> Vec<(&'static str, &'static str)> {
    let enabled = if with_schema { "true" } else { "false" };
    vec![
        ("key.converter", JSON),
        ("key.converter.schemas.enable", enabled),
        ("value.converter", JSON),
        ("value.converter.schemas.enable", enabled),
    ]
}

struct Scene {
    stack: Stack,
    pipeline: Pipeline,
    client: Client,
}

impl Scene {
    async fn new(name: &str) -> Self {
        let stack = Stack::from_env().unwrap();
        let pipeline = Pipeline::new(&stack, name).await.unwrap();
        let client = pipeline.source().await.unwrap();
        client.batch_execute(TABLE).await.unwrap();
        Self {
            stack,
            pipeline,
            client,
        }
    }

    /// Debezium has read the table, and streams.
    async fn debezium(&self, pipeline: &Pipeline, settings: &[(&str, &str)]) -> Connect {
        let all = [&[("schema.include.list", "s")], settings].concat();
        let connector = Connector {
            database: &pipeline.source_url,
            prefix: pipeline.prefix(),
            settings: &all,
        };
        let dir = pipeline.dir().join("debezium");
        let mut connect = Connect::start(&self.stack, &dir, Jvm::Brief, &connector).unwrap();
        let waiting = connect.wait_streaming(&self.client, PATIENCE).await;
        waiting.unwrap();
        connect
    }

    /// What the messages ask for, to the letter.
    async fn follows_the_remedy(&self, pipeline: &Pipeline) {
        pipeline.delete_topic(&pipeline.topic("s.t")).await.unwrap();
        std::fs::remove_dir_all(pipeline.dir().join("debezium")).unwrap();
        let connect = self.debezium(pipeline, &[]).await;
        for kind in SINKS {
            let mut sink = sink(pipeline, kind);
            sink.start().unwrap();
            until_equal(pipeline, &mut sink).await;
            assert!(sink.stop(PATIENCE).unwrap().success());
        }
        connect.end(&self.client, PATIENCE).await.unwrap();
    }
}

fn sink(pipeline: &Pipeline, kind: Kind) -> Service {
    let group = pipeline.group(kind);
    let config = match kind {
        Kind::SinkElastic => pipeline.elastic_config(&group, ""),
        _ => pipeline.redshift_config(&group, Some(pipeline.prefix())),
    };
    pipeline.service(kind, &kind.to_string(), &config).unwrap()
}

async fn until_equal(pipeline: &Pipeline, sink: &mut Service) {
    let begun = Instant::now();
    loop {
        let schema = Some(pipeline.prefix());
        let found = match sink.kind() {
            Kind::SinkElastic => pipeline.search_differences(&["s.t"], "").await,
            _ => pipeline.warehouse_differences(&["s.t"], schema).await,
        };
        if found.as_ref().is_ok_and(Vec::is_empty) {
            return;
        }
        assert!(sink.is_running().unwrap(), "{}", sink.log_tail());
        assert!(begun.elapsed() < PATIENCE, "{found:?}\n{}", sink.log_tail());
        tokio::time::sleep(POLL).await;
    }
}

/// Deletes have no tombstones, and heartbeats and transactions stand in topics that the pattern matches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn debezium_without_tombstones_and_with_heartbeats_is_read() {
    let scene = Scene::new("forms_read").await;
    let pipeline = &scene.pipeline;
    let heartbeats = format!("{}.heartbeats", pipeline.prefix());
    let connect = scene
        .debezium(
            pipeline,
            &[
                ("tombstones.on.delete", "false"),
                ("heartbeat.interval.ms", "200"),
                ("topic.heartbeat.prefix", &heartbeats),
                ("provide.transaction.metadata", "true"),
            ],
        )
        .await;
    let mut sinks = SINKS.map(|kind| sink(pipeline, kind));
    for sink in &mut sinks {
        sink.start().unwrap();
        until_equal(pipeline, sink).await;
    }
    scene.client.batch_execute(CHANGES).await.unwrap();
    for sink in &mut sinks {
        until_equal(pipeline, sink).await;
        let begun = Instant::now();
        let passed = |log: &str| {
            log.lines()
                .any(|line| line.contains("passed over") && line.contains(".heartbeats."))
        };
        while !passed(&sink.log()) {
            assert!(sink.is_running().unwrap(), "{}", sink.log_tail());
            assert!(begun.elapsed() < PATIENCE, "{}", sink.log_tail());
            tokio::time::sleep(POLL).await;
        }
        assert!(sink.stop(PATIENCE).unwrap().success());
    }
    connect.end(&scene.client, PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_debezium_writes_in_other_forms_is_refused_with_what_to_do() {
    let scene = Scene::new("forms").await;
    let flat_json = [json(false), UNWRAP.to_vec()].concat();
    let avro = "set the connector's key.converter and value.converter to an Avro converter with the schema registry";
    let with_schema = "is JSON with its schema in each record (schemas.enable=true), not Avro";
    let without = "is JSON without a schema (schemas.enable=false), not Avro";
    let flat = "is not a Debezium change event envelope";
    let unwrap = "take that transform out of the connector";
    for (name, settings, why, remedy) in [
        ("schema", json(true), with_schema, avro),
        ("plain", json(false), without, avro),
        ("flat_json", flat_json, without, avro),
        ("flat", UNWRAP.to_vec(), flat, unwrap),
    ] {
        let pipeline = scene.pipeline.beside(name);
        let connect = scene.debezium(&pipeline, &settings).await;
        let topic = pipeline.topic("s.t");
        for kind in SINKS {
            let mut sink = sink(&pipeline, kind);
            sink.start().unwrap();
            let status = sink.wait(PATIENCE).unwrap();
            let log = sink.log_tail();
            assert!(!status.success(), "{name}: {log}");
            let place = format!("topic {topic} partition 0 offset 0: the ");
            for part in [&place, why, remedy, "and begin the topic again (delete it"] {
                assert!(log.contains(part), "{name}: {part}: {log}");
            }
        }
        connect.end(&scene.client, PATIENCE).await.unwrap();
        if name == "plain" || name == "flat" {
            scene.follows_the_remedy(&pipeline).await;
        }
    }
}
