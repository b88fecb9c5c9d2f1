//! Tables that change while their rows are carried.

mod amid_snapshots;
mod dropped_types;
mod every_statement;
mod identity;
mod keyless;
mod keys;
mod lookups;
mod messages;
mod names;
mod partitions;
mod presence;
mod safe_reading;
mod settings;
mod shapes;
mod stage;
mod statements;

use std::time::Duration;

use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::Service;
use tributary_tests::stack::Stack;

const PATIENCE: Duration = Duration::from_secs(60);

async fn catch_up(pipeline: &Pipeline, services: &mut [Service; 3]) {
    let [source, elastic, redshift] = services;
    pipeline.wait_source(source, PATIENCE).await.unwrap();
    let topics = pipeline.read_topics(&["s.t"]).await.unwrap();
    for sink in [elastic, redshift] {
        let group = pipeline.group(sink.kind());
        pipeline
            .wait_sink(sink, &group, &topics, PATIENCE)
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_added_widened_and_dropped() {
    let stack = Stack::from_env().unwrap();
    let mut pipeline = Pipeline::new(&stack, "evolution").await.unwrap();
    pipeline.tables = vec!["s.*".to_owned()];
    let client = pipeline.source().await.unwrap();
    let table = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, n int, old text);
        INSERT INTO s.t SELECT g, g, 'old ' || g FROM generate_series(1, 20) g";
    client.batch_execute(table).await.unwrap();
    let mut services = pipeline.services().unwrap();
    for service in &mut services {
        service.start().unwrap();
    }
    services[0].wait_ready(PATIENCE).unwrap();
    for change in [
        // In the middle of a transaction, with rows of both shapes.
        "BEGIN; INSERT INTO s.t VALUES (21, 21, 'before'); ALTER TABLE s.t ADD COLUMN price numeric(10,2);
         INSERT INTO s.t VALUES (22, 22, 'behind', 2.50); COMMIT",
        "ALTER TABLE s.t ALTER COLUMN n TYPE bigint; INSERT INTO s.t VALUES (23, 9000000000, 'wide', NULL)",
        "ALTER TABLE s.t DROP COLUMN old; INSERT INTO s.t VALUES (24, 24, 1)",
        "ALTER TABLE s.t ADD COLUMN \"Weird Näme-$\" timestamptz DEFAULT '2024-01-01 00:00:00+00'; UPDATE s.t SET n = n + 1 WHERE id < 5",
    ] {
        client.batch_execute(change).await.unwrap();
        catch_up(&pipeline, &mut services).await;
    }
    // Beside a second reading of the table, for the default that a column was added with.
    client
        .batch_execute("UPDATE s.t SET n = n + 1")
        .await
        .unwrap();
    catch_up(&pipeline, &mut services).await;
    assert_eq!(
        pipeline
            .warehouse_differences(&["s.t"], None)
            .await
            .unwrap(),
        Vec::<String>::new()
    );
    assert_eq!(
        pipeline.search_differences(&["s.t"], "").await.unwrap(),
        Vec::<String>::new()
    );
}
