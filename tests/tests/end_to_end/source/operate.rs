//! What an operator does with a source: status, plan, drop; snapshots on request, paused, resumed, cancelled.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;
use tributary_tests::oracle::TopicRecord;
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::stack::Stack;

use super::{PATIENCE, events, fold, pipeline, records, source, table, wait_until};

const TABLE: &str = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, name text);
    INSERT INTO s.t SELECT g, 'row ' || g FROM generate_series(1, 2000) g";

/// Exit code, and what a command says with `--output json`.
fn told(service: &Service, arguments: &[&str]) -> (i32, Value) {
    let arguments = [arguments, &["--output", "json"]].concat();
    let (code, out, err) = service.command(&arguments).unwrap();
    let json = serde_json::from_str(&out);
    (code, json.unwrap_or_else(|_| panic!("{out}{err}")))
}

fn status(source: &Service) -> Value {
    told(source, &["status"]).1["details"].clone()
}

fn ask(source: &Service, arguments: &[&str]) {
    let (code, json) = told(source, &[&["snapshot"], arguments].concat());
    assert_eq!(code, 0, "{json}");
}

fn with(pipeline: &Pipeline, more: &str) -> Service {
    let config = format!("{}{more}", pipeline.source_config());
    let mut source = pipeline.service(Kind::Source, "source", &config).unwrap();
    source.start().unwrap();
    source
}

/// How often the row of each id was read by a snapshot.
fn reads(records: &[TopicRecord]) -> BTreeMap<String, usize> {
    let mut reads = BTreeMap::new();
    for record in records {
        if record
            .change
            .as_ref()
            .is_some_and(|change| change.op == 'r')
        {
            *reads.entry(record.key["id"].clone()).or_default() += 1;
        }
    }
    reads
}

async fn wait_read(source: &Service) {
    wait_until("the end of all snapshots", || {
        let details = status(source);
        details["snapshot"].is_null() && !details["position"].is_null()
    })
    .await;
}

/// Waits until so many signals are done with: the offset behind them is in the log.
async fn wait_signals(source: &Service, count: u64) {
    wait_until("the signal's effect", || {
        status(source)["signals_offset"] == count
    })
    .await;
}

fn plan_says_what_is_missing(pipeline: &Pipeline, source: &Service) {
    let (code, plan) = told(source, &["plan"]);
    assert_eq!(
        (code, &plan["slot"]["exists"]),
        (0, &false.into()),
        "{plan}"
    );
    assert_eq!(plan["publications"][0]["exists"], false);
    let topics: Vec<_> = plan["topics"].as_array().unwrap().iter().collect();
    let topic = topics
        .iter()
        .find(|topic| topic["name"] == pipeline.topic("s.t"));
    assert_eq!(topic.unwrap()["exists"], false, "{plan}");
    assert_eq!(topic.unwrap()["partitions"], 3);
    assert!(
        topics
            .iter()
            .any(|topic| topic["name"] == pipeline.topic("signals"))
    );
    let subject = format!("{}-value", pipeline.topic("s.t"));
    assert!(
        plan["subjects"]
            .as_array()
            .unwrap()
            .contains(&subject.into())
    );
}

fn status_tells(source: &Service, slot: &str) {
    let (code, all) = told(source, &["status"]);
    assert_eq!(
        (code, &all["ready"], &all["phase"]),
        (0, &true.into(), &"streaming".into())
    );
    let details = &all["details"];
    assert_eq!(
        (&details["slot"]["active"], &details["slot"]["wal_status"]),
        (&true.into(), &"reserved".into())
    );
    assert!(details["position"]["seq"].as_u64().unwrap() > 0 && details["snapshot"].is_null());
    let row = &details["tables"][0];
    assert_eq!(
        (&row["table"], &row["rows_snapshotted"], &row["changes"]),
        (&"s.t".into(), &2000.into(), &1.into()),
        "{details}"
    );
    let (_, text, _) = source.command(&["status"]).unwrap();
    assert!(
        text.contains(&format!("slot      {slot}: active")),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_changes_nothing_status_tells_and_drop_lets_the_wal_go() {
    let (_stack, pipeline, client) = pipeline("operate", TABLE).await;
    let slot = format!("tributary_{}", pipeline.prefix());
    let count =
        async |query: &str| -> i64 { client.query_one(query, &[&slot]).await.unwrap().get(0) };
    let slots = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1::text";
    let publications = "SELECT count(*) FROM pg_publication WHERE pubname = $1::text";
    let mut source = pipeline
        .service(Kind::Source, "source", &pipeline.source_config())
        .unwrap();

    for _ in 0..2 {
        plan_says_what_is_missing(&pipeline, &source);
    }
    assert_eq!((count(slots).await, count(publications).await), (0, 0));
    let (code, _, err) = source.command(&["status"]).unwrap();
    assert!(code == 1 && err.contains("start the service"), "{err}");

    source.start().unwrap();
    source.wait_ready(PATIENCE).unwrap();
    client
        .batch_execute("INSERT INTO s.t VALUES (0, 'new')")
        .await
        .unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    wait_until("the slot's figures", || !status(&source)["slot"].is_null()).await;
    status_tells(&source, &slot);
    let (code, refused) = told(&source, &["drop", "--yes"]);
    assert_eq!(code, 1, "a slot in use: {refused}");
    assert_eq!((count(slots).await, count(publications).await), (1, 1));
    source.stop(PATIENCE).unwrap();
    let (code, would) = told(&source, &["drop"]);
    assert_eq!(
        (code, &would["slot"]),
        (5, &slot.as_str().into()),
        "{would}"
    );
    assert_eq!((count(slots).await, count(publications).await), (1, 1));
    let (code, dropped) = told(&source, &["drop", "--yes"]);
    assert_eq!(
        (code, &dropped["publications"][0]),
        (0, &slot.as_str().into())
    );
    assert_eq!((count(slots).await, count(publications).await), (0, 0));
    assert_eq!(
        told(&source, &["drop", "--yes"]).0,
        0,
        "there is nothing any more"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_taken_on_request_once_each() {
    // A column that is published in another form than the catalog's.
    let table_sql = format!("{TABLE}; ALTER TABLE s.t ADD amount numeric(9, 2) DEFAULT 1.5");
    let (stack, pipeline, client) = pipeline("on_request", &table_sql).await;
    let as_text = "[[columns]]\nmatch = \"s.t.amount\"\nas = \"text\"\n";
    let mut source = with(&pipeline, as_text);
    source.wait_ready(PATIENCE).unwrap();
    ask(&source, &["--table", "s.t", "--where", "id <= 10"]);
    wait_signals(&source, 1).await;
    wait_read(&source).await;
    // A record of an earlier life, which no delete will take back.
    client
        .batch_execute("SET session_replication_role = replica; DELETE FROM s.t WHERE id = 7")
        .await
        .unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    ask(&source, &["--table", "s.*", "--sweep"]);
    wait_signals(&source, 2).await;
    wait_read(&source).await;
    // Each was applied in the transaction that moved the offset: nothing is applied again.
    for _ in 0..2 {
        source.kill().unwrap();
        source.start().unwrap();
        source.wait_ready(PATIENCE).unwrap();
        client
            .batch_execute("UPDATE s.t SET name = name || '!' WHERE id % 100 = 0")
            .await
            .unwrap();
        pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    }
    assert_eq!(source.metric("tributary_source_signals_total"), None);
    let records = records(&stack, &pipeline, "s.t").await;
    let reads = reads(&records);
    assert_eq!(
        (reads["1"], reads["10"], reads["11"], reads["7"]),
        (3, 3, 2, 2)
    );
    let others = reads.values().filter(|reads| **reads != 2).count();
    assert_eq!(others, 9);
    let sweeps = records.iter().filter(|record| record.below.is_some());
    assert_eq!(sweeps.count(), 3, "one in each partition");
    assert!(fold(&records) == table(&client).await);
}

fn send(stack: &Stack, pipeline: &Pipeline, value: Option<&str>) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", stack.kafka())
        .create()
        .unwrap();
    let topic = pipeline.topic("signals");
    let mut record = BaseRecord::<str, str>::to(&topic).key("anything");
    if let Some(value) = value {
        record = record.payload(value);
    }
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(PATIENCE).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_signal_is_passed_over_and_debeziums_are_understood() {
    let (stack, pipeline, client) = pipeline("bad_signal", TABLE).await;
    let mut source = source(&pipeline);
    source.wait_ready(PATIENCE).unwrap();
    for bad in [
        None,
        Some("hunter2"),
        Some("{\"type\":\"snapshot\",\"tables\":[\"s.x\"]}"),
    ] {
        send(&stack, &pipeline, bad);
    }
    // Conditions that are none, that fail on a row, and that would be more than a condition.
    let outside = pipeline.dir().join("written-by-a-condition");
    let program = format!("true)) TO PROGRAM 'touch {}' --", outside.display());
    let bad = [
        "id >",
        "1 / (id - 5) > 0",
        "name::int > 0",
        "no_such_column = 1",
        program.as_str(),
    ];
    for (index, condition) in bad.iter().enumerate() {
        ask(&source, &["--table", "s.t", "--where", condition]);
        wait_until("the refusal", || {
            source.log().matches("snapshot ends before").count() == index + 1
        })
        .await;
    }
    assert!(!outside.exists());
    let execute = "{\"id\":\"1\",\"type\":\"execute-snapshot\",\"data\":{\"type\":\"incremental\",
        \"data-collections\":[\"s.t\"],\"additional-conditions\":[{\"data-collection\":\"s.t\",\"filter\":\"id = 3 -- three\"}]}}";
    send(&stack, &pipeline, Some(execute));
    wait_signals(&source, 9).await;
    wait_read(&source).await;
    client
        .batch_execute("INSERT INTO s.t VALUES (0, 'after all')")
        .await
        .unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    let log = source.log();
    assert_eq!(log.matches("a signal is passed over").count(), 3, "{log}");
    assert!(
        !log.contains("hunter2") && !log.contains("row 1\""),
        "{log}"
    );
    assert_eq!(source.metric("tributary_source_sessions_total"), Some(1.0));
    let records = records(&stack, &pipeline, "s.t").await;
    assert!(reads(&records)["3"] >= 2);
    assert!(fold(&records) == table(&client).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_throttled_paused_over_a_kill_resumed_and_cancelled() {
    let (stack, pipeline, client) = pipeline("paused", TABLE).await;
    let mut source = with(&pipeline, "[snapshot]\nmax_rows_per_second = 500\n");
    wait_until("the first rows", || {
        events(&source) > 0.0 || source.log().contains("reading the first")
    })
    .await;
    ask(&source, &["pause"]);
    source.wait_ready(PATIENCE).unwrap();
    wait_signals(&source, 1).await;
    let paused = status(&source);
    assert_eq!(paused["snapshot"]["paused"], true, "{paused}");
    source.kill().unwrap();
    source.start().unwrap();
    source.wait_ready(PATIENCE).unwrap();
    client
        .batch_execute("INSERT INTO s.t VALUES (0, 'meanwhile')")
        .await
        .unwrap();
    wait_until("the stream, which goes on", || {
        status(&source)["tables"][0]["changes"] == 1
    })
    .await;
    assert_eq!(status(&source)["snapshot"]["paused"], true);
    // What the topic needs cannot be cancelled.
    ask(&source, &["cancel"]);
    wait_signals(&source, 2).await;
    assert!(source.log().contains("its topic lacks rows"));
    let left = 2_000 - status(&source)["snapshot"]["rows"].as_u64().unwrap();
    let resumed = Instant::now();
    ask(&source, &["resume"]);
    wait_signals(&source, 3).await;
    wait_read(&source).await;
    // The first of them may be handed over at once.
    let left = left.saturating_sub(500);
    assert!(
        resumed.elapsed() >= Duration::from_millis(left * 2),
        "{left} rows at 500 a second"
    );
    let first = records(&stack, &pipeline, "s.t").await;
    assert!(fold(&first) == table(&client).await);

    ask(&source, &["--table", "s.t"]);
    wait_until("some rows", || {
        status(&source)["snapshot"]["rows"]
            .as_u64()
            .is_some_and(|rows| rows > 0)
    })
    .await;
    ask(&source, &["cancel", "--table", "s.t"]);
    wait_signals(&source, 5).await;
    wait_read(&source).await;
    let records = records(&stack, &pipeline, "s.t").await;
    let read = records.len() - first.len();
    assert!((1..2000).contains(&read), "{read} rows");
    assert!(fold(&records) == table(&client).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_change_in_the_middle_of_a_snapshot() {
    let (stack, pipeline, client) = pipeline("reshaped", TABLE).await;
    let chunks = "[snapshot]\nmax_rows_per_second = 300\nchunk_pages = 1\n";
    // The watch would have the table read from its beginning again.
    let config = format!("{}{chunks}", pipeline.source_config());
    let config = config.replace("[kafka]", "watch_interval_ms = 3600000\n[kafka]");
    let mut source = pipeline.service(Kind::Source, "source", &config).unwrap();
    source.start().unwrap();
    source.wait_ready(PATIENCE).unwrap();
    ask(&source, &["--table", "s.t"]);
    let read = |source: &Service| status(source)["snapshot"]["rows"].as_u64().unwrap_or(0);
    let mut behind = 0;
    for change in [
        "ALTER TABLE s.t ADD extra text DEFAULT 'added'",
        "ALTER TABLE s.t RENAME extra TO other; UPDATE s.t SET other = 'set' WHERE id = 2000",
        "ALTER TABLE s.t DROP other, ADD last int DEFAULT 7",
    ] {
        wait_until("some rows more", || read(&source) > behind).await;
        client.batch_execute(change).await.unwrap();
        // A piece that was read before may still be on its way.
        behind = read(&source) + 300;
    }
    wait_signals(&source, 1).await;
    wait_read(&source).await;
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    let records = records(&stack, &pipeline, "s.t").await;
    assert!(fold(&records) == table(&client).await);
    // Every row came twice; the second time with the columns that the table had just then.
    let mut shapes: BTreeMap<Vec<(&str, Option<&str>)>, usize> = BTreeMap::new();
    for record in &records {
        let change = record.change.as_ref().unwrap();
        if change.op == 'r' {
            let others = change
                .after
                .iter()
                .filter(|(name, _)| !["id", "name"].contains(&name.as_str()));
            let shape = others.map(|(name, value)| (name.as_str(), value.as_deref()));
            *shapes.entry(shape.collect()).or_default() += 1;
        }
    }
    let shape = |name, value| {
        shapes
            .get(&vec![(name, Some(value))])
            .copied()
            .unwrap_or_default()
    };
    let (plain, added) = (shapes[&Vec::new()], shape("extra", "added"));
    let (renamed, last) = (shape("other", "added"), shape("last", "7"));
    assert!(
        plain > 2_000 && added > 0 && renamed > 0 && last > 0,
        "{shapes:?}"
    );
    // The row that was updated meanwhile may be the stream's alone.
    assert!(
        (3_999..=4_000).contains(&(plain + added + renamed + last)),
        "{shapes:?}"
    );
}

/// What is read is remembered by place: a condition with an index must not change the order.
#[tokio::test(flavor = "multi_thread")]
async fn a_condition_with_an_index_leaves_no_row_out() {
    let (stack, pipeline, client) = pipeline("condition", TABLE).await;
    let mut source = with(&pipeline, "[snapshot]\nmax_rows_per_second = 400\n");
    source.wait_ready(PATIENCE).unwrap();
    wait_read(&source).await;
    // The row that ends a piece, in the order of the index, is at the end of the table.
    let moved = "UPDATE s.t SET name = 'moved' WHERE id IN (400, 401); ANALYZE s.t";
    client.batch_execute(moved).await.unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    ask(
        &source,
        &["--table", "s.t", "--where", "id BETWEEN 1 AND 900"],
    );
    wait_signals(&source, 1).await;
    wait_read(&source).await;
    let reads = reads(&records(&stack, &pipeline, "s.t").await);
    let twice = (1..=2000).filter(|id: &u32| reads[&id.to_string()] == 2);
    assert_eq!(twice.collect::<Vec<_>>(), (1..=900).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_takes_the_snapshot_and_leaves_no_slot() {
    let (stack, pipeline, client) = pipeline("only", TABLE).await;
    let mut source = with(&pipeline, "[snapshot]\nmode = \"only\"\n");
    for _ in 0..2 {
        assert_eq!(
            source.wait(PATIENCE).unwrap().code(),
            Some(0),
            "{}",
            source.log_tail()
        );
        let slots = "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()";
        let slots: i64 = client.query_one(slots, &[]).await.unwrap().get(0);
        assert_eq!(slots, 0);
        let records = records(&stack, &pipeline, "s.t").await;
        assert_eq!(records.len(), 2000);
        assert!(fold(&records) == table(&client).await);
        // It is done already.
        source.start().unwrap();
    }
    source.wait(PATIENCE).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn never_reads_no_row_until_somebody_asks() {
    let (stack, pipeline, client) = pipeline("never", TABLE).await;
    let mut source = with(&pipeline, "[snapshot]\nmode = \"never\"\n");
    source.wait_ready(PATIENCE).unwrap();
    client
        .batch_execute("UPDATE s.t SET name = 'x' WHERE id = 1")
        .await
        .unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    let streamed = records(&stack, &pipeline, "s.t").await;
    assert_eq!((streamed.len(), reads(&streamed).len()), (1, 0));
    ask(&source, &["--table", "s.t"]);
    wait_signals(&source, 1).await;
    wait_read(&source).await;
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    assert!(fold(&records(&stack, &pipeline, "s.t").await) == table(&client).await);
}
