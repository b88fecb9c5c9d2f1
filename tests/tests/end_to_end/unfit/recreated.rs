//! Topics that were deleted and made again, whether the sinks run meanwhile or not.

use std::time::{Duration, Instant};

use tributary_tests::service::{Kind, Service};

use super::{REBUILD, SINKS, Scene, stopped};

const MADE_AGAIN: &str = "was deleted and made again since its target was built";
/// Where the log is shorter than before for a moment, that is noticed first.
const OFFSET_TELLS: &str = "the topic was deleted and created again, or has lost records";
/// How long it may take until it is noticed.
const NOTICED: Duration = Duration::from_secs(60);

/// The new log is longer than where the ledger stands: no offset tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recreated_topic_warehouse_goes_on_at_the_old_offset() {
    let mut scene = Scene::with_rows("longer", 1, 10).await;
    scene.read(Kind::SinkRedshift).await;
    scene.insert(11, 60).await;
    scene.published().await;
    scene.recreate_topic().await;
    scene
        .stops_and_is_rebuilt(Kind::SinkRedshift, &[MADE_AGAIN])
        .await;
    scene.goes_on(Kind::SinkRedshift).await;
}

/// The new topic lacks rows that the old one had, and says nothing of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recreated_topic_index_keeps_what_the_new_topic_lacks() {
    let mut scene = Scene::with_rows("shorter", 1, 50).await;
    for kind in SINKS {
        scene.read(kind).await;
    }
    scene.stop_source();
    scene.run("DELETE FROM s.t WHERE id > 20").await;
    let topic = scene.topic();
    scene.pipeline.delete_topic(&topic).await.unwrap();
    scene.start_source().await;
    for kind in SINKS {
        scene.stops_and_is_rebuilt(kind, &[MADE_AGAIN]).await;
        scene.goes_on(kind).await;
    }
}

/// Kafka's clients go on at the old offset of the new topic, and tell nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recreated_topic_under_a_running_sink() {
    let mut scene = Scene::with_rows("running", 1, 10).await;
    let mut sinks = SINKS.map(|kind| scene.sink(kind, "usual", ""));
    start(&scene, &mut sinks).await;
    scene.insert(11, 60).await;
    scene.recreate_topic().await;
    let made = Instant::now();
    for sink in &mut sinks {
        stopped(sink, &[MADE_AGAIN, OFFSET_TELLS]);
        assert!(made.elapsed() < NOTICED, "{:?}", made.elapsed());
    }

    // One that may build its target again does so by itself, as often as it must.
    let mut sinks = SINKS.map(|kind| scene.sink(kind, "rebuild", REBUILD));
    start(&scene, &mut sinks).await;
    scene.stop_source();
    scene.run("DELETE FROM s.t WHERE id > 50").await;
    let topic = scene.topic();
    scene.pipeline.delete_topic(&topic).await.unwrap();
    scene.start_source().await;
    let made = Instant::now();
    for sink in &mut sinks {
        scene.until_equal(sink).await;
        assert!(made.elapsed() < NOTICED, "{:?}", made.elapsed());
        assert!(sink.stop(NOTICED).unwrap().success());
    }
    for kind in SINKS {
        scene.goes_on(kind).await;
    }
}

async fn start(scene: &Scene, sinks: &mut [Service]) {
    for sink in &mut *sinks {
        sink.start().unwrap();
    }
    for sink in sinks {
        scene.until_equal(sink).await;
    }
}
