//! The local stack itself: every part can be killed, stopped, frozen and started again, and keeps what it was given.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use tributary_tests::stack::{Lifetime, Options, Part, Stack};

const LIMIT: Duration = Duration::from_secs(30);

fn owned(dir: &Path, parts: &[Part]) -> Result<Stack> {
    Stack::up(
        dir,
        &Options {
            parts: parts.to_vec(),
            lifetime: Lifetime::Owned,
            ..Options::default()
        },
    )
}

async fn query(stack: &Stack, sql: &str) -> Result<Vec<String>> {
    let (client, connection) =
        tokio_postgres::connect(stack.postgres_url(), tokio_postgres::NoTls).await?;
    let connection = tokio::spawn(connection);
    let messages = client.simple_query(sql).await?;
    drop(client);
    connection.await??;
    let rows = messages.iter().filter_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    Ok(rows.collect())
}

fn kafka_config(stack: &Stack) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", stack.kafka());
    config
}

async fn create_topic(stack: &Stack) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = kafka_config(stack).create()?;
    let topic = NewTopic::new("kept", 1, TopicReplication::Fixed(1));
    for result in admin.create_topics([&topic], &AdminOptions::new()).await? {
        result.map_err(|(topic, error)| anyhow::anyhow!("{topic}: {error}"))?;
    }
    Ok(())
}

fn produce(stack: &Stack) -> Result<()> {
    let producer: BaseProducer = kafka_config(stack).set("acks", "all").create()?;
    producer
        .send(BaseRecord::<(), str>::to("kept").payload("x"))
        .map_err(|(error, _)| error)?;
    producer.flush(LIMIT)?;
    Ok(())
}

fn records(stack: &Stack) -> Result<i64> {
    let consumer: BaseConsumer = kafka_config(stack).create()?;
    let (low, high) = consumer.fetch_watermarks("kept", 0, LIMIT)?;
    Ok(high - low)
}

struct Http(reqwest::Client);

impl Http {
    fn new() -> Result<Self> {
        // No TLS is spoken here, but the client wants to know how it would be.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self(reqwest::Client::builder().timeout(LIMIT).build()?))
    }

    async fn get(&self, url: String) -> Result<Value> {
        Ok(self
            .0
            .get(url)
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?)
    }

    async fn register(&self, stack: &Stack, number: u32) -> Result<Value> {
        let schema =
            json!({"schema": json!({"type": "fixed", "name": "F", "size": number}).to_string()});
        let url = format!("{}/subjects/s{number}/versions", stack.registry_url());
        Ok(self
            .0
            .post(url)
            .json(&schema)
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?)
    }

    async fn index(&self, stack: &Stack, id: u32) -> Result<()> {
        let url = format!("{}/kept/_doc/{id}", stack.search_url());
        self.0
            .put(url)
            .json(&json!({"a": id}))
            .send()
            .await?
            .error_for_status()?;
        Ok(())
    }
}

/// Each part, given something and killed at once, still has it when it is started again.
#[tokio::test(flavor = "multi_thread")]
async fn every_part_keeps_its_data_when_it_is_killed() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let stack = owned(dir.path(), &Part::ALL)?;
    let http = Http::new()?;
    ensure!(query(&stack, "SHOW wal_level").await? == ["logical"]);
    query(&stack, "CREATE TABLE kept AS SELECT 1 AS a").await?;
    query(
        &stack,
        "SELECT pg_create_logical_replication_slot('kept', 'wal2json')",
    )
    .await?;
    create_topic(&stack).await?;
    let mut schemas = Vec::new();
    for round in 1..=3_u32 {
        query(&stack, "INSERT INTO kept VALUES (2)").await?;
        stack.kill(Part::Postgres)?;
        produce(&stack)?;
        stack.kill(Part::Kafka)?;
        schemas.push(http.register(&stack, round).await?);
        stack.kill(Part::Registry)?;
        http.index(&stack, round).await?;
        stack.kill(Part::Search)?;
        for part in Part::ALL {
            ensure!(!stack.is_up(part)?, "{part} is up after it was killed");
        }
        drop(Stack::up(dir.path(), &Options::default())?);
        for part in Part::ALL {
            ensure!(stack.is_up(part)?, "{part} is not up after it was started");
        }
        ensure!(query(&stack, "SELECT count(*) FROM kept").await? == [(round + 1).to_string()]);
        ensure!(query(&stack, "SELECT count(*) FROM pg_replication_slots").await? == ["1"]);
        ensure!(records(&stack)? == i64::from(round));
        for (number, schema) in (1..).zip(&schemas) {
            let id = schema["id"].as_i64().context("no id")?;
            let kept = http
                .get(format!("{}/schemas/ids/{id}", stack.registry_url()))
                .await?;
            ensure!(
                kept["schema"]
                    .as_str()
                    .is_some_and(|s| s.contains(&format!("\"size\":{number}"))),
                "{kept}"
            );
            let document = http
                .get(format!("{}/kept/_doc/{number}", stack.search_url()))
                .await?;
            ensure!(document["found"] == true, "{document}");
        }
    }
    Ok(())
}

/// A frozen part answers nothing, and goes on where it was; a stopped one comes back on its port.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_is_frozen_stopped_and_started_alone() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let stack = owned(dir.path(), &[Part::Postgres])?;
    let other = Stack::attach(dir.path())?;
    ensure!(!stack.is_up(Part::Kafka)?);
    stack.pause(Part::Postgres)?;
    ensure!(!stack.is_up(Part::Postgres)?);
    other.resume(Part::Postgres)?;
    ensure!(stack.is_up(Part::Postgres)?);
    let session = tokio_postgres::connect(stack.postgres_url(), tokio_postgres::NoTls).await?;
    other.stop(Part::Postgres)?;
    drop(session);
    let status = stack.status()?;
    ensure!(
        status.iter().all(|part| !part.up && part.pid.is_none()),
        "{status:?}"
    );
    stack.start(Part::Postgres)?;
    ensure!(query(&other, "SELECT 1").await? == ["1"]);
    Ok(())
}

/// Two stacks do not meet, settings of a test's own count, and a dropped stack leaves no process.
#[tokio::test(flavor = "multi_thread")]
async fn two_stacks_run_side_by_side() -> Result<()> {
    let (one, two) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let first = owned(one.path(), &[Part::Postgres])?;
    let replica = Options {
        parts: vec![Part::Postgres],
        postgres_settings: [("wal_level".to_owned(), "replica".to_owned())].into(),
        lifetime: Lifetime::Owned,
        ..Options::default()
    };
    let second = Stack::up(two.path(), &replica)?;
    ensure!(query(&first, "SHOW wal_level").await? == ["logical"]);
    ensure!(query(&second, "SHOW wal_level").await? == ["replica"]);
    drop(second);
    ensure!(query(&first, "SELECT 1").await? == ["1"]);
    let second = Stack::attach(two.path())?;
    ensure!(!second.is_up(Part::Postgres)?);
    ensure!(processes_that_name(two.path())?.is_empty());
    ensure!(!processes_that_name(one.path())?.is_empty());
    Ok(())
}

/// A stack whose folder was removed too early leaves no process.
#[test]
fn servers_end_without_their_folder() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().canonicalize()?;
    let stack = owned(&path, &[Part::Postgres])?;
    ensure!(!processes_that_name(&path)?.is_empty());
    std::fs::remove_file(path.join("stack.json"))?;
    drop(stack);
    until("all processes are gone", || {
        processes_that_name(&path).is_ok_and(|found| found.is_empty())
    })
}

/// An owner that is killed, and so cannot clean up, leaves no process either.
#[test]
fn servers_end_with_a_killed_owner() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().canonicalize()?;
    let mut owner = Command::new(env!("CARGO_BIN_EXE_stack"))
        .arg("--dir")
        .arg(&path)
        .args([
            "run",
            "sh",
            "-c",
            "echo started > \"$TRIBUTARY_STACK_DIR/started\"; exec sleep 600",
        ])
        .spawn()?;
    until("the command runs", || path.join("started").exists())?;
    let stack = Stack::attach(&path)?;
    for part in Part::ALL {
        ensure!(stack.is_up(part)?, "{part} is not up");
    }
    owner.kill()?;
    owner.wait()?;
    until("all processes are gone", || {
        processes_that_name(&path).is_ok_and(|found| found.is_empty())
    })
}

/// A port that another program took while its part was down is an error that names both.
#[test]
fn a_taken_port_is_named() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port();
    let options = Options {
        parts: vec![Part::Registry],
        ports: format!("registry={port}").parse()?,
        lifetime: Lifetime::Owned,
        ..Options::default()
    };
    let error = Stack::up(dir.path(), &options)
        .err()
        .context("it started")?;
    let expected = format!(
        "port {port} of registry is taken by another program: end that, or make a stack with other ports"
    );
    ensure!(error.to_string() == expected, "{error}");
    Ok(())
}

fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let deadline = std::time::Instant::now() + Duration::from_secs(240);
    while !holds() {
        ensure!(
            std::time::Instant::now() < deadline,
            "not within four minutes: {what}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// All processes that have this path in their command line, working directory or environment.
fn processes_that_name(dir: &Path) -> Result<Vec<String>> {
    let name = dir.canonicalize()?;
    let name = name.to_str().context("not UTF-8")?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        let pid = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if pid.parse::<u32>().is_err() || pid == std::process::id().to_string() {
            continue;
        }
        let texts =
            ["cmdline", "environ"].map(|file| std::fs::read(path.join(file)).unwrap_or_default());
        let cwd = std::fs::read_link(path.join("cwd")).unwrap_or_default();
        if texts
            .iter()
            .any(|text| String::from_utf8_lossy(text).contains(name))
            || cwd.starts_with(name)
        {
            found.push(format!(
                "{pid}: {}",
                String::from_utf8_lossy(&texts[0]).replace('\0', " ")
            ));
        }
    }
    Ok(found)
}
