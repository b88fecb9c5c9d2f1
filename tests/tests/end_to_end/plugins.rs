//! The output plug-ins: pgoutput and wal2json end in the same records.

mod records;
mod refused;
mod seeds;
mod statements;
mod unseen;
mod workload;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use records::{RawRecord, read, schema};
use tokio_postgres::Client;
use tributary_tests::oracle::TopicReader;
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::stack::{Postgres, Server, Stack};

const PATIENCE: Duration = Duration::from_secs(60);

/// One source with one plug-in; topics, slot and progress of its own.
struct Side {
    prefix: String,
    service: Service,
}

impl Side {
    /// Both sides' names have the same length, so that records can be compared byte by byte.
    fn new(pipeline: &Pipeline, plugin: &str) -> Self {
        Self::with(pipeline, plugin, "")
    }

    /// `more` is put into the section of Postgres.
    fn with(pipeline: &Pipeline, plugin: &str, more: &str) -> Self {
        let prefix = format!("{}_{}", pipeline.prefix(), &plugin[..1]);
        let config = pipeline
            .source_config()
            .replace(
                &format!("\"{}\"", pipeline.prefix()),
                &format!("\"{prefix}\""),
            )
            .replace("partitions = 3", "partitions = 1")
            .replace(
                "[kafka]",
                &format!("plugin = \"{plugin}\"\n{more}\n[kafka]"),
            );
        let service = pipeline.service(Kind::Source, plugin, &config).unwrap();
        Self { prefix, service }
    }

    async fn started(pipeline: &Pipeline, plugin: &str) -> Self {
        Self::started_with(pipeline, plugin, "").await
    }

    async fn started_with(pipeline: &Pipeline, plugin: &str, more: &str) -> Self {
        let mut side = Self::with(pipeline, plugin, more);
        side.service.start().unwrap();
        side.service.wait_ready(PATIENCE).unwrap();
        side
    }

    /// Waits until the slot has confirmed all that is committed now. A mark follows: without a change it would be
    /// confirmed by the next heartbeat only.
    async fn caught_up(&mut self, client: &Client) {
        let query = "SELECT pg_current_wal_insert_lsn()::text";
        let target: String = client.query_one(query, &[]).await.unwrap().get(0);
        client
            .batch_execute("INSERT INTO s.mark DEFAULT VALUES")
            .await
            .unwrap();
        let slot = format!("tributary_{}", self.prefix);
        let query = "SELECT confirmed_flush_lsn >= $2::text::pg_lsn FROM pg_replication_slots WHERE slot_name = $1::text";
        let deadline = Instant::now() + PATIENCE;
        loop {
            let row = client.query_opt(query, &[&slot, &target]).await.unwrap();
            if row.and_then(|row| row.get::<_, Option<bool>>(0)) == Some(true) {
                return;
            }
            let running = self.service.is_running().unwrap();
            assert!(
                running && Instant::now() < deadline,
                "{slot} does not reach {target} (running: {running}); its log ends:\n{}",
                self.service.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn topic(&self, table: &str) -> String {
        format!("{}.{table}", self.prefix)
    }

    async fn records(&self, stack: &Stack, table: &str) -> Vec<RawRecord> {
        read(stack.kafka(), &self.topic(table)).await.unwrap()
    }

    fn stop(&mut self) {
        let status = self.service.stop(PATIENCE).unwrap();
        assert!(status.success(), "{}", self.service.log_tail());
    }
}

async fn setup(name: &str, sql: &str) -> (Stack, Pipeline, Client) {
    let stack = Stack::from_env().unwrap();
    let mut pipeline = Pipeline::new(&stack, name).await.unwrap();
    pipeline.tables = vec!["s.*".to_owned()];
    let client = pipeline.source().await.unwrap();
    client.batch_execute(sql).await.unwrap();
    (stack, pipeline, client)
}

/// In what two records differ: nothing, but what is listed in docs/plugins.md.
fn difference(pgoutput: &RawRecord, wal2json: &RawRecord) -> Option<String> {
    if pgoutput.key != wal2json.key || pgoutput.value != wal2json.value {
        return Some("key or value".to_owned());
    }
    let headers: Vec<_> = wal2json
        .headers
        .iter()
        .filter(|header| !pgoutput.headers.contains(header))
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value)))
        .collect();
    let fewer = pgoutput
        .headers
        .iter()
        .any(|header| !wal2json.headers.contains(header));
    if fewer {
        return Some(format!(
            "a header is missing: {:?} {:?}",
            pgoutput.headers, wal2json.headers
        ));
    }
    (!headers.is_empty()).then(|| headers.join(", "))
}

#[tokio::test]
async fn both_plugins_end_in_the_same_records() {
    let (stack, pipeline, client) = setup("plugins", workload::TABLES).await;
    // What is read again behind a statement enters at another place each time.
    let unwatched = "watch_interval_ms = 3600000";
    let mut pgoutput = Side::started_with(&pipeline, "pgoutput", unwatched).await;
    let mut wal2json = Side::started_with(&pipeline, "wal2json", unwatched).await;
    for group in workload::STEPS {
        for transaction in *group {
            client.batch_execute(transaction).await.unwrap();
        }
        pgoutput.caught_up(&client).await;
        wal2json.caught_up(&client).await;
    }
    pgoutput.stop();
    wal2json.stop();

    let mut differences = Vec::new();
    for table in workload::TOPICS {
        let theirs = pgoutput.records(&stack, table).await;
        let ours = wal2json.records(&stack, table).await;
        assert_eq!(theirs.len(), ours.len(), "records of {table}");
        assert!(!theirs.is_empty(), "no records of {table}");
        for (index, (theirs, ours)) in theirs.iter().zip(&ours).enumerate() {
            let ours = ours.renamed(&wal2json.prefix, &pgoutput.prefix);
            if let Some(found) = difference(theirs, &ours) {
                differences.push(format!("{table} record {index}: {found}"));
            }
            for (a, b) in theirs.schema_ids.iter().zip(&ours.schema_ids) {
                let a = schema(stack.registry_url(), *a).await.unwrap();
                let b = schema(stack.registry_url(), *b).await.unwrap();
                assert_eq!(
                    a,
                    b.replace(&wal2json.prefix, &pgoutput.prefix),
                    "schema of {table}"
                );
            }
        }
    }
    assert_eq!(differences, workload::DIFFERENCES);
}

/// A transaction that is cut into many Kafka transactions, by kills too: each record once, in order, with the same
/// `seq` as pgoutput gives.
#[tokio::test]
async fn a_killed_wal2json_source_goes_on_exactly() {
    let sql = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, note text, n numeric);
        CREATE TABLE s.mark (id serial PRIMARY KEY)";
    let (stack, pipeline, client) = setup("plugins_kill", sql).await;
    let mut pgoutput = Side::started(&pipeline, "pgoutput").await;
    let mut wal2json = Side::started(&pipeline, "wal2json").await;
    let insert = "INSERT INTO s.t SELECT i, 'row ' || i, CASE WHEN i % 5000 = 0 THEN NULL ELSE i END FROM generate_series(1, 60000) i;
        UPDATE s.t SET note = 'again' WHERE id % 100 = 0";
    client.batch_execute(insert).await.unwrap();
    for records in [1_000.0, 20_000.0] {
        let deadline = Instant::now() + PATIENCE;
        while wal2json
            .service
            .metric("tributary_source_events_total")
            .unwrap_or_default()
            < records
        {
            assert!(Instant::now() < deadline, "{}", wal2json.service.log_tail());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        wal2json.service.kill().unwrap();
        wal2json.service.start().unwrap();
    }
    pgoutput.caught_up(&client).await;
    wal2json.caught_up(&client).await;
    let (theirs, ours) = (
        pgoutput.records(&stack, "s.t").await,
        wal2json.records(&stack, "s.t").await,
    );
    assert_eq!(theirs.len(), 60_600);
    let place = |record: &RawRecord| (record.key.clone(), record.seq());
    let differ = theirs
        .iter()
        .zip(&ours)
        .position(|(a, b)| place(a) != place(b));
    assert_eq!((ours.len(), differ), (60_600, None));
    pgoutput.stop();
    wal2json.stop();
}

/// What wal2json cannot carry is refused by `run`, and `check` names all of it.
#[tokio::test]
async fn what_wal2json_cannot_carry_is_refused_at_the_start() {
    let sql = "CREATE SCHEMA s;
        CREATE TABLE s.parts (id int PRIMARY KEY, f float8) PARTITION BY RANGE (id);
        CREATE TABLE s.bag (f float8, n numeric(5,2)[]);
        CREATE TABLE s.whole (id int PRIMARY KEY, n numeric); ALTER TABLE s.whole REPLICA IDENTITY FULL;
        CREATE TABLE s.fine (id int PRIMARY KEY, f float8, n numeric(5,2))";
    let (_stack, pipeline, _client) = setup("plugins_limits", sql).await;
    let mut side = Side::new(&pipeline, "wal2json");
    side.service.start().unwrap();
    let status = side.service.wait(PATIENCE).unwrap();
    assert!(!status.success());
    assert!(
        side.service.log().contains("s.parts is partitioned"),
        "{}",
        side.service.log_tail()
    );

    let output = std::process::Command::new(Kind::Source.path().unwrap())
        .arg("check")
        .arg("--config")
        .arg(side.service.config_path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    for problem in [
        "table s.parts is partitioned",
        "column 'f' (double precision) of table s.bag",
        "column 'n' (numeric) of table s.whole",
    ] {
        assert!(said.contains(problem), "{problem} is not in:\n{said}");
    }
    assert!(
        !said.contains("s.fine") && !said.contains("column 'n' (numeric(5,2)[])"),
        "{said}"
    );
}

#[tokio::test]
async fn a_server_without_wal2json_is_said() {
    let stack = Stack::from_env().unwrap();
    let mut pipeline = Pipeline::new(&stack, "plugins_none").await.unwrap();
    // Its servers are those of the archives, which have no plug-ins of others. What may be used comes first.
    let allowed = [("output_plugin_libraries", "pgoutput, wal2json")];
    let server = Server::start_new(pipeline.dir(), "bare", Postgres::V17, &allowed).unwrap();
    pipeline.source_url = server.url("postgres");
    let client = pipeline.source().await.unwrap();
    let sql = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY)";
    client.batch_execute(sql).await.unwrap();
    pipeline.tables = vec!["s.*".to_owned()];
    let mut side = Side::new(&pipeline, "wal2json");
    side.service.start().unwrap();
    assert!(!side.service.wait(PATIENCE).unwrap().success());
    let log = side.service.log_tail();
    assert!(log.contains("install the plug-in wal2json"), "{log}");
}

/// wal2json names tables, and a name may become another table's.
#[tokio::test]
async fn a_name_that_is_given_again_is_published() {
    let (stack, pipeline, client) = setup(
        "plugins_again",
        "CREATE SCHEMA s; CREATE TABLE s.mark (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY)",
    )
    .await;
    let mut side = Side::started(&pipeline, "wal2json").await;
    let create = "CREATE TABLE s.x (id int PRIMARY KEY, f float8)";
    let gone = format!("BEGIN; {create}; INSERT INTO s.x VALUES (1, 1); DROP TABLE s.x; COMMIT");
    client.batch_execute(&gone).await.unwrap();
    side.caught_up(&client).await;
    for (round, first) in [2, 5].into_iter().enumerate() {
        let insert =
            format!("DROP TABLE IF EXISTS s.x; {create}; INSERT INTO s.x VALUES ({first}, 'NaN')");
        client.batch_execute(&insert).await.unwrap();
        let deadline = Instant::now() + PATIENCE;
        while side.service.log().matches("rows are in the log").count() <= round {
            assert!(Instant::now() < deadline, "{}", side.service.log_tail());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let change = format!(
            "INSERT INTO s.x VALUES ({}, 'Infinity'), ({}, NULL)",
            first + 1,
            first + 2
        );
        client.batch_execute(&change).await.unwrap();
        side.caught_up(&client).await;
    }
    side.stop();
    let mut reader = TopicReader::new(stack.kafka(), stack.registry_url());
    let mut records = reader.read(&side.topic("s.x")).await.unwrap();
    records.sort_by_key(|record| record.seq);
    // Until the watch has seen that the table is another one, its NaN cannot be told from null, which a header says.
    let values = records.iter().filter_map(|record| {
        let change = record.change.as_ref().filter(|change| change.op != 't')?;
        Some((record.key["id"].clone(), change.after["f"].clone()))
    });
    let values: BTreeMap<String, Option<String>> = values.collect();
    let expected = [
        ("2", Some("NaN")),
        ("3", Some("inf")),
        ("4", None),
        ("5", Some("NaN")),
        ("6", Some("inf")),
        ("7", None),
    ];
    let expected = expected.map(|(id, value)| (id.to_owned(), value.map(str::to_owned)));
    assert_eq!(values, BTreeMap::from(expected));
}

#[tokio::test]
async fn a_slot_keeps_its_plugin() {
    let sql = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY)";
    let (_stack, pipeline, _client) = setup("plugins_switch", sql).await;
    let mut side = Side::started(&pipeline, "pgoutput").await;
    side.stop();
    let config = std::fs::read_to_string(side.service.config_path()).unwrap();
    std::fs::write(
        side.service.config_path(),
        config.replace("plugin = \"pgoutput\"", "plugin = \"wal2json\""),
    )
    .unwrap();
    side.service.start().unwrap();
    let status = side.service.wait(PATIENCE).unwrap();
    assert!(!status.success());
    let log = side.service.log();
    assert!(
        log.contains("was created for plug-in 'pgoutput', postgres.plugin is 'wal2json'"),
        "{log}"
    );
}
