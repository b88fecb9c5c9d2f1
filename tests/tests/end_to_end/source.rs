//! The source alone: snapshots, orderly ends, unchanged TOAST, transactions, values, operation.

mod keyless;
mod locks;
mod operate;
mod second_source;
mod sessions;
mod slot_care;
mod unfit;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tokio_postgres::Client;
use tributary_tests::oracle::{TopicReader, TopicRecord};
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::stack::Stack;

mod toast;
mod transactions;

const PATIENCE: Duration = Duration::from_secs(60);

async fn pipeline(name: &str, sql: &str) -> (Stack, Pipeline, Client) {
    let stack = Stack::from_env().unwrap();
    let mut pipeline = Pipeline::new(&stack, name).await.unwrap();
    pipeline.tables = vec!["s.*".to_owned()];
    let client = pipeline.source().await.unwrap();
    client.batch_execute(sql).await.unwrap();
    (stack, pipeline, client)
}

fn source(pipeline: &Pipeline) -> Service {
    let mut source = pipeline
        .service(Kind::Source, "source", &pipeline.source_config())
        .unwrap();
    source.start().unwrap();
    source
}

async fn records(stack: &Stack, pipeline: &Pipeline, table: &str) -> Vec<TopicRecord> {
    TopicReader::new(stack.kafka(), stack.registry_url())
        .read(&pipeline.topic(table))
        .await
        .unwrap()
}

async fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} does not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Folds a table's topic as a consumer would: the newest record per key, "gone below" applied.
fn fold(records: &[TopicRecord]) -> BTreeMap<String, String> {
    let mut rows: BTreeMap<String, (u64, Option<String>)> = BTreeMap::new();
    for record in records {
        match (&record.change, record.key.get("id")) {
            (Some(change), None) if change.op == 't' => {
                rows.retain(|_, (seq, _)| *seq >= record.below.unwrap());
            }
            (Some(change), Some(id)) if change.op != 'd' => {
                rows.insert(id.clone(), (record.seq, change.after["name"].clone()));
            }
            (_, Some(id)) => {
                rows.remove(id);
            }
            (change, None) => panic!("a record without a key: {change:?}"),
        }
    }
    rows.into_iter()
        .map(|(id, (_, name))| (id, name.unwrap_or_default()))
        .collect()
}

async fn table(client: &Client) -> BTreeMap<String, String> {
    let rows = client
        .query("SELECT id::text, coalesce(name, '') FROM s.t", &[])
        .await
        .unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Records that this process has committed.
fn events(source: &Service) -> f64 {
    let events = source.metric("tributary_source_events_total");
    events.unwrap_or(0.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_was_killed_goes_on_where_it_was() {
    let sql = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, name text);
        CREATE TABLE s.log (id int, name text);
        INSERT INTO s.t SELECT g, repeat('x', 500) || g FROM generate_series(1, 120000) g;
        INSERT INTO s.log SELECT g, 'before' FROM generate_series(1, 5000) g";
    let (stack, pipeline, client) = pipeline("killed_snapshot", sql).await;
    let mut source = source(&pipeline);
    for round in 0..4 {
        wait_until("the next transaction of the snapshot", || {
            events(&source) > 0.0
        })
        .await;
        source.kill().unwrap();
        let before = records(&stack, &pipeline, "s.t").await.len();
        assert!(before > 0, "nothing was read in round {round}");
        let change = format!(
            "DELETE FROM s.t WHERE id % 40 = {round}; UPDATE s.t SET name = 'changed' WHERE id % 30 = {round};
            INSERT INTO s.t SELECT g, 'new' FROM generate_series(200000 + {round}000, 200000 + {round}500) g;
            INSERT INTO s.log SELECT {round}, 'round' FROM generate_series(1, 10)"
        );
        client.batch_execute(&change).await.unwrap();
        source.start().unwrap();
    }
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    let read = records(&stack, &pipeline, "s.t").await;
    // A row that is changed moves, and may be read once more where it is then; any other is there once.
    let (mut reads, mut changed) = (BTreeMap::<&str, usize>::new(), BTreeSet::new());
    for record in &read {
        assert!(record.below.is_none(), "the snapshot started over");
        let id = record.key["id"].as_str();
        match record.change.as_ref().map(|change| change.op) {
            Some('r') => *reads.entry(id).or_default() += 1,
            _ => drop(changed.insert(id)),
        }
    }
    reads.retain(|id, count| *count > 1 && !changed.contains(id));
    assert_eq!(reads.len(), 0, "rows that were read twice");
    assert!(
        fold(&read) == table(&client).await,
        "the topic, folded, is not the table"
    );
    // Without a key: what was there is gone, then all rows come.
    let log = records(&stack, &pipeline, "s.log").await;
    let last_sweep = log.iter().filter_map(|record| record.below).max();
    let rows = log
        .iter()
        .filter(|record| record.below.is_none() && Some(record.seq) >= last_sweep);
    assert_eq!(rows.count(), 5_040);
}

/// What ALTER TABLE does, no snapshot hides: a table that was rewritten before its turn looks empty.
#[tokio::test(flavor = "multi_thread")]
async fn tables_that_change_before_their_rows_are_read_come_whole() {
    let sql = "CREATE SCHEMA s; CREATE TABLE s.a (id int PRIMARY KEY, name text);
        INSERT INTO s.a SELECT g, 'first' FROM generate_series(1, 1500) g;
        CREATE TABLE s.t (id int PRIMARY KEY, name text, n int);
        INSERT INTO s.t SELECT g, 'row ' || g, g FROM generate_series(1, 400) g;
        CREATE TABLE s.u (id int PRIMARY KEY, name text, old text);
        INSERT INTO s.u SELECT g, 'kept', 'value ' || g FROM generate_series(1, 100) g;
        CREATE TABLE s.v (id int PRIMARY KEY); INSERT INTO s.v VALUES (1)";
    let (stack, pipeline, client) = pipeline("changed_before", sql).await;
    let slow = "[snapshot]\nworkers = 1\nmax_rows_per_second = 500\n";
    let config = format!("{}{slow}", pipeline.source_config());
    let mut source = pipeline.service(Kind::Source, "source", &config).unwrap();
    source.start().unwrap();
    wait_until("the first rows", || {
        events(&source) > 0.0 || source.log().contains("reading the first")
    })
    .await;
    let changes =
        "ALTER TABLE s.t ALTER n TYPE bigint; ALTER TABLE s.u RENAME old TO new; DROP TABLE s.v";
    client.batch_execute(changes).await.unwrap();
    source.wait_ready(PATIENCE).unwrap();
    wait_until("the end of the snapshots", || {
        source.metric("tributary_source_snapshot_tables") == Some(0.0)
    })
    .await;
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    assert!(
        source.log().contains("they are read beside the stream"),
        "{}",
        source.log()
    );
    let rows = records(&stack, &pipeline, "s.t").await;
    assert!(fold(&rows) == table(&client).await);
    let renamed = records(&stack, &pipeline, "s.u").await;
    let values: BTreeSet<String> = renamed
        .iter()
        .filter_map(|record| record.change.as_ref()?.after.get("new")?.clone())
        .collect();
    assert_eq!((fold(&renamed).len(), values.len()), (100, 100));
}

/// What a look in between does not find is no reason to leave the rest of the rows out.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_renamed_away_and_back_is_read_to_its_end() {
    let sql = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, name text);
        INSERT INTO s.t SELECT g, 'row ' || g FROM generate_series(1, 2000) g";
    let (stack, pipeline, client) = pipeline("away", sql).await;
    let chunks = "[snapshot]\nmax_rows_per_second = 300\nchunk_pages = 1\n";
    let config = format!("{}{chunks}", pipeline.source_config());
    let mut source = pipeline.service(Kind::Source, "source", &config).unwrap();
    source.start().unwrap();
    wait_until("the first rows", || events(&source) > 0.0).await;
    source.kill().unwrap();
    source.start().unwrap();
    wait_until("rows beside the stream", || events(&source) > 0.0).await;
    client
        .batch_execute("ALTER TABLE s.t RENAME TO away")
        .await
        .unwrap();
    wait_until("somebody to miss it", || {
        let log = source.log();
        log.contains("cannot be read yet") || log.contains("its topic stays as it is")
    })
    .await;
    client
        .batch_execute("ALTER TABLE s.away RENAME TO t")
        .await
        .unwrap();
    client
        .batch_execute("INSERT INTO s.t VALUES (0, 'on')")
        .await
        .unwrap();
    // Until the watch has seen it there again, no row is left to read, and the source's position says nothing.
    let deadline = Instant::now() + PATIENCE;
    while fold(&records(&stack, &pipeline, "s.t").await) != table(&client).await {
        assert!(
            Instant::now() < deadline,
            "the topic, folded, is not the table: {}",
            source.log_tail()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make test-long"]
async fn ten_million_rows_are_read_in_bounded_memory_through_ten_kills() {
    const KILLS: u32 = 10;
    let rows: u32 = match std::env::var("TRIBUTARY_LONG_ROWS") {
        Ok(rows) => rows.parse().unwrap(),
        Err(_) => 10_000_000,
    };
    let sql = format!(
        "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, name text);
        INSERT INTO s.t SELECT g, 'row ' || g FROM generate_series(1, {rows}) g"
    );
    let (stack, pipeline, client) = pipeline("many_rows", &sql).await;
    let mut source = source(&pipeline);
    let (began, mut peak) = (Instant::now(), 0);
    for kill in 1..=KILLS {
        let progress = f64::from(rows) / f64::from(KILLS + 1);
        wait_long("a part of the snapshot", || events(&source) >= progress).await;
        let resident = source.peak_resident_bytes().unwrap();
        println!("{kill}: {:?}, {resident} bytes", began.elapsed());
        peak = resident.max(peak);
        source.kill().unwrap();
        let change = format!("UPDATE s.t SET name = 'changed' WHERE id % 1000 = {kill}");
        client.batch_execute(&change).await.unwrap();
        source.start().unwrap();
    }
    let limit = Duration::from_secs(3600);
    pipeline.wait_source(&mut source, limit).await.unwrap();
    peak = source.peak_resident_bytes().unwrap().max(peak);
    println!(
        "{rows} rows after {:?}, peak resident: {:.1} MB",
        began.elapsed(),
        f64::from(u32::try_from(peak).unwrap()) / 1e6
    );
    assert!(peak < 64_000_000, "{peak} bytes");
    let mut reads = vec![0_u8; rows as usize + 1];
    let mut reader = TopicReader::new(stack.kafka(), stack.registry_url());
    let topic = pipeline.topic("s.t");
    let visit = |record: TopicRecord| {
        assert!(record.below.is_none(), "the snapshot started over");
        if record.change.is_some_and(|change| change.op == 'r') {
            reads[record.key["id"].parse::<usize>().unwrap()] += 1;
        }
    };
    reader.visit(&topic, visit).await.unwrap();
    // A row that is changed moves, and may be read once more where it is then.
    let doubled =
        |(id, count): (usize, &u8)| *count > 1 && !(1..=KILLS as usize).contains(&(id % 1000));
    assert!(
        !reads.iter().enumerate().any(doubled),
        "a row was read twice"
    );
    let changed = u32::try_from(reads.iter().filter(|count| **count == 0).count()).unwrap() - 1;
    assert!(
        changed <= KILLS * (rows / 1000),
        "{changed} rows were never read"
    );
}

/// As [`wait_until`], for what takes minutes.
async fn wait_long(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(1800);
    while !condition() {
        assert!(Instant::now() < deadline, "{what} does not happen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_flushes_confirms_and_repeats_nothing() {
    let (stack, pipeline, client) = pipeline(
        "sigterm",
        "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, name text)",
    )
    .await;
    let mut source = source(&pipeline);
    source.wait_ready(PATIENCE).unwrap();
    for round in 0..5 {
        let insert = format!(
            "INSERT INTO s.t SELECT g, 'round {round}' FROM generate_series({0} + 1, {0} + 1000) g",
            round * 1000
        );
        client.batch_execute(&insert).await.unwrap();
        assert!(
            source.stop(PATIENCE).unwrap().success(),
            "{}",
            source.log_tail()
        );
        let slot = format!("tributary_{}", pipeline.prefix());
        let active: bool = client
            .query_one(
                "SELECT active FROM pg_replication_slots WHERE slot_name = $1::text",
                &[&slot],
            )
            .await
            .unwrap()
            .get(0);
        assert!(!active, "the slot is still held");
        source.start().unwrap();
        source.wait_ready(PATIENCE).unwrap();
    }
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    let records = records(&stack, &pipeline, "s.t").await;
    assert_eq!(records.len(), 5_000);
    assert_eq!(fold(&records), table(&client).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn unchanged_toast_is_completed() {
    let sql = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, n int, name text);
        ALTER TABLE s.t ALTER name SET STORAGE EXTERNAL;
        INSERT INTO s.t SELECT g, 0, repeat('x', 9000) || g FROM generate_series(1, 4) g";
    let (stack, pipeline, client) = pipeline("toast", sql).await;
    let mut source = source(&pipeline);
    source.wait_ready(PATIENCE).unwrap();
    client
        .batch_execute("UPDATE s.t SET n = 1 WHERE id = 1; UPDATE s.t SET id = 20 WHERE id = 2")
        .await
        .unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    source.kill().unwrap();
    // Gone when it is looked up: the record says so, and its own delete follows.
    client
        .batch_execute("UPDATE s.t SET n = 1 WHERE id = 3; DELETE FROM s.t WHERE id = 3")
        .await
        .unwrap();
    // Renamed when it is looked up.
    client
        .batch_execute("UPDATE s.t SET n = 1 WHERE id = 4; ALTER TABLE s.t RENAME n TO m")
        .await
        .unwrap();
    source.start().unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    let records = records(&stack, &pipeline, "s.t").await;
    let streamed = |id: &str| {
        let key = |record: &&TopicRecord| record.key.get("id").is_some_and(|own| own == id);
        let found = records.iter().filter(key);
        found
            .filter(|record| {
                record
                    .change
                    .as_ref()
                    .is_some_and(|change| matches!(change.op, 'c' | 'u'))
            })
            .collect::<Vec<_>>()
    };
    for (id, number) in [("1", 1), ("20", 2), ("4", 4)] {
        let [record] = streamed(id)[..] else {
            panic!("row {id}: {} records", streamed(id).len())
        };
        assert_eq!(
            record.change.as_ref().unwrap().after["name"],
            Some(format!("{}{number}", "x".repeat(9000))),
            "row {id}"
        );
        assert!(
            record
                .headers
                .iter()
                .any(|name| name == "tributary.completed"),
            "row {id}: {:?}",
            record.headers
        );
    }
    let [gone] = streamed("3")[..] else {
        panic!("row 3")
    };
    assert_eq!(gone.change.as_ref().unwrap().after["name"], None);
    assert!(
        gone.headers
            .iter()
            .any(|name| name == "tributary.incomplete"),
        "{:?}",
        gone.headers
    );
}

/// Sources may share the topic of progress. While another one's transaction is open there, what we wrote behind it cannot
/// be read: it is waited for, not overlooked.
#[tokio::test(flavor = "multi_thread")]
async fn another_sources_open_transaction_is_waited_for() {
    let sql = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, name text)";
    let (stack, pipeline, client) = pipeline("shared_progress", sql).await;
    let mut source = source(&pipeline);
    source.wait_ready(PATIENCE).unwrap();
    let other: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", stack.kafka())
        .set("transactional.id", format!("{}_other", pipeline.prefix()))
        .create()
        .unwrap();
    other.init_transactions(PATIENCE).unwrap();
    other.begin_transaction().unwrap();
    let topic = pipeline.topic("progress");
    let record = BaseRecord::to(&topic).key("other").payload("{}");
    other.send(record).map_err(|(error, _)| error).unwrap();
    other.flush(PATIENCE).unwrap();
    let insert = "INSERT INTO s.t SELECT g, 'behind it' FROM generate_series(1, 100) g";
    client.batch_execute(insert).await.unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    source.kill().unwrap();
    source.start().unwrap();
    wait_until("the start", || source.log().matches("started").count() == 2).await;
    other.abort_transaction(PATIENCE).unwrap();
    source.wait_ready(PATIENCE).unwrap();
    client
        .batch_execute("INSERT INTO s.t VALUES (0, 'later')")
        .await
        .unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    let records = records(&stack, &pipeline, "s.t").await;
    assert_eq!(records.len(), 101);
    assert!(fold(&records) == table(&client).await);
}
