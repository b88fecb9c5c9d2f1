//! Indices and tables that somebody deletes, between starts and under running instances.

use std::time::{Duration, Instant};

use tributary_tests::service::{Kind, Service};
use tributary_tests::stack::Link;

use super::{PATIENCE, Place, Scene, delete_index, index, until_equal};

/// The sink of an index dies between the new index and its rows: the next one begins at the beginning all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn index_deleted_one_instance_killed_at_its_creation() {
    let scene = Scene::with_rows("killed", 3, 100).await;
    scene.read(Kind::SinkElastic).await;
    let topic = scene.topic();
    let mut sink = scene.sink(Kind::SinkElastic, "usual", "");
    for delay in [0, 20, 60] {
        delete_index(&scene.stack, &topic).await;
        sink.start().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while index(&scene.stack, &topic).await.is_none() {
            assert!(Instant::now() < deadline, "{}", sink.log_tail());
        }
        tokio::time::sleep(Duration::from_millis(delay)).await;
        sink.kill().unwrap();
        scene.run_until_equal(&mut sink).await;
    }
    scene.goes_on(Kind::SinkElastic).await;
}

/// One of two instances has made the new index and begun its partitions long before the other one looks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn index_deleted_second_instance_comes_late() {
    let scene = Scene::with_rows("late", 2, 100).await;
    scene.read(Kind::SinkElastic).await;
    let port = scene.stack.search_url().rsplit_once(':').unwrap().1;
    let link = Link::slow(port.parse().unwrap(), Duration::from_secs(1)).unwrap();
    let config = scene
        .pipeline
        .elastic_config(&scene.pipeline.group(Kind::SinkElastic), "")
        .replace(
            scene.stack.search_url(),
            &format!("http://127.0.0.1:{}", link.port()),
        );
    let mut first = scene.sink(Kind::SinkElastic, "first", "");
    let mut second = scene.configured(Kind::SinkElastic, "second", &config);
    for _ in 0..2 {
        delete_index(&scene.stack, &scene.topic()).await;
        first.start().unwrap();
        second.start().unwrap();
        wait_shared([&first, &second]).await;
        until_equal(&scene.pipeline, &mut first, Place::Usual).await;
        for sink in [&mut first, &mut second] {
            assert!(sink.stop(PATIENCE).unwrap().success());
        }
    }
    scene.goes_on(Kind::SinkElastic).await;
}

/// Under two instances that run; and between two batches of one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn index_deleted_under_running_instances() {
    let scene = Scene::with_rows("under", 2, 100).await;
    let mut first = scene.sink(Kind::SinkElastic, "first", "");
    let mut second = scene.sink(Kind::SinkElastic, "second", "");
    first.start().unwrap();
    second.start().unwrap();
    wait_shared([&first, &second]).await;
    scene.until_equal(&mut first).await;
    delete_index(&scene.stack, &scene.topic()).await;
    scene.insert(101, 120).await;
    scene.until_equal(&mut first).await;
    assert!(second.is_running().unwrap(), "{}", second.log_tail());
    // Nothing is written: it is noticed all the same.
    delete_index(&scene.stack, &scene.topic()).await;
    scene.until_equal(&mut second).await;
    assert!(first.is_running().unwrap(), "{}", first.log_tail());
}

/// A table is not made again by itself: it may be that views stood on it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn table_dropped_under_a_running_instance_and_between_starts() {
    let why = ["is gone, but the ledger"];
    let scene = Scene::with_rows("dropped", 2, 100).await;
    let mut sink = scene.sink(Kind::SinkRedshift, "usual", "");
    sink.start().unwrap();
    scene.until_equal(&mut sink).await;
    let warehouse = scene.pipeline.warehouse().await.unwrap();
    warehouse.batch_execute("DROP TABLE s.t").await.unwrap();
    scene.insert(101, 120).await;
    super::stopped(&mut sink, &why);
    scene.stops_and_is_rebuilt(Kind::SinkRedshift, &why).await;
    scene.goes_on(Kind::SinkRedshift).await;
}

/// Waits until both hold one partition.
async fn wait_shared(sinks: [&Service; 2]) {
    let deadline = Instant::now() + PATIENCE;
    let holds_one =
        |sink: &&Service| sink.metric("tributary_sink_assigned_partitions") == Some(1.0);
    while !sinks.iter().all(holds_one) {
        assert!(Instant::now() < deadline, "{}", sinks[0].log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
