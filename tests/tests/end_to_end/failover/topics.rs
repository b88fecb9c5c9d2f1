//! A table's topic is deleted while its source runs, and made again by an administrator. Kafka commits what was in it all
//! the same, and with it the position.

use std::path::Path;

use tokio_postgres::Client;
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::stack::Stack;

use super::gaps::{converges, stopped_source};
use super::{PATIENCE, RESNAPSHOT, wait_until};

/// So many rows a change has.
const ROWS: i64 = 60;
/// Waits at the failpoint with records of this topic that its brokers have acknowledged, and whose transaction is open.
async fn hold_a_transaction(client: &Client, hold: &Path) {
    std::fs::write(hold, "").unwrap();
    write(client, "held").await;
    let held = hold.with_added_extension("held");
    wait_until("the failpoint", async || held.exists()).await;
}

/// Changes rows of all partitions.
async fn write(client: &Client, name: &str) {
    let update = format!("UPDATE s.t SET name = '{name}' WHERE id > 200 AND id <= 200 + {ROWS}");
    client.batch_execute(&update).await.unwrap();
}

/// Deletes the topic; with a number of partitions, makes another one of its name.
async fn make_again(pipeline: &Pipeline, topic: &str, partitions: Option<i32>) {
    pipeline.delete_topic(topic).await.unwrap();
    if let Some(partitions) = partitions {
        pipeline.create_topic(topic, partitions).await.unwrap();
    }
}

/// The source stops by itself, with these words.
fn stops(source: &mut Service, words: &[&str]) {
    let code = source.wait(PATIENCE).unwrap().code();
    let log = source.log_tail();
    assert_eq!(code, Some(1), "{log}");
    for words in words {
        assert!(log.contains(words), "{words} is not in:\n{log}");
    }
}

/// How often rows of the other table were read.
async fn read_of_other(pipeline: &Pipeline) -> usize {
    let topics = pipeline.read_topics(&["s.other"]).await.unwrap();
    let records = &topics[&pipeline.topic("s.other")];
    let changes = records.iter().filter_map(|record| record.change.as_ref());
    changes.filter(|change| change.op == 'r').count()
}

#[tokio::test(flavor = "multi_thread")]
async fn topic_deleted_under_an_open_transaction() {
    let stack = Stack::from_env().unwrap();
    let (pipeline, client) = stopped_source(&stack, "gap_open").await;
    let other =
        "CREATE TABLE s.other (id int PRIMARY KEY); INSERT INTO s.other VALUES (1), (2), (3)";
    client.batch_execute(other).await.unwrap();
    let topic = pipeline.topic("s.t");
    let hold = pipeline.dir().join("hold");
    // Within a transaction, and between two; with as many partitions as before, with more, not at all, and with fewer.
    for (round, (within, partitions)) in [
        (true, Some(3)),
        (true, Some(5)),
        (false, Some(5)),
        (false, None),
        (false, Some(2)),
    ]
    .into_iter()
    .enumerate()
    {
        let (mut config, name) = (pipeline.source_config(), format!("open{round}"));
        let mut source = pipeline.service(Kind::Source, &name, &config).unwrap();
        source.start_paused("produced-records", &hold).unwrap();
        source.wait_ready(PATIENCE).unwrap();
        write(&client, "before").await;
        pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
        if within {
            hold_a_transaction(&client, &hold).await;
        }
        make_again(&pipeline, &topic, partitions).await;
        if within {
            std::fs::remove_file(&hold).unwrap();
        } else if partitions.is_some() {
            write(&client, "after").await;
        }
        if partitions == Some(2) {
            let few = format!("topic '{topic}' has 2 partitions, not 3");
            stops(&mut source, &[&few, "set kafka.partitions"]);
            config = config.replace("partitions = 3", "partitions = 2");
            source = pipeline.service(Kind::Source, "two", &config).unwrap();
            source.start().unwrap();
        }
        let again = format!("topic '{topic}' was deleted and created again");
        stops(&mut source, &[&again, "on_gap"]);

        let read = read_of_other(&pipeline).await;
        let config = format!("{RESNAPSHOT}{config}");
        let name = format!("again{round}");
        let mut source = pipeline.service(Kind::Source, &name, &config).unwrap();
        source.start().unwrap();
        converges(&pipeline, &client, &mut source).await;
        assert!(source.stop(PATIENCE).unwrap().success());
        assert_eq!(read_of_other(&pipeline).await, read, "the other table");
    }
}
