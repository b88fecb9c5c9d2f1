//! One primary key under two Kafka keys: a key's type has changed, so its bytes are others, and the row is the same.

use serde_json::json;

use super::foreign::{Foreign, framed, register};
use super::{Kind, PATIENCE, Place, REBUILD, SINKS, Scene, until_equal};

/// Batches of one record to all that there are.
const BATCHES: [&str; 3] = ["[batch]\nrows = 1\n", "[batch]\nrows = 7\n", ""];
const SEQ: &str = "tributary.seq";

/// The source has both in its log. Sinks that follow, and sinks that read all of it at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn same_primary_key_under_two_kafka_keys() {
    for partitions in [1, 3] {
        let mut scene = Scene::new(&format!("two_keys{partitions}"), partitions).await;
        let config = scene
            .pipeline
            .source_config()
            .replace("partitions = 3", &format!("partitions = {partitions}"))
            .replace(
                "[postgres]\n",
                "[postgres]\non_key_change = \"resnapshot\"\n",
            );
        scene.source = scene
            .pipeline
            .service(Kind::Source, "source", &config)
            .unwrap();
        scene.insert(1, 200).await;
        scene.start_source().await;
        let mut running = SINKS.map(|kind| scene.sink(kind, "usual", ""));
        for sink in &mut running {
            sink.start().unwrap();
            scene.until_equal(sink).await;
        }
        scene
            .run("UPDATE s.t SET name = 'before' WHERE id <= 20; DELETE FROM s.t WHERE id BETWEEN 21 AND 30")
            .await;
        scene
            .run("ALTER TABLE s.t ALTER COLUMN id TYPE bigint")
            .await;
        scene
            .run("UPDATE s.t SET name = 'after' WHERE id BETWEEN 11 AND 50; DELETE FROM s.t WHERE id BETWEEN 51 AND 60; INSERT INTO s.t VALUES (25, 'again')")
            .await;
        scene.published().await;
        for sink in &mut running {
            scene.until_equal(sink).await;
        }
        for (number, batches) in BATCHES.iter().enumerate() {
            for kind in SINKS {
                let place = format!("again{number}");
                let group = format!("{}-{place}", scene.pipeline.group(kind));
                let config = match kind {
                    Kind::SinkElastic => scene.pipeline.elastic_config(&group, &place),
                    _ => scene.pipeline.redshift_config(&group, Some(&place)),
                };
                let mut sink = scene.configured(kind, &place, &format!("{config}{batches}"));
                sink.start().unwrap();
                until_equal(&scene.pipeline, &mut sink, Place::Named(&place)).await;
                assert!(sink.stop(PATIENCE).unwrap().success());
            }
        }
        scene.stop_source();
    }
}

/// By hand, in one partition and in two, so that both records of a row are in one write: with versions, the newer one wins wherever
/// it stands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newer_of_two_kafka_keys_wins() {
    for partitions in [1, 2] {
        let scene = Scene::new(&format!("newer{partitions}"), 1).await;
        let (foreign, [int, long]) = both_keys(&scene, partitions).await;
        scene
            .run("INSERT INTO s.t VALUES (1, 'new'), (2, 'new'), (4, 'new')")
            .await;
        let last = partitions - 1;
        for (key, id, name, seq, partition) in [
            (int, 1, Some("old"), 10, 0),
            (long, 1, Some("new"), 20, last),
            (long, 2, Some("new"), 21, last),
            (int, 2, Some("old"), 11, 0),
            (int, 3, Some("old"), 12, 0),
            (long, 3, None, 22, last),
            (int, 4, None, 13, 0),
            (long, 4, Some("new"), 23, last),
        ] {
            // A delete that comes before an older row of another partition is known to an index only: the source says in each
            // partition that the rows of the key before are gone.
            if (id, partitions) != (3, 2) {
                send(&foreign, key, id, name, partition, &[(SEQ, seq)]);
            }
        }
        foreign.flush();
        for kind in SINKS {
            let mut sink = scene.sink(kind, "usual", "");
            sink.start().unwrap();
            scene.until_equal(&mut sink).await;
            assert!(sink.stop(PATIENCE).unwrap().success());
        }
    }
}

/// Without versions, the later record of one partition wins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_later_of_two_kafka_keys_wins_without_versions() {
    let scene = Scene::new("two_foreign1", 1).await;
    let (foreign, [int, long]) = both_keys(&scene, 1).await;
    scene
        .run("INSERT INTO s.t VALUES (1, 'new'), (3, 'new')")
        .await;
    for (key, id, name) in [
        (int, 1, Some("old")),
        (int, 2, Some("old")),
        (long, 1, Some("new")),
        (long, 2, None),
        (int, 3, None),
        (long, 3, Some("new")),
    ] {
        send(&foreign, key, id, name, 0, &[]);
    }
    foreign.flush();
    for kind in SINKS {
        let mut sink = scene.sink(kind, "usual", "");
        sink.start().unwrap();
        scene.until_equal(&mut sink).await;
        assert!(sink.stop(PATIENCE).unwrap().success());
    }
}

/// Two partitions have no common order then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_kafka_keys_in_two_partitions_without_versions() {
    let scene = Scene::new("two_foreign2", 2).await;
    let (foreign, [int, long]) = both_keys(&scene, 2).await;
    (1..=20).for_each(|id| send(&foreign, int, id, Some("old"), 0, &[]));
    foreign.flush();
    scene
        .run("INSERT INTO s.t SELECT g, 'old' FROM generate_series(1, 20) g")
        .await;
    for kind in SINKS {
        let mut sink = scene.sink(kind, "usual", "");
        sink.start().unwrap();
        scene.until_equal(&mut sink).await;
        assert!(sink.stop(PATIENCE).unwrap().success());
    }
    // By offset it would be the older one, and never be applied. A restart has not forgotten which schema the keys had.
    send(&foreign, long, 1, Some("new"), 1, &[]);
    foreign.flush();
    for kind in SINKS {
        for head in ["", "", REBUILD] {
            let mut sink = scene.sink(kind, "again", head);
            sink.start().unwrap();
            let status = sink.wait(PATIENCE).unwrap();
            let log = sink.log_tail().replace("\\\"", "\"");
            assert!(!status.success(), "{log}");
            assert!(log.contains("have more than one schema"), "{log}");
            assert!(
                log.contains("have the topic's source write it again (delete the topic"),
                "{log}"
            );
        }
    }
    // What the message asks for, to the letter.
    let topic = scene.topic();
    scene.pipeline.delete_topic(&topic).await.unwrap();
    let (foreign, [_, long]) = both_keys(&scene, 2).await;
    scene.run("UPDATE s.t SET name = 'new' WHERE id = 1").await;
    let rows = scene.client.query("SELECT id, name FROM s.t", &[]);
    for row in rows.await.unwrap() {
        let (id, name): (i32, String) = (row.get(0), row.get(1));
        let id = u8::try_from(id).unwrap();
        send(&foreign, long, id, Some(&name), i32::from(id % 2), &[]);
    }
    foreign.flush();
    for kind in SINKS {
        let mut sink = scene.sink(kind, "rebuild", REBUILD);
        sink.start().unwrap();
        scene.until_equal(&mut sink).await;
        assert!(sink.stop(PATIENCE).unwrap().success());
    }
}

/// A topic whose subject of keys has two schemas, and their ids.
async fn both_keys(scene: &Scene, partitions: i32) -> (Foreign<'_>, [u32; 2]) {
    let foreign = Foreign::new(scene).await;
    foreign.create(partitions).await;
    let topic = scene.topic();
    let key = |id: &str| json!({"type": "record", "name": "Key", "namespace": topic, "fields": [{"name": "id", "type": id}]});
    let subject = format!("{topic}-key");
    let int = register(scene, &subject, &key("int")).await;
    let long = register(scene, &subject, &key("long")).await;
    assert_ne!(int, long);
    (foreign, [int, long])
}

/// A row, or its delete. Ids and names are below 64.
fn send(
    foreign: &Foreign<'_>,
    key: u32,
    id: u8,
    name: Option<&str>,
    partition: i32,
    headers: &[(&str, i64)],
) {
    let id = id * 2;
    let key = framed(key, &[id]);
    let value = match name {
        Some(name) => {
            let length = u8::try_from(name.len() * 2).unwrap();
            [&[0, 2, id, 2, length], name.as_bytes(), &[2, b'c']].concat()
        }
        None => vec![2, id, 0, 0, 2, b'd'],
    };
    foreign.send_as(&key, &value, partition, headers);
}
