//! What thousands of tables cost while the source runs, and how soon a new one is followed.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};
use tokio_postgres::Client;
use tributary_tests::oracle::TopicReader;
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::Service;
use tributary_tests::stack::Stack;

use super::{ALONE, MANY, PATIENCE, SOME, source, start, tables, three_tables, world};

/// Of a core: what the source may take while nothing happens, and what its queries may take on the server.
const IDLE_SHARE: f64 = 0.01;
const IDLE: Duration = Duration::from_secs(20);
const REST: Duration = Duration::from_secs(5);
/// What a query that does nothing, asked after a pause, may take of the server where the limits above hold: some machines take ten
/// times as long to wake up.
const WAKING: f64 = 0.0002;
/// One-row transactions a second, and the bytes of progress that they may write in a minute.
const TRANSACTIONS_PER_SECOND: u32 = 50;
const PROGRESS_BYTES_PER_MINUTE: f64 = 2e6;
const BUSY: Duration = Duration::from_secs(10);
/// From CREATE TABLE to the log, and to the targets.
const IN_THE_LOG: Duration = Duration::from_secs(2);
const IN_THE_TARGETS: Duration = Duration::from_secs(5);

async fn running(name: &str, sql: &[String]) -> (Stack, Pipeline, Client, Service) {
    let (stack, pipeline, client) = world(name, sql).await;
    let config = pipeline.source_config();
    let config = config.replace("partitions = 3", "partitions = 1");
    let mut source = source(&pipeline, &config);
    start(&mut source);
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    (stack, pipeline, client, source)
}

/// The CPU seconds of the server's processes that run the source's queries.
async fn query_seconds(pipeline: &Pipeline, client: &Client) -> f64 {
    let query = "SELECT pid FROM pg_stat_activity WHERE application_name = $1 AND backend_type = 'client backend'";
    let name = format!("tributary-source {}", pipeline.prefix());
    let backends = client.query(query, &[&name]).await.unwrap();
    assert!(!backends.is_empty(), "nobody is connected as {name}");
    let pids = backends
        .iter()
        .map(|row| row.get::<_, i32>(0).unsigned_abs());
    pids.map(on_cpu).sum()
}

/// The seconds that a process of one thread was on a CPU. Ticks count a process that wakes with them tenfold, or not at all.
fn on_cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    let nanoseconds: u64 = stat.split(' ').next().unwrap().parse().unwrap();
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

/// How many times as long as elsewhere this machine takes for a query that does nothing; at least 1.
async fn slowness(client: &Client) -> f64 {
    let row = client.query_one("SELECT pg_backend_pid()", &[]);
    let pid = row.await.unwrap().get::<_, i32>(0).unsigned_abs();
    let (before, times) = (on_cpu(pid), 20);
    for _ in 0..times {
        tokio::time::sleep(REST / times).await;
        client.simple_query("SELECT 1").await.unwrap();
    }
    ((on_cpu(pid) - before) / f64::from(times) / WAKING).max(1.0)
}

async fn watch_costs_nothing(name: &str, count: u32) {
    let _alone = ALONE.lock().await;
    let (_stack, pipeline, client, source) = running(name, &tables(count)).await;
    // The first look at the catalog is part of the start.
    let deadline = Instant::now() + PATIENCE;
    let limit = IDLE_SHARE * slowness(&client).await;
    let mut looked = 0.0;
    loop {
        let now = query_seconds(&pipeline, &client).await;
        if now - looked <= limit * REST.as_secs_f64() {
            break;
        }
        assert!(Instant::now() < deadline, "the source's queries never rest");
        looked = now;
        tokio::time::sleep(REST).await;
    }
    let before = (
        query_seconds(&pipeline, &client).await,
        source.cpu_seconds().unwrap(),
    );
    // What is measured is what this time costs.
    tokio::time::sleep(IDLE).await;
    let after = (
        query_seconds(&pipeline, &client).await,
        source.cpu_seconds().unwrap(),
    );
    let share = |seconds: f64| seconds / IDLE.as_secs_f64();
    let (queries, own) = (share(after.0 - before.0), share(after.1 - before.1));
    println!(
        "{count} tables, idle: queries {:.2} % of a core (limit here {:.2}), the source {:.2} %",
        queries * 100.0,
        limit * 100.0,
        own * 100.0
    );
    assert!(queries <= limit, "queries take {queries} of a core");
    // A debug build takes several times what the release build does: of it that would say nothing.
    let is_release = source
        .binary()
        .unwrap()
        .parent()
        .is_some_and(|dir| dir.ends_with("release"));
    assert!(
        !is_release || own <= IDLE_SHARE,
        "the source takes {own} of a core"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn catalog_watch_costs_nothing() {
    watch_costs_nothing("some_idle", SOME).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes, and a quiet machine: `make test-long`"]
async fn catalog_watch_of_thousands_costs_nothing() {
    watch_costs_nothing("many_idle", MANY).await;
}

/// The sizes of keys and values in the topic of progress from an offset on, in bytes, and the offset behind them.
fn progress_records(stack: &Stack, pipeline: &Pipeline, from: i64) -> (Vec<usize>, i64) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", stack.kafka())
        .set("group.id", "unused")
        .set("isolation.level", "read_uncommitted")
        .create()
        .unwrap();
    let topic = pipeline.topic("progress");
    let (_, end) = consumer.fetch_watermarks(&topic, 0, PATIENCE).unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, Offset::Offset(from))
        .unwrap();
    consumer.assign(&list).unwrap();
    let (mut sizes, mut read) = (Vec::new(), from);
    let deadline = Instant::now() + PATIENCE;
    // The last offset is a transaction's marker, which is no record.
    while read < end - 1 {
        assert!(Instant::now() < deadline, "{read} of {end} offsets");
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            let message = message.unwrap();
            sizes.push(message.key_len() + message.payload_len());
            read = message.offset() + 1;
        }
    }
    (sizes, end)
}

/// What one-row transactions at an even pace write into the topic of progress.
#[derive(Debug)]
struct Progress {
    bytes_per_minute: f64,
    /// How many records a minute has is a matter of how many transactions meet in one of Kafka's, which the machine's load decides.
    bytes_per_record: f64,
}

async fn progress_of(name: &str, sql: &[String]) -> Progress {
    let (stack, pipeline, client, mut source) = running(name, sql).await;
    let (_, from) = progress_records(&stack, &pipeline, 0);
    let began = Instant::now();
    let mut pace = tokio::time::interval(Duration::from_secs(1) / TRANSACTIONS_PER_SECOND);
    let mut inserted = 0;
    while began.elapsed() < BUSY {
        pace.tick().await;
        inserted += 1;
        let insert = format!("INSERT INTO s.t0 VALUES (100000 + {inserted}, 'row')");
        client.batch_execute(&insert).await.unwrap();
    }
    let took = began.elapsed();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    let (sizes, _) = progress_records(&stack, &pipeline, from);
    let (records, bytes) = (sizes.len(), sizes.iter().sum::<usize>() as f64);
    assert!(
        records > inserted as usize / 4,
        "{records} records for {inserted}"
    );
    Progress {
        bytes_per_minute: bytes * 60.0 / took.as_secs_f64(),
        bytes_per_record: bytes / records as f64,
    }
}

async fn progress_is_small(name: &str, count: u32) {
    let _alone = ALONE.lock().await;
    let few = progress_of(&format!("{name}_3"), &three_tables()).await;
    let many = progress_of(name, &tables(count)).await;
    println!("progress with 3 tables: {few:?}, with {count}: {many:?}");
    assert!(
        many.bytes_per_minute < PROGRESS_BYTES_PER_MINUTE,
        "{many:?}"
    );
    assert!(
        many.bytes_per_record < few.bytes_per_record * 1.5,
        "{many:?}, with three tables {few:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_does_not_grow_with_tables() {
    progress_is_small("some_busy", SOME).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes, and a quiet machine: `make test-long`"]
async fn progress_does_not_grow_with_thousands_of_tables() {
    progress_is_small("many_busy", MANY).await;
}

async fn has_rows(stack: &Stack, topic: &str, rows: usize, source: &Service) {
    let deadline = Instant::now() + PATIENCE;
    let mut reader = TopicReader::new(stack.kafka(), stack.registry_url());
    while !reader
        .read(topic)
        .await
        .is_ok_and(|records| records.len() >= rows)
    {
        assert!(Instant::now() < deadline, "{topic}: {}", source.log_tail());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "asks for a quiet machine: `make test-long`"]
async fn new_table_is_in_the_log_within_two_seconds() {
    let (stack, pipeline, client, source) = running("new_in_the_log", &three_tables()).await;
    let mut took = Vec::new();
    for round in 0..5 {
        let table = format!("s.new{round}");
        let began = Instant::now();
        let create = format!("CREATE TABLE {table} (id int PRIMARY KEY, name text)");
        client.batch_execute(&create).await.unwrap();
        let rows = format!("INSERT INTO {table} SELECT g, 'row' FROM generate_series(1, 1000) g");
        client.batch_execute(&rows).await.unwrap();
        has_rows(&stack, &pipeline.topic(&table), 1_000, &source).await;
        took.push(began.elapsed());
    }
    println!("from CREATE TABLE to 1,000 rows in the log: {took:.2?}");
    assert!(took.iter().all(|took| *took < IN_THE_LOG), "{took:?}");
}

/// How long it takes until a target is no different from a new table.
async fn until_equal(
    began: Instant,
    mut differences: impl AsyncFnMut() -> anyhow::Result<Vec<String>>,
) -> Duration {
    // A target that does not have the table yet is an error.
    while !differences().await.is_ok_and(|found| found.is_empty()) {
        assert!(began.elapsed() < PATIENCE, "{:?}", differences().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "asks for a quiet machine: `make test-long`"]
async fn new_table_is_in_the_targets_within_five_seconds() {
    let (_stack, pipeline, client) = world("new_in_targets", &three_tables()).await;
    let mut services = pipeline.services().unwrap();
    for service in &mut services {
        service.start().unwrap();
    }
    for service in &mut services {
        service.wait_ready(PATIENCE).unwrap();
    }
    let first = ["s.t0", "s.t1", "s.t2"];
    until_equal(Instant::now(), async || {
        pipeline.search_differences(&first, "").await
    })
    .await;
    until_equal(Instant::now(), async || {
        pipeline.warehouse_differences(&first, None).await
    })
    .await;
    let mut took = Vec::new();
    for round in 0..3 {
        let table = format!("s.new{round}");
        let create = format!("CREATE TABLE {table} (id int PRIMARY KEY, name text)");
        let rows = format!("INSERT INTO {table} SELECT g, 'row' FROM generate_series(1, 1000) g");
        let began = Instant::now();
        client.batch_execute(&create).await.unwrap();
        client.batch_execute(&rows).await.unwrap();
        let table = [table.as_str()];
        let (search, warehouse) = tokio::join!(
            until_equal(began, async || pipeline
                .search_differences(&table, "")
                .await),
            until_equal(began, async || pipeline
                .warehouse_differences(&table, None)
                .await)
        );
        took.push((search, warehouse));
    }
    println!("from CREATE TABLE to 1,000 rows in search and warehouse: {took:.2?}");
    let limit = took
        .iter()
        .all(|(search, warehouse)| search.max(warehouse) < &IN_THE_TARGETS);
    assert!(limit, "{took:?}");
}
