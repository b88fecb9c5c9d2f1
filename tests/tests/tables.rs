//! Few tables and thousands: how long a start takes, what it says meanwhile, what they cost then.
//!
//! A binary of its own: what is measured beside other tests says nothing.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may panic, and says what it did"
)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio_postgres::Client;
use tributary_tests::http;
use tributary_tests::oracle::TopicReader;
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::stack::{Link, Stack};

#[path = "tables/running.rs"]
mod running;

const PATIENCE: Duration = Duration::from_secs(120);
/// From exec to streaming, without the time in which rows are read.
const FIRST_START: Duration = Duration::from_secs(30);
const RESTART: Duration = Duration::from_secs(10);
/// From exec to the slot, with the demo's number of tables.
const SLOT: Duration = Duration::from_secs(1);
/// What the source may hold, whatever the number of tables.
const RESIDENT_BYTES: u64 = 64 << 20;
/// The tables of a world that CI has time for, and of one of `make test-long`.
const SOME: u32 = 300;
const MANY: u32 = 3_000;

/// What is measured while hundreds of tables are created and registered for another test says nothing.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// What a first start with many tables says that it does.
const READING: &str = "reading the tables for the first time";
const STEPS: [&str; 3] = [
    "comparing and creating topics",
    "registering the schemas of tables",
    READING,
];

async fn world(name: &str, sql: &[String]) -> (Stack, Pipeline, Client) {
    let stack = Stack::from_env().unwrap();
    let mut pipeline = Pipeline::new(&stack, name).await.unwrap();
    pipeline.tables = vec!["s.*".to_owned()];
    let client = pipeline.source().await.unwrap();
    client.batch_execute("CREATE SCHEMA s").await.unwrap();
    // In one transaction all their locks would be held at once.
    for some in sql.chunks(100) {
        client.batch_execute(&some.join(";")).await.unwrap();
    }
    (stack, pipeline, client)
}

/// So many tables with a key and two more indexes, half of them partitions, ten of each partitioned table. Each that is
/// none has one row.
fn tables(count: u32) -> Vec<String> {
    let columns = "(id int PRIMARY KEY, name text, at timestamptz DEFAULT now())";
    let mut sql = Vec::new();
    for table in 0..count - count / 2 {
        sql.push(format!(
            "CREATE TABLE s.t{table} {columns}; CREATE INDEX ON s.t{table} (name); CREATE INDEX ON s.t{table} (at);
            INSERT INTO s.t{table} VALUES ({table}, 'row')"
        ));
    }
    for table in 0..count / 20 {
        sql.push(format!(
            "CREATE TABLE s.p{table} {columns} PARTITION BY RANGE (id);
            CREATE INDEX ON s.p{table} (name); CREATE INDEX ON s.p{table} (at)"
        ));
        for part in 0..10 {
            sql.push(format!(
                "CREATE TABLE s.p{table}_{part} PARTITION OF s.p{table} FOR VALUES FROM ({part}) TO ({part} + 1)"
            ));
        }
    }
    sql
}

fn source(pipeline: &Pipeline, config: &str) -> Service {
    pipeline.service(Kind::Source, "source", config).unwrap()
}

/// A start, up to the stream.
struct Start {
    took: Duration,
    /// Of it, while rows were read.
    reading: Duration,
    /// The reasons not to be ready that were given, without their counts.
    said: BTreeSet<String>,
}

fn start(source: &mut Service) -> Start {
    let (began, mut said) = (Instant::now(), BTreeSet::new());
    let mut reading = Duration::ZERO;
    source.start().unwrap();
    loop {
        let asked = Instant::now();
        let answer = source.get("/ready");
        let mut reason = String::new();
        match answer {
            Ok((200, _)) => {
                return Start {
                    took: began.elapsed(),
                    reading,
                    said,
                };
            }
            Ok((_, body)) => {
                let body: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
                let whole = body["reason"].as_str().unwrap_or_default();
                whole
                    .split(':')
                    .next()
                    .unwrap_or_default()
                    .clone_into(&mut reason);
                said.insert(reason.clone());
            }
            Err(_) => assert!(source.is_running().unwrap(), "{}", source.log_tail()),
        }
        assert!(began.elapsed() < PATIENCE, "{}", source.log_tail());
        std::thread::sleep(Duration::from_millis(5));
        if reason == READING {
            reading += asked.elapsed();
        }
    }
}

/// Starts and restarts with so many tables of one partition each.
async fn start_in_seconds(name: &str, count: u32) {
    let _alone = ALONE.lock().await;
    let (stack, pipeline, _client) = world(name, &tables(count)).await;
    let config = pipeline.source_config();
    let config = config.replace("partitions = 3", "partitions = 1");
    let mut source = source(&pipeline, &config);
    let first = start(&mut source);
    let peak = source.peak_resident_bytes().unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    source.stop(PATIENCE).unwrap();
    let again = start(&mut source).took;
    println!(
        "{count} tables: first start {:.1?}, {:.1?} of it reading; restart {again:.1?}; {:.1} MiB resident at the most",
        first.took,
        first.reading,
        peak as f64 / f64::from(1 << 20)
    );
    for step in STEPS {
        assert!(
            first.said.contains(step),
            "not a word of {step}: {:?}",
            first.said
        );
    }
    let mut reader = TopicReader::new(stack.kafka(), stack.registry_url());
    for table in [0, count / 4] {
        let topic = pipeline.topic(&format!("s.t{table}"));
        assert_eq!(reader.read(&topic).await.unwrap().len(), 1, "{topic}");
    }
    let first = first.took - first.reading;
    assert!(first < FIRST_START, "the first start took {first:?}");
    assert!(again < RESTART, "the restart took {again:?}");
    assert!(peak < RESIDENT_BYTES, "{peak} bytes resident");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_tables_start_in_seconds() {
    start_in_seconds("some_tables", SOME).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes, and a quiet machine: `make test-long`"]
async fn thousands_of_tables_start_in_seconds() {
    let count = std::env::var("TRIBUTARY_LONG_TABLES");
    let count = count.map_or(MANY, |count| count.parse().unwrap());
    start_in_seconds("many_tables", count).await;
}

fn three_tables() -> Vec<String> {
    let tables = 0..3;
    let tables = tables.map(|table| {
        format!("CREATE TABLE s.t{table} (id int PRIMARY KEY, name text); INSERT INTO s.t{table} VALUES (1, 'row')")
    });
    tables.collect()
}

/// What took its time with three tables were two clients for each partition: now their number depends on neither.
#[tokio::test(flavor = "multi_thread")]
async fn start_with_three_tables_takes_a_second() {
    let mut clients = Vec::new();
    let partitions = [1, 20];
    for partitions in partitions {
        let name = format!("three_{partitions}");
        let (stack, pipeline, _client) = world(&name, &three_tables()).await;
        let (_, port) = stack.kafka().rsplit_once(':').unwrap();
        // A client asks here who the brokers are, and goes to them directly then.
        let link = Link::to(port.parse().unwrap()).unwrap();
        let config = pipeline.source_config();
        let config = config.replace(stack.kafka(), &format!("127.0.0.1:{}", link.port()));
        let config = config.replace("partitions = 3", &format!("partitions = {partitions}"));
        let mut source = source(&pipeline, &config);
        start(&mut source);
        clients.push(link.connections());
    }
    assert!(clients[0] > 0, "no client uses the link");
    // Some may have to ask again: on a loaded machine, more than one.
    let more = three_tables().len() * (partitions[1] - partitions[0]);
    assert!(
        clients[1] < clients[0] + more,
        "{clients:?} clients, a client or more for each of {more} partitions more"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "asks for a quiet machine: `make test-long`"]
async fn three_tables_have_a_slot_within_a_second() {
    let mut took = Vec::new();
    for round in 0..5 {
        let (_stack, pipeline, client) = world(&format!("slot_{round}"), &three_tables()).await;
        let mut source = source(&pipeline, &pipeline.source_config());
        let slot = format!("tributary_{}", pipeline.prefix());
        let query = client
            .prepare("SELECT FROM pg_replication_slots WHERE slot_name = $1::text")
            .await
            .unwrap();
        let began = Instant::now();
        source.start().unwrap();
        while client.query_opt(&query, &[&slot]).await.unwrap().is_none() {
            assert!(began.elapsed() < PATIENCE, "{}", source.log_tail());
        }
        took.push(began.elapsed());
    }
    took.sort_unstable();
    println!("from exec to the slot: {took:.2?}");
    assert!(took[2] < SLOT, "from exec to the slot: {took:?}");
}

/// Waits until an empty table's topic is there and its schemas are registered, as sinks need it that create targets.
async fn has_topic_and_schemas(stack: &Stack, pipeline: &Pipeline, table: &str, source: &Service) {
    let topic = pipeline.topic(table);
    let deadline = Instant::now() + PATIENCE;
    for kind in ["key", "value"] {
        let url = format!(
            "{}/subjects/{topic}-{kind}/versions/latest",
            stack.registry_url()
        );
        while !http::client()
            .get(&url)
            .send()
            .await
            .unwrap()
            .status()
            .is_success()
        {
            assert!(Instant::now() < deadline, "{url}: {}", source.log_tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let mut reader = TopicReader::new(stack.kafka(), stack.registry_url());
    let records = reader.read(&topic).await;
    assert!(records.is_ok_and(|records| records.is_empty()), "{topic}");
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_table_has_a_topic_and_a_schema() {
    let table = |name: &str| format!("CREATE TABLE s.{name} (id int PRIMARY KEY, name text)");
    for mode in ["initial", "never"] {
        let sql = [
            table("first"),
            format!("{} PARTITION BY RANGE (id)", table("parted")),
        ];
        let (stack, pipeline, client) = world(&format!("empty_{mode}"), &sql).await;
        let config = format!(
            "{}[snapshot]\nmode = \"{mode}\"\n",
            pipeline.source_config()
        );
        let mut source = source(&pipeline, &config);
        start(&mut source);
        for name in ["s.first", "s.parted"] {
            has_topic_and_schemas(&stack, &pipeline, name, &source).await;
        }
        client.batch_execute(&table("later")).await.unwrap();
        has_topic_and_schemas(&stack, &pipeline, "s.later", &source).await;
        source.stop(PATIENCE).unwrap();
        client.batch_execute(&table("between")).await.unwrap();
        start(&mut source);
        has_topic_and_schemas(&stack, &pipeline, "s.between", &source).await;
    }
}

/// Many tables that come at once are taken in together, and hold up no other.
#[tokio::test(flavor = "multi_thread")]
async fn hundred_new_tables_are_taken_in_together() {
    let (stack, pipeline, client) = world("new_tables", &three_tables()).await;
    let mut source = source(&pipeline, &pipeline.source_config());
    start(&mut source);
    let tables = 0..100;
    let tables = tables.map(|table| {
        format!("CREATE TABLE s.new{table} (id int PRIMARY KEY, name text); INSERT INTO s.new{table} VALUES (1, 'row')")
    });
    let tables: Vec<String> = tables.collect();
    client.batch_execute(&tables.join(";")).await.unwrap();
    let mut reader = TopicReader::new(stack.kafka(), stack.registry_url());
    for table in 0..100 {
        has_topic(&mut source, table).await;
    }
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    for table in [0, 63, 64, 99] {
        let topic = pipeline.topic(&format!("s.new{table}"));
        assert_eq!(reader.read(&topic).await.unwrap().len(), 1, "{topic}");
    }
    let sessions = source.metric("tributary_source_sessions_total");
    assert_eq!(sessions, Some(1.0));
}

/// Waits until a new table is taken in.
async fn has_topic(source: &mut Service, table: u32) {
    let line = format!("taking the table in: it is new table=\"s.new{table}\"");
    let deadline = Instant::now() + PATIENCE;
    while !source.log().contains(&line) {
        assert!(source.is_running().unwrap(), "{}", source.log_tail());
        assert!(Instant::now() < deadline, "{line}: {}", source.log_tail());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
