//! Logical messages of others, while rows are read between watermarks, which are logical messages too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::stage::{OFTEN, READ, Stage};

const TABLES: &str = "CREATE TABLE s.t (id int PRIMARY KEY, v text); CREATE TABLE s.bag (v text);
    INSERT INTO s.t SELECT g, repeat('old ', 40) || g FROM generate_series(1, 4000) g; INSERT INTO s.bag SELECT v FROM s.t WHERE id <= 200";
/// How often messages and changes are repeated at the most.
const ROUNDS: u32 = 500;
/// The prefix of our watermarks.
const OURS: &str = "tributary";

/// Runs until it is told to stop, or so often: the stream must get to the end of it. Returns how often.
fn repeat(
    client: Client,
    stop: &Arc<AtomicBool>,
    sql: impl Fn(u32) -> String + Send + 'static,
) -> JoinHandle<u32> {
    let stop = Arc::clone(stop);
    tokio::spawn(async move {
        let mut round = 0;
        while round < ROUNDS && !stop.load(Ordering::Relaxed) {
            round += 1;
            client.batch_execute(&sql(round)).await.unwrap();
        }
        round
    })
}

/// Messages with foreign prefixes, and with ours but other content, some as ours looks: inside transactions and outside.
fn foreign(source: &str, round: u32) -> String {
    let content = format!("'{source} {round} ' || g");
    format!(
        "SELECT pg_logical_emit_message(false, 'audit', 'x' || g), pg_logical_emit_message(true, 'audit', repeat('x', 1000)),
            pg_logical_emit_message(false, '{OURS}', {content}), pg_logical_emit_message(true, '{OURS}', {content}),
            pg_logical_emit_message(g % 2 = 0, '{OURS}', ''), pg_logical_emit_message(g % 2 = 0, '{OURS}', '{source}'),
            pg_logical_emit_message(g % 2 = 0, '{OURS}', '\\xff00fe'::bytea), pg_logical_emit_message(true, '{OURS}_', {content})
         FROM generate_series(1, 20) g"
    )
}

/// Changes of the rows that are read, in transactions with such messages in them.
fn changes(round: u32) -> String {
    let id = round % 4000 + 1;
    format!(
        "BEGIN; UPDATE s.t SET v = 'new {round}' WHERE id = {id}; SELECT pg_logical_emit_message(true, '{OURS}', 'between');
         DELETE FROM s.t WHERE id = {id} + 1; SELECT pg_logical_emit_message(false, '{OURS}', 'between');
         INSERT INTO s.t VALUES ({round} + 10000, 'came'); UPDATE s.t SET id = id + 100000 WHERE id = {id} + 2;
         INSERT INTO s.bag VALUES ('{round}'); COMMIT"
    )
}

/// What our own watermarks say is said once more, by somebody who reads the WAL.
async fn echo(client: Client, stop: Arc<AtomicBool>) -> usize {
    let create = "SELECT pg_create_logical_replication_slot('echo', 'test_decoding', true)";
    client.batch_execute(create).await.unwrap();
    let changes = "SELECT data FROM pg_logical_slot_get_changes('echo', NULL, 1000) WHERE data LIKE 'message: %prefix: tributary, %'";
    let mut heard = std::collections::BTreeSet::new();
    while !stop.load(Ordering::Relaxed) {
        for row in client.query(changes, &[]).await.unwrap() {
            let data: String = row.get(0);
            let content = data.split_once("content:").unwrap().1.to_owned();
            // Of each once: an echo is heard as well.
            if heard.insert(content.clone()) {
                let emit = "SELECT pg_logical_emit_message(true, 'tributary', $1::text)";
                client.query(emit, &[&content]).await.unwrap();
            }
        }
    }
    client
        .batch_execute("SELECT pg_drop_replication_slot('echo')")
        .await
        .unwrap();
    heard.len()
}

async fn read_among_messages(name: &str, section: &str, echoed: bool) {
    let mut stage = Stage::set(name, TABLES, OFTEN).await;
    let with =
        format!("[snapshot]\nchunk_pages = 2\nmax_rows_per_second = 2000\n{section}[kafka]\n");
    stage.configure("[kafka]\n", &with);
    stage.source.start().unwrap();
    stage.source.wait_ready(super::stage::PATIENCE).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let source = stage.pipeline.prefix().to_owned();
    let mut running = vec![repeat(
        stage.pipeline.source().await.unwrap(),
        &stop,
        changes,
    )];
    let mut echoing = None;
    if echoed {
        let client = stage.pipeline.source().await.unwrap();
        echoing = Some(tokio::spawn(echo(client, Arc::clone(&stop))));
    } else {
        let client = stage.pipeline.source().await.unwrap();
        running.push(repeat(client, &stop, move |round| foreign(&source, round)));
    }
    stage.read_again("s.t");
    stage.read_again("s.bag");
    stage.logs(READ, 2).await;
    stop.store(true, Ordering::Relaxed);
    for task in running {
        assert!(
            task.await.unwrap() > 10,
            "hardly anything happened meanwhile"
        );
    }
    if let Some(echoing) = echoing {
        assert!(
            echoing.await.unwrap() > 10,
            "hardly anything was said again"
        );
    }
    stage.catch_up().await;
    stage.same("s.t", "s.t").await;
    stage.same("s.bag", "s.bag").await;
    let sessions = stage.source.metric("tributary_source_sessions_total");
    assert_eq!(sessions, Some(1.0), "{}", stage.source.log_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_others_disturb_no_watermark() {
    read_among_messages("messages", "", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_others_that_are_published_disturb_no_watermark() {
    read_among_messages("messages_published", "[publish]\nmessages = true\n", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watermarks_that_are_said_again_are_nobody_s() {
    read_among_messages("messages_echoed", "", true).await;
}

/// The server says of a message outside of any transaction where its record ends: where the record of the commit begins, here.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_right_before_a_commit_takes_no_transaction_away() {
    let create = "CREATE TABLE s.t (id int PRIMARY KEY)";
    let mut stage = Stage::set("message_before_commit", create, OFTEN).await;
    stage.configure("[kafka]\n", "[publish]\nmessages = true\n[kafka]\n");
    stage.source.start().unwrap();
    stage.source.wait_ready(super::stage::PATIENCE).unwrap();
    for id in 0..20 {
        let write = format!(
            "BEGIN; INSERT INTO s.t VALUES ({id}); SELECT pg_logical_emit_message(false, 'audit', 'x'); COMMIT"
        );
        stage.run(&write).await;
    }
    stage.catch_up().await;
    stage.same("s.t", "s.t").await;
    assert_eq!(stage.records("message").await.len(), 20);
}
