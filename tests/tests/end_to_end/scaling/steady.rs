//! What a sink of one topic takes at a thousand changes a second.

use std::time::{Duration, Instant};

use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::Kind;
use tributary_tests::stack::Stack;

use super::{PATIENCE, start};

const TABLE: &str = "s.t";
const ROWS: i32 = 10_000;
/// In one transaction, and how often a second.
const CHANGES: i32 = 10;
const TICKS: u32 = 100;
const DURATION: Duration = Duration::from_secs(60);
/// Of a sink's process at its peak.
const PEAK_BYTES: u64 = 64 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: `make test-long`"]
async fn a_sink_of_one_topic_stays_small() {
    let stack = Stack::from_env().unwrap();
    let mut pipeline = Pipeline::new(&stack, "steady").await.unwrap();
    pipeline.tables = vec!["s.*".to_owned()];
    let client = pipeline.source().await.unwrap();
    let create = format!(
        "CREATE SCHEMA s; CREATE TABLE {TABLE} (id int PRIMARY KEY, n bigint NOT NULL, filler text NOT NULL);
         INSERT INTO {TABLE} SELECT g, 0, repeat('x', 84) FROM generate_series(0, {ROWS} - 1) g"
    );
    client.batch_execute(&create).await.unwrap();
    let mut source = start(&pipeline, Kind::Source, "source", &pipeline.source_config());
    source.wait_ready(PATIENCE).unwrap();
    let groups = [Kind::SinkElastic, Kind::SinkRedshift].map(|kind| (kind, pipeline.group(kind)));
    let configs = [
        pipeline.elastic_config(&groups[0].1, ""),
        pipeline.redshift_config(&groups[1].1, None),
    ];
    let mut sinks: Vec<_> = groups
        .iter()
        .zip(&configs)
        .map(|((kind, group), config)| start(&pipeline, *kind, group, config))
        .collect();

    let update = format!("UPDATE {TABLE} SET n = n + 1 WHERE id >= $1 AND id < $1 + {CHANGES}");
    let update = client.prepare(&update).await.unwrap();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / TICKS);
    let (begun, mut changed, mut first) = (Instant::now(), 0_u64, 0);
    while begun.elapsed() < DURATION {
        tick.tick().await;
        changed += client.execute(&update, &[&first]).await.unwrap();
        first = (first + CHANGES) % ROWS;
    }
    let rate = changed / DURATION.as_secs();
    assert!(rate > 900, "the source has changed {rate} rows a second");

    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    let topics = pipeline.read_topics(&[TABLE]).await.unwrap();
    for ((kind, group), sink) in groups.iter().zip(&mut sinks) {
        pipeline
            .wait_sink(sink, group, &topics, PATIENCE)
            .await
            .unwrap();
        let peak = sink.peak_resident_bytes().unwrap();
        println!("{kind} at {rate} changes a second: {peak} bytes at its peak");
        assert!(peak <= PEAK_BYTES, "{kind}: {peak} bytes");
    }
    let mut differences = pipeline.search_differences(&[TABLE], "").await.unwrap();
    differences.extend(
        pipeline
            .warehouse_differences(&[TABLE], None)
            .await
            .unwrap(),
    );
    assert_eq!(differences, Vec::<String>::new());
}
