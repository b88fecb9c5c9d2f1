//! A sink that was away for longer than the topic keeps what tells of deletes.

use std::time::{Duration, Instant};

use super::{SINKS, Scene};

/// The broker looks every 15 s for what it can compact.
const COMPACTED: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sink_away_longer_than_tombstones_live() {
    let mut scene = Scene::new("away", 1).await;
    let settings = [
        ("cleanup.policy", "compact"),
        ("delete.retention.ms", "1000"),
        ("segment.ms", "1000"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("max.compaction.lag.ms", "1000"),
    ];
    scene.create_topic(1, &settings).await;
    scene.insert(1, 20).await;
    scene.start_source().await;
    for kind in SINKS {
        scene.read(kind).await;
    }

    scene.run("DELETE FROM s.t WHERE id <= 10").await;
    scene.published().await;
    let deadline = Instant::now() + COMPACTED;
    while tells_of_deletes(&scene).await {
        assert!(Instant::now() < deadline, "not compacted");
        // A segment is closed by what is written behind it.
        scene.run("UPDATE s.t SET name = name || '.'").await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    for kind in SINKS {
        let why = ["deletes may have been missed"];
        scene.stops_and_is_rebuilt(kind, &why).await;
    }
}

/// Whether a record of the log still says that a row is gone.
async fn tells_of_deletes(scene: &Scene) -> bool {
    let topics = scene.pipeline.read_topics(&["s.t"]).await.unwrap();
    let mut records = topics.values().flatten();
    records.any(|record| record.change.as_ref().is_none_or(|change| change.op == 'd'))
}
