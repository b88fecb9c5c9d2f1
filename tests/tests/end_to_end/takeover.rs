//! An instance that is frozen in the middle of a write: another one takes its partitions over.

use std::time::{Duration, Instant};

use tokio_postgres::Client;
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::stack::Stack;

const PATIENCE: Duration = Duration::from_secs(90);
/// How long a frozen instance may keep others from its partitions.
const TAKEOVER: Duration = Duration::from_secs(30);
/// The backends of the sink that wait for the rest of a COPY.
const COPYING: &str = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
    AND application_name LIKE 'tributary-sink-redshift %' AND state = 'active' AND query LIKE 'COPY pg_temp.%' \
    AND wait_event = 'ClientRead' ORDER BY pid";
const EPOCH: &str = "SELECT max(epoch) FROM _tributary._tributary_ledger";
const FILL: &str = "INSERT INTO s.t SELECT g, repeat('x', 2000) FROM generate_series(1, 20000) g \
    ON CONFLICT (id) DO UPDATE SET name = excluded.name || clock_timestamp()";

/// Freezes `holder` while one of its backends is inside a COPY, and stays there.
async fn freeze_inside_a_copy(holder: &Service, source: &Client, warehouse: &Client) {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        source.batch_execute(FILL).await.unwrap();
        let round = Instant::now();
        while round.elapsed() < Duration::from_secs(3) {
            if warehouse.query(COPYING, &[]).await.unwrap().is_empty() {
                continue;
            }
            holder.freeze().unwrap();
            // What was on its way is read; whoever is still inside stays.
            tokio::time::sleep(Duration::from_millis(300)).await;
            if !warehouse.query(COPYING, &[]).await.unwrap().is_empty() {
                return;
            }
            holder.thaw().unwrap();
        }
    }
    panic!("no COPY was caught\n{}", holder.log_tail());
}

async fn wait_held(service: &Service) {
    let deadline = Instant::now() + PATIENCE;
    while service.metric("tributary_sink_assigned_partitions") != Some(1.0) {
        assert!(Instant::now() < deadline, "{}", service.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holder_frozen_inside_a_copy() {
    let stack = Stack::from_env().unwrap();
    let mut pipeline = Pipeline::new(&stack, "frozen").await.unwrap();
    pipeline.tables = vec!["s.*".to_owned()];
    let source_client = pipeline.source().await.unwrap();
    source_client
        .batch_execute("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, name text)")
        .await
        .unwrap();
    let config = pipeline
        .source_config()
        .replace("partitions = 3", "partitions = 1");
    let mut source = pipeline.service(Kind::Source, "source", &config).unwrap();
    source.start().unwrap();
    source.wait_ready(PATIENCE).unwrap();
    source_client.batch_execute(FILL).await.unwrap();

    let group = pipeline.group(Kind::SinkRedshift);
    let config = pipeline.redshift_config(&group, None);
    let sink = |instance| pipeline.service(Kind::SinkRedshift, instance, &config);
    let (mut holder, mut other) = (sink("holder").unwrap(), sink("other").unwrap());
    holder.start().unwrap();
    wait_held(&holder).await;
    let warehouse = pipeline.warehouse().await.unwrap();
    let topics = pipeline.read_topics(&["s.t"]).await.unwrap();
    pipeline
        .wait_sink(&mut holder, &group, &topics, PATIENCE)
        .await
        .unwrap();
    other.start().unwrap();
    other.wait_ready(PATIENCE).unwrap();
    let holds = holder.metric("tributary_sink_assigned_partitions") == Some(1.0);
    let (frozen, mut free) = if holds {
        (holder, other)
    } else {
        (other, holder)
    };

    let before: i64 = warehouse.query_one(EPOCH, &[]).await.unwrap().get(0);
    freeze_inside_a_copy(&frozen, &source_client, &warehouse).await;
    let begun = Instant::now();
    while warehouse
        .query_one(EPOCH, &[])
        .await
        .unwrap()
        .get::<_, i64>(0)
        == before
    {
        assert!(
            begun.elapsed() < TAKEOVER,
            "not taken over\n{}",
            free.log_tail()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("taken over after {:.1} s", begun.elapsed().as_secs_f64());

    // Awake again, the former holder writes nothing of what it held.
    frozen.thaw().unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    let topics = pipeline.read_topics(&["s.t"]).await.unwrap();
    pipeline
        .wait_sink(&mut free, &group, &topics, PATIENCE)
        .await
        .unwrap();
    let differences = pipeline.warehouse_differences(&["s.t"], None).await;
    assert_eq!(differences.unwrap(), Vec::<String>::new());
}
