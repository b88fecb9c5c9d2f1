//! A table whose primary key has changed: the log has records of both keys.

use super::{Kind, PATIENCE, REBUILD, Scene};

/// No batch has both generations.
const SMALL: &str = "[batch]\nrows = 5\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_key_in_the_warehouse() {
    let mut scene = Scene::new("rekeyed", 1).await;
    let config = scene
        .pipeline
        .source_config()
        .replace("partitions = 3", "partitions = 1");
    let keyed = "[postgres]\non_key_change = \"resnapshot\"\n";
    let config = config.replace("[postgres]\n", keyed);
    let config = format!("on_gap = \"resnapshot\"\n{config}");
    scene.source = scene
        .pipeline
        .service(Kind::Source, "source", &config)
        .unwrap();
    scene.insert(1, 20).await;
    scene.start_source().await;
    let group = scene.pipeline.group(Kind::SinkRedshift);
    let usual = format!("{}{SMALL}", scene.pipeline.redshift_config(&group, None));
    let mut sink = scene.configured(Kind::SinkRedshift, "usual", &usual);
    sink.start().unwrap();
    scene.until_equal(&mut sink).await;

    scene
        .run("ALTER TABLE s.t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id, name)")
        .await;
    scene.insert(21, 30).await;
    let status = sink.wait(PATIENCE).unwrap();
    let log = sink.log_tail();
    assert!(!status.success(), "{log}");
    assert!(log.contains("the records have"), "{log}");

    assert!(log.contains("have the topic hold one key only"), "{log}");

    // What the message asks for, to the letter.
    scene.recreate_topic().await;
    let warehouse = scene.pipeline.warehouse().await.unwrap();
    warehouse.batch_execute("DROP TABLE s.t").await.unwrap();
    let rebuild = format!("{REBUILD}{usual}");
    let mut sink = scene.configured(Kind::SinkRedshift, "rebuild", &rebuild);
    scene.run_until_equal(&mut sink).await;
    scene.goes_on(Kind::SinkRedshift).await;
}
