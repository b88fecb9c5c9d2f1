//! Transactions of every shape: rolled back, prepared, empty, streamed; their metadata; logical messages.

use std::io::Cursor;

use serde_json::{Value as Json, json};
use tributary_tests::oracle::PlainRecord;
use tributary_tests::stack::Postgres;

use super::*;

mod big;

/// `s.t` is published, `other.t` is not.
const TABLES: &str = "CREATE SCHEMA s; CREATE SCHEMA other;
    CREATE TABLE s.t (id int PRIMARY KEY, name text);
    CREATE TABLE s.u (id int PRIMARY KEY, name text);
    CREATE TABLE other.t (id int PRIMARY KEY, name text)";

/// Sources of one database differ by their letter. With `streaming` the server sends what exceeds 64 kB before
/// its commit; without, it spills that.
fn config(pipeline: &Pipeline, letter: char, streaming: bool) -> String {
    let (plain, own) = (pipeline.prefix(), format!("{}{letter}", pipeline.prefix()));
    let mut config = pipeline.source_config();
    for key in ["name", "topic_prefix"] {
        let line = |name: &str| format!("{key} = \"{name}\"");
        config = config.replace(&line(plain), &line(&own));
    }
    let spool = pipeline.dir().join("spool");
    config.replace(
        "[postgres]\n",
        &format!(
            "[publish]\ntransactions = true\nmessages = true\n[spool]\ndir = {spool:?}\n[postgres]\nstreaming = {streaming}\n"
        ),
    )
}

/// Starts a source and waits until it streams.
fn start(pipeline: &Pipeline, letter: char, streaming: bool) -> Service {
    let name = format!("source-{letter}");
    let config = config(pipeline, letter, streaming);
    let mut source = pipeline.service(Kind::Source, &name, &config).unwrap();
    source.start().unwrap();
    source.wait_ready(PATIENCE).unwrap();
    source
}

fn slot(pipeline: &Pipeline, letter: char) -> String {
    format!("tributary_{}{letter}", pipeline.prefix())
}

/// Waits until a source has confirmed all that is committed now.
async fn caught_up(client: &Client, pipeline: &Pipeline, letter: char) {
    let target: String = client
        .query_one("SELECT pg_current_wal_insert_lsn()::text", &[])
        .await
        .unwrap()
        .get(0);
    let deadline = Instant::now() + 2 * PATIENCE;
    let slot = slot(pipeline, letter);
    let query = "SELECT confirmed_flush_lsn >= $2::text::pg_lsn FROM pg_replication_slots WHERE slot_name = $1::text";
    while !client
        .query_one(query, &[&slot, &target])
        .await
        .unwrap()
        .get::<_, bool>(0)
    {
        assert!(Instant::now() < deadline, "{slot} does not reach {target}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// How many transactions the server has streamed, and spilled, for a slot. The counts come with a delay.
async fn streamed_and_spilled(client: &Client, slot: &str) -> (i64, i64) {
    let query =
        "SELECT stream_txns, spill_txns FROM pg_stat_replication_slots WHERE slot_name = $1::text";
    let deadline = Instant::now() + PATIENCE;
    loop {
        let row = client.query_one(query, &[&slot]).await.unwrap();
        let counts = (row.get(0), row.get(1));
        if counts != (0, 0) {
            return counts;
        }
        assert!(
            Instant::now() < deadline,
            "{slot} was never short of memory"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn events(source: &Service) -> f64 {
    source
        .metric("tributary_source_events_total")
        .unwrap_or_default()
}

async fn plain(stack: &Stack, pipeline: &Pipeline, letter: char, topic: &str) -> Vec<PlainRecord> {
    let topic = format!("{}{letter}.{topic}", pipeline.prefix());
    let mut reader = TopicReader::new(stack.kafka(), stack.registry_url());
    reader.read_plain(&topic).await.unwrap()
}

/// Without what says which source wrote it, and when.
fn comparable(mut records: Vec<PlainRecord>) -> Vec<PlainRecord> {
    for record in &mut records {
        // The schema's id is part of the key's bytes.
        record.partition = 0;
        if let Json::Object(key) = &mut record.key {
            key.remove("source");
        }
        if let Json::Object(fields) = &mut record.value
            && fields.contains_key("op")
        {
            for field in ["ts_ms", "ts_us", "ts_ns"] {
                fields.remove(field);
            }
            if let Some(Json::Object(source)) = fields.get_mut("source") {
                source.remove("name");
                // A message without a transaction has the time at which it was handled.
                if source["txId"].is_null() {
                    for field in ["ts_ms", "ts_us", "ts_ns"] {
                        source.remove(field);
                    }
                }
            }
        }
    }
    records
}

async fn run(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap();
}

/// Rows that take much more than the 64 kB that a decoding process may use.
fn many(table: &str, from: u32, name: &str) -> String {
    format!(
        "INSERT INTO {table} SELECT g, '{name} ' || repeat('x', 100) || g FROM generate_series({from}, {}) g;",
        from + 2999
    )
}

/// All that a transaction can do, in two connections at once.
async fn workload(first: &Client, second: &Client) {
    run(second, "INSERT INTO s.u VALUES (1, 'before')").await;
    run(first, "BEGIN").await;
    run(first, &many("s.t", 1, "kept")).await;
    run(first, "SAVEPOINT a").await;
    run(first, &many("s.t", 10_000, "rolled back")).await;
    run(second, "INSERT INTO s.u VALUES (2, 'meanwhile')").await;
    run(first, "SAVEPOINT b").await;
    run(first, &many("s.t", 20_000, "rolled back with its parent")).await;
    run(
        first,
        "RELEASE b; UPDATE s.t SET name = 'rolled back' WHERE id < 100; ROLLBACK TO a",
    )
    .await;
    run(first, "SAVEPOINT c").await;
    run(first, &many("s.t", 30_000, "released")).await;
    // A second big one, which is committed first.
    run(second, "BEGIN").await;
    run(second, &many("s.u", 10_000, "second")).await;
    run(
        second,
        "TRUNCATE other.t; INSERT INTO other.t VALUES (0, 'nobody sees it')",
    )
    .await;
    run(second, "COMMIT").await;
    run(
        second,
        "SELECT pg_logical_emit_message(false, 'outside', 'alone')",
    )
    .await;
    run(
        first,
        "SELECT pg_logical_emit_message(true, 'audit', 'within')",
    )
    .await;
    run(
        first,
        "RELEASE c; UPDATE s.t SET id = id + 100000 WHERE id BETWEEN 5 AND 7",
    )
    .await;
    reshape(first).await;
    run(first, "BEGIN").await;
    run(first, &many("s.t", 50_000, "never")).await;
    run(
        first,
        "ROLLBACK; INSERT INTO s.t VALUES (40000, 'behind', 3)",
    )
    .await;
    run(first, "BEGIN").await;
    run(first, &many("s.t", 60_000, "prepared")).await;
    run(
        first,
        "PREPARE TRANSACTION 'big'; INSERT INTO s.u VALUES (3, 'before the prepared one')",
    )
    .await;
    run(first, "COMMIT PREPARED 'big'").await;
    run(first, "TRUNCATE s.u; DELETE FROM s.t WHERE id % 1000 = 0").await;
}

/// Changes the table while a transaction runs, and ends that.
async fn reshape(first: &Client) {
    // A new shape in the middle, and again behind a savepoint that is rolled back.
    run(
        first,
        "ALTER TABLE s.t ADD extra int; UPDATE s.t SET extra = 1 WHERE id < 5",
    )
    .await;
    run(
        first,
        "SAVEPOINT d; ALTER TABLE s.t ADD gone int; UPDATE s.t SET gone = 1",
    )
    .await;
    run(first, "ROLLBACK TO d").await;
    run(first, &many("other.t", 1, "nobody sees it")).await;
    run(first, "UPDATE s.t SET extra = 2 WHERE id < 5; COMMIT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streaming_changes_no_record() {
    let (stack, pipeline, client) = pipeline("streamed", TABLES).await;
    let database = pipeline.prefix();
    run(
        &client,
        &format!("ALTER DATABASE {database} SET logical_decoding_work_mem = '64kB'"),
    )
    .await;
    let mut without = start(&pipeline, 'a', false);
    let mut with = start(&pipeline, 'b', true);
    let second = pipeline.source().await.unwrap();
    workload(&client, &second).await;
    for letter in ['a', 'b'] {
        caught_up(&client, &pipeline, letter).await;
    }
    let (streamed, spilled) = streamed_and_spilled(&client, &slot(&pipeline, 'a')).await;
    assert!(
        streamed == 0 && spilled > 0,
        "{streamed} streamed, {spilled} spilled"
    );
    let (streamed, _) = streamed_and_spilled(&client, &slot(&pipeline, 'b')).await;
    // Since version 18 one that is known to be aborted is not sent.
    let server = Postgres::from_env().unwrap().unwrap_or_default();
    let large = if server.major() >= 18 { 3 } else { 4 };
    assert!(streamed >= large, "{streamed} streamed");
    for topic in ["s.t", "s.u", "transaction", "message"] {
        let without = comparable(plain(&stack, &pipeline, 'a', topic).await);
        let with = comparable(plain(&stack, &pipeline, 'b', topic).await);
        assert!(!without.is_empty());
        assert_eq!(without.len(), with.len(), "{topic}");
        for (without, with) in without.iter().zip(&with) {
            assert_eq!(without, with, "{topic}");
        }
    }
    let left = std::fs::read_dir(pipeline.dir().join("spool")).unwrap();
    assert_eq!(left.count(), 0, "spooled transactions stay");
    for source in [&mut with, &mut without] {
        assert_eq!(source.metric("tributary_source_sessions_total"), Some(1.0));
        assert!(source.stop(PATIENCE).unwrap().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_falls_back_to_the_server() {
    let (stack, pipeline, client) = pipeline("full_spool", TABLES).await;
    let database = pipeline.prefix();
    run(
        &client,
        &format!("ALTER DATABASE {database} SET logical_decoding_work_mem = '64kB'"),
    )
    .await;
    let config =
        config(&pipeline, 'a', true).replace("[spool]\n", "[spool]\nmax_bytes = 1048576\n");
    let mut source = pipeline.service(Kind::Source, "source-a", &config).unwrap();
    source.start().unwrap();
    source.wait_ready(PATIENCE).unwrap();
    run(&client, "BEGIN").await;
    for part in 0..4 {
        run(&client, &many("s.t", part * 3000, "row")).await;
    }
    run(&client, "COMMIT").await;
    caught_up(&client, &pipeline, 'a').await;
    assert!(
        source.log().contains("spool.max_bytes (1048576)"),
        "{}",
        source.log_tail()
    );
    let records = plain(&stack, &pipeline, 'a', "s.t").await;
    assert_eq!(records.len(), 12_000);
    assert_eq!(source.metric("tributary_source_sessions_total"), Some(2.0));
}

/// What the transaction topic says: status, number of events, number per table.
fn said(record: &PlainRecord) -> (String, Json, Json) {
    let value = &record.value;
    let status = value["status"].as_str().unwrap().to_owned();
    assert_eq!(record.key["id"], value["id"]);
    (
        status,
        value["event_count"].clone(),
        value["data_collections"].clone(),
    )
}

/// What a logical message says, and its place in its transaction.
fn content_and_order(record: &PlainRecord) -> (Json, Json) {
    assert_eq!(record.key, json!({"prefix": "audit"}));
    let value = &record.value;
    assert_eq!(value["op"], "m");
    (
        value["message"]["content"].clone(),
        value["transaction"]["total_order"].clone(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_and_messages_are_published_on_request() {
    let (stack, pipeline, client) = pipeline("metadata", TABLES).await;
    let mut source = start(&pipeline, 'a', false);
    let sql = "BEGIN;
        INSERT INTO s.t VALUES (1, 'one'), (2, 'two'); SELECT pg_logical_emit_message(true, 'audit', 'who');
        UPDATE s.t SET id = 3 WHERE id = 2; TRUNCATE s.u; INSERT INTO other.t VALUES (1, 'unseen'); COMMIT;
        INSERT INTO other.t VALUES (2, 'unseen');
        SELECT pg_logical_emit_message(true, 'tributary', 'not ours');
        SELECT pg_logical_emit_message(false, 'audit', 'alone')";
    // Statements of one query string would be one transaction.
    for statement in sql.split(';') {
        run(&client, statement).await;
    }
    caught_up(&client, &pipeline, 'a').await;
    let transactions = plain(&stack, &pipeline, 'a', "transaction").await;
    let counts = json!([
        {"data_collection": "LOGICAL_DECODING_MESSAGE", "event_count": 1},
        {"data_collection": "s.t", "event_count": 4},
        {"data_collection": "s.u", "event_count": 1},
    ]);
    assert_eq!(
        transactions.iter().map(said).collect::<Vec<_>>(),
        [
            ("BEGIN".to_owned(), Json::Null, Json::Null),
            ("END".to_owned(), json!(6), counts),
        ]
    );
    let id = &transactions[0].value["id"];
    assert_eq!(id, &transactions[1].value["id"]);
    let rows = plain(&stack, &pipeline, 'a', "s.t").await;
    let orders: Vec<_> = rows
        .iter()
        .filter(|record| !record.value.is_null())
        .map(|record| {
            let block = &record.value["transaction"];
            assert_eq!(&block["id"], id);
            (
                block["total_order"].clone(),
                block["data_collection_order"].clone(),
            )
        })
        .collect();
    assert_eq!(
        orders,
        [(1, 1), (2, 2), (4, 3), (5, 4)].map(|(a, b)| (json!(a), json!(b)))
    );
    let messages = plain(&stack, &pipeline, 'a', "message").await;
    let said: Vec<_> = messages.iter().map(content_and_order).collect();
    let content = |text: &str| json!(text.as_bytes());
    assert_eq!(
        said,
        [(content("who"), json!(3)), (content("alone"), Json::Null)]
    );
    assert!(source.stop(PATIENCE).unwrap().success());
    // Nothing is published again by a source that starts where this one ended.
    source.start().unwrap();
    source.wait_ready(PATIENCE).unwrap();
    run(&client, "INSERT INTO s.t VALUES (9, 'last')").await;
    caught_up(&client, &pipeline, 'a').await;
    assert_eq!(plain(&stack, &pipeline, 'a', "transaction").await.len(), 4);
    assert_eq!(plain(&stack, &pipeline, 'a', "message").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_transactions_come_with_their_commit() {
    let (stack, pipeline, client) = pipeline("prepared", TABLES).await;
    let mut source = start(&pipeline, 'a', false);
    for name in ["kept", "dropped"] {
        let sql = format!(
            "BEGIN; INSERT INTO s.t VALUES ({}, '{name}'); PREPARE TRANSACTION '{name}'",
            name.len()
        );
        run(&client, &sql).await;
    }
    run(&client, "INSERT INTO s.t VALUES (100, 'between')").await;
    caught_up(&client, &pipeline, 'a').await;
    assert_eq!(plain(&stack, &pipeline, 'a', "s.t").await.len(), 1);
    // They outlive the source's session.
    source.kill().unwrap();
    run(&client, "ROLLBACK PREPARED 'dropped'").await;
    run(&client, "COMMIT PREPARED 'kept'").await;
    source.start().unwrap();
    caught_up(&client, &pipeline, 'a').await;
    let records = plain(&stack, &pipeline, 'a', "s.t").await;
    let ids: Vec<_> = records
        .iter()
        .map(|record| record.key["id"].clone())
        .collect();
    assert_eq!(ids, [json!(100), json!(4)]);
}

/// debezium#7531, #4152, #4357: rows of one COPY share an LSN, BEGIN has the first row's, COMMIT's end may be the
/// next BEGIN's; a source that is killed in between repeats and skips nothing.
#[tokio::test(flavor = "multi_thread")]
async fn several_events_at_one_lsn_are_told_apart() {
    use futures::SinkExt as _;
    let (stack, pipeline, client) = pipeline("one_lsn", TABLES).await;
    let mut source = start(&pipeline, 'a', false);
    let mut expected = 0;
    for round in 0..6_u32 {
        let before = events(&source);
        // Empty, filtered, and of one row, before and behind the big one.
        run(&client, "BEGIN; COMMIT").await;
        run(
            &client,
            &format!("INSERT INTO other.t VALUES ({round}, 'unseen')"),
        )
        .await;
        run(
            &client,
            &format!("INSERT INTO s.t VALUES ({}, 'one')", round * 100_000),
        )
        .await;
        let copy = client.copy_in("COPY s.t FROM STDIN").await.unwrap();
        let mut copy = std::pin::pin!(copy);
        let rows: String = (1..=20_000)
            .map(|row| format!("{}\tcopied\n", round * 100_000 + row))
            .collect();
        copy.send(Cursor::new(rows.into_bytes())).await.unwrap();
        copy.finish().await.unwrap();
        run(
            &client,
            &format!(
                "INSERT INTO s.t VALUES ({}, 'one')",
                round * 100_000 + 50_000
            ),
        )
        .await;
        expected += 20_002;
        wait_until("the next event", || events(&source) > before).await;
        source.kill().unwrap();
        source.start().unwrap();
    }
    caught_up(&client, &pipeline, 'a').await;
    let records = plain(&stack, &pipeline, 'a', "s.t").await;
    let mut ids: Vec<_> = records
        .iter()
        .map(|record| record.key["id"].as_i64())
        .collect();
    assert_eq!(ids.len(), expected);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), expected, "a row came twice");
    let ends = plain(&stack, &pipeline, 'a', "transaction").await;
    let events: i64 = ends
        .iter()
        .filter_map(|record| record.value["event_count"].as_i64())
        .sum();
    assert_eq!(events, i64::try_from(expected).unwrap());
    let begins = ends
        .iter()
        .filter(|record| record.value["status"] == "BEGIN")
        .count();
    assert_eq!((begins, ends.len()), (18, 36));
}
