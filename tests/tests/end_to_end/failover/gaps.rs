//! Gaps that a start finds: it stops with a remedy, or reads every row again by option.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;

use tokio_postgres::Client;
use tributary_tests::oracle::TopicRecord;
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::stack::{Lifetime, Options, Part, Postgres, Server, Stack};

use super::{PATIENCE, RESNAPSHOT, TABLE, fold, records, start_source, table, wait_until};

/// A source that has taken its first snapshot, streamed a little, and been stopped.
pub(crate) async fn stopped_source(stack: &Stack, name: &str) -> (Pipeline, Client) {
    let mut pipeline = Pipeline::new(stack, name).await.unwrap();
    pipeline.tables = vec!["s.*".to_owned()];
    let client = pipeline.source().await.unwrap();
    client.batch_execute(TABLE).await.unwrap();
    stream_and_stop(&pipeline, &client, 1).await;
    (pipeline, client)
}

async fn stream_and_stop(pipeline: &Pipeline, client: &Client, round: i32) {
    let mut source = start_source(pipeline, "source", "");
    source.wait_ready(PATIENCE).unwrap();
    change(client, round).await;
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    assert!(source.stop(PATIENCE).unwrap().success());
}

/// Changes that a gap swallows, a delete among them.
pub(crate) async fn change(client: &Client, round: i32) {
    let sql = format!(
        "INSERT INTO s.t VALUES ({0}, 'round {round}'); UPDATE s.t SET name = 'round {round}' WHERE id = {round};
         DELETE FROM s.t WHERE id = {1}",
        1_000 + round,
        100 + round
    );
    client.batch_execute(&sql).await.unwrap();
}

/// It is started, and stops with these words.
pub(crate) fn stops_with(pipeline: &Pipeline, words: &[&str]) {
    let mut source = start_source(pipeline, "source", "");
    let code = source.wait(PATIENCE).unwrap().code();
    let log = source.log_tail();
    assert_eq!(code, Some(1), "{log}");
    for words in words {
        assert!(log.contains(words), "{words} is not in:\n{log}");
    }
}

/// It stops with these words; told to read everything again, it does, and the topic becomes the table.
pub(crate) async fn stops_and_converges(
    pipeline: &Pipeline,
    client: &Client,
    words: &str,
    round: i32,
) -> Vec<TopicRecord> {
    let before = records(pipeline)
        .await
        .iter()
        .map(|record| record.seq)
        .max()
        .unwrap_or(0);
    stops_with(pipeline, &[words, "on_gap"]);
    let mut source = start_source(pipeline, "resnapshot", RESNAPSHOT);
    assert!(
        converges(pipeline, client, &mut source)
            .await
            .iter()
            .any(|record| record.seq > before)
    );
    assert!(source.stop(PATIENCE).unwrap().success());
    // It goes on like any other: nothing is read again.
    change(client, round).await;
    let mut source = start_source(pipeline, "source", "");
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    let records = records(pipeline).await;
    assert_eq!(fold(&records), table(client).await);
    assert!(source.stop(PATIENCE).unwrap().success());
    records
}

/// Rows are read again, those that are not there any more are swept, and the topic is the table.
pub(crate) async fn converges(
    pipeline: &Pipeline,
    client: &Client,
    source: &mut Service,
) -> Vec<TopicRecord> {
    source.wait_ready(PATIENCE).unwrap();
    wait_until("the end of the snapshot", async || {
        source.metric("tributary_source_snapshot_tables") == Some(0.0)
    })
    .await;
    pipeline.wait_source(source, PATIENCE).await.unwrap();
    let records = records(pipeline).await;
    assert_eq!(fold(&records), table(client).await, "{}", source.log_tail());
    assert!(
        records.iter().any(|record| record.below.is_some()),
        "nothing was swept"
    );
    records
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_gone_moved_or_made_anew() {
    let stack = Stack::from_env().unwrap();
    let (pipeline, client) = stopped_source(&stack, "gap_slot").await;
    let slot = format!("tributary_{}", pipeline.prefix());
    change(&client, 2).await;
    let drop = format!("SELECT pg_drop_replication_slot('{slot}')");
    client.batch_execute(&drop).await.unwrap();
    stops_and_converges(&pipeline, &client, "is gone: the changes behind", 12).await;

    change(&client, 3).await;
    let advance =
        format!("SELECT pg_replication_slot_advance('{slot}', pg_current_wal_insert_lsn())");
    client.batch_execute(&advance).await.unwrap();
    stops_and_converges(
        &pipeline,
        &client,
        "the changes between are not in the topics",
        13,
    )
    .await;

    change(&client, 4).await;
    client.batch_execute(&drop).await.unwrap();
    let create = format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')");
    client.batch_execute(&create).await.unwrap();
    let records = stops_and_converges(
        &pipeline,
        &client,
        "the changes between are not in the topics",
        14,
    )
    .await;
    // Three times every row, at a higher seq each time.
    let sweeps: BTreeSet<u64> = records.iter().filter_map(|record| record.below).collect();
    assert_eq!(sweeps.len(), 3, "{sweeps:?}");
    client.batch_execute(&drop).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_was_deleted_and_created_again() {
    let stack = Stack::from_env().unwrap();
    let (pipeline, client) = stopped_source(&stack, "gap_topic").await;
    let topic = pipeline.topic("s.t");
    pipeline.delete_topic(&topic).await.unwrap();
    change(&client, 2).await;
    let told = format!("topic '{topic}' was deleted and created again");
    stops_with(&pipeline, &[&told]);
    let mut source = start_source(&pipeline, "resnapshot", RESNAPSHOT);
    converges(&pipeline, &client, &mut source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_that_is_lost_is_adopted() {
    let stack = Stack::from_env().unwrap();
    let (pipeline, client) = stopped_source(&stack, "gap_progress").await;
    let highest = records(&pipeline)
        .await
        .iter()
        .map(|record| record.seq)
        .max()
        .unwrap();
    pipeline
        .delete_topic(&format!("{}.progress", pipeline.prefix()))
        .await
        .unwrap();
    change(&client, 2).await;
    stops_with(&pipeline, &["has no progress of source", "run --adopt"]);
    // The topic has three.
    let config = pipeline.source_config();
    let config = config.replace("partitions = 3", "partitions = 2");
    let mut source = pipeline.service(Kind::Source, "adopt", &config).unwrap();
    source.start_with(&["--adopt"]).unwrap();
    let records = converges(&pipeline, &client, &mut source).await;
    let sweeps = records.iter().filter(|record| record.below.is_some());
    assert_eq!(sweeps.count(), 3, "one in each partition");
    let below = records.iter().find_map(|record| record.below).unwrap();
    assert!(below > highest, "{below} is not above {highest}");
}

/// Killed at each step between the decision and the first record behind the new slot: the decision is not asked for
/// again.
#[tokio::test(flavor = "multi_thread")]
async fn a_gap_that_was_decided_on_is_not_decided_again() {
    let stack = Stack::from_env().unwrap();
    let (pipeline, client) = stopped_source(&stack, "gap_killed").await;
    let slot = format!("tributary_{}", pipeline.prefix());
    let drop = format!("SELECT pg_drop_replication_slot('{slot}')");
    let drops = "[slot]\nmax_retained_bytes = 4000000000\non_limit = \"drop-and-resnapshot\"\n";
    let config = pipeline.source_config();
    let cases: [(&str, &[&str]); 2] = [(drops, &[]), ("", &["--adopt"])];
    for (round, (options, mut arguments)) in (2..).zip(cases) {
        change(&client, round).await;
        client.batch_execute(&drop).await.unwrap();
        let name = format!("killed{round}");
        let mut source = pipeline
            .service(Kind::Source, &name, &format!("{config}{options}"))
            .unwrap();
        for failpoint in ["creating-slot", "creating-slot", "created-slot"] {
            source.start_armed_with(arguments, failpoint).unwrap();
            let status = source.wait(PATIENCE).unwrap();
            assert_eq!(
                status.signal(),
                Some(9),
                "{failpoint}: {}",
                source.log_tail()
            );
            arguments = &[];
        }
        change(&client, round + 10).await;
        source.start().unwrap();
        converges(&pipeline, &client, &mut source).await;
        assert!(source.stop(PATIENCE).unwrap().success());
        let sweeps: BTreeSet<u64> = records(&pipeline)
            .await
            .iter()
            .filter_map(|one| one.below)
            .collect();
        assert_eq!(
            sweeps.len(),
            usize::try_from(round - 1).unwrap(),
            "{sweeps:?}"
        );
    }
    client.batch_execute(&drop).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_another_server_and_a_lost_slot() {
    let stack = Stack::from_env().unwrap();
    let postgres = Postgres::from_env().unwrap().unwrap_or_default();
    let mut pipeline = Pipeline::new(&stack, "gap_server").await.unwrap();
    pipeline.tables = vec!["s.*".to_owned()];
    let mut server = Server::start_new(pipeline.dir(), "first", postgres, &[]).unwrap();
    pipeline.source_url = server.url("postgres");
    let client = pipeline.source().await.unwrap();
    client.batch_execute(TABLE).await.unwrap();
    stream_and_stop(&pipeline, &client, 1).await;
    drop(client);
    server.back_up().unwrap();
    let client = pipeline.source().await.unwrap();
    // Further than what a server writes as it starts.
    let far = "SELECT pg_logical_emit_message(true, 'far', repeat('x', 2000000))";
    client.batch_execute(far).await.unwrap();
    stream_and_stop(&pipeline, &client, 2).await;
    drop(client);
    server.restore().unwrap();
    let client = pipeline.source().await.unwrap();
    let words = "an older copy of its data was put back";
    stops_and_converges(&pipeline, &client, words, 3).await;

    let keep = [("max_slot_wal_keep_size", "1MB")];
    let other = Server::start_new(pipeline.dir(), "other", postgres, &keep).unwrap();
    pipeline.source_url = other.url("postgres");
    let client = pipeline.source().await.unwrap();
    client.batch_execute(TABLE).await.unwrap();
    stops_and_converges(&pipeline, &client, "this is another server", 4).await;

    change(&client, 5).await;
    for _ in 0..3 {
        let segment = "SELECT pg_logical_emit_message(true, 'far', 'x'), pg_switch_wal()";
        client.batch_execute(segment).await.unwrap();
    }
    client.batch_execute("CHECKPOINT").await.unwrap();
    let words = "the server has removed what was not read yet";
    stops_and_converges(&pipeline, &client, words, 6).await;
}

/// The id of the key's schema is in every key: with another one, a row would have two keys.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute and a stack of its own: make test-long"]
async fn a_registry_that_lost_its_store() {
    let dir = tempfile::Builder::new()
        .prefix("registry-")
        .tempdir_in(tributary_tests::target_dir())
        .unwrap();
    let options = Options {
        parts: vec![Part::Postgres, Part::Kafka, Part::Registry],
        lifetime: Lifetime::Owned,
        ..Options::default()
    };
    let stack = Stack::up(dir.path(), &options).unwrap();
    let (pipeline, client) = stopped_source(&stack, "gap_registry").await;
    stack.stop(Part::Registry).unwrap();
    std::fs::remove_dir_all(dir.path().join("registry")).unwrap();
    stack.start(Part::Registry).unwrap();
    // Somebody else's schema has taken the first id meanwhile.
    let url = format!("{}/subjects/other/versions", stack.registry_url());
    let schema = serde_json::json!({"schema": r#"{"type": "fixed", "name": "F", "size": 9}"#});
    let posted = tributary_tests::http::client()
        .post(url)
        .json(&schema)
        .send()
        .await
        .unwrap();
    assert!(posted.status().is_success());
    change(&client, 2).await;
    stops_with(
        &pipeline,
        &[
            "records of one row would get different keys",
            "a registry that has lost its store is to be restored",
        ],
    );
}
