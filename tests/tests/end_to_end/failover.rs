//! The source when its server is replaced: standbys that are promoted, with and without all that was published, a
//! second instance that takes over, and every gap that a start can find.

mod gaps;
mod instances;
mod publication;
mod registry;
mod topics;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio_postgres::Client;
use tributary_tests::oracle::{TopicRecord, compare_changes, install_audit, read_audit};
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::shop;
use tributary_tests::stack::{Link, Postgres, Server, Stack};

const PATIENCE: Duration = Duration::from_secs(60);
/// How long after a promotion the consumption goes on, at the latest.
const PROMOTED: Duration = Duration::from_secs(35);
const TABLE: &str = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, name text);
    INSERT INTO s.t SELECT g, 'old ' || g FROM generate_series(1, 500) g";
const RESNAPSHOT: &str = "on_gap = \"resnapshot\"\n";

type Rows = BTreeMap<String, Option<String>>;

/// The table that a topic's records make, folded as a consumer does.
fn fold(records: &[TopicRecord]) -> Rows {
    let mut rows: BTreeMap<String, (u64, Option<String>)> = BTreeMap::new();
    for record in records {
        match (&record.change, record.key.get("id"), record.below) {
            (Some(change), None, Some(below)) if change.op == 't' => {
                rows.retain(|_, (seq, _)| *seq >= below);
            }
            (Some(change), Some(id), _) if change.op != 'd' => {
                rows.insert(id.clone(), (record.seq, change.after["name"].clone()));
            }
            (_, Some(id), _) => {
                rows.remove(id);
            }
            (change, None, _) => panic!("a record without a key: {change:?}"),
        }
    }
    rows.into_iter().map(|(id, (_, name))| (id, name)).collect()
}

async fn table(client: &Client) -> Rows {
    let rows = client.query("SELECT id::text, name FROM s.t", &[]);
    let rows = rows.await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn records(pipeline: &Pipeline) -> Vec<TopicRecord> {
    let mut topics = pipeline.read_topics(&["s.t"]).await.unwrap();
    topics.remove(&pipeline.topic("s.t")).unwrap()
}

async fn wait_until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "{what} does not happen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A source that has taken its first snapshot. `options` stand before the rest of its configuration.
fn start_source(pipeline: &Pipeline, instance: &str, options: &str) -> Service {
    let config = format!("{options}{}", pipeline.source_config());
    let mut source = pipeline.service(Kind::Source, instance, &config).unwrap();
    source.start().unwrap();
    source
}

/// An application that inserts, updates and deletes, on whichever server takes writes.
struct Application {
    stop: Arc<AtomicBool>,
    running: tokio::task::JoinHandle<()>,
}

impl Application {
    fn start(url: &str) -> Self {
        let (stop, url) = (Arc::new(AtomicBool::new(false)), url.to_owned());
        let stopped = Arc::clone(&stop);
        let running = tokio::spawn(async move {
            let (mut n, mut client): (i32, Option<Client>) = (1_000, None);
            while !stopped.load(Ordering::Relaxed) {
                n += 1;
                let open = match client.take() {
                    Some(open) => Ok(open),
                    None => shop::connect(&url).await,
                };
                let transaction = format!(
                    "BEGIN; INSERT INTO s.t VALUES ({n}, 'new'); UPDATE s.t SET name = 'changed by {n}' WHERE id IN ({}, {});
                     DELETE FROM s.t WHERE id = {}; COMMIT",
                    n - 3,
                    n % 500,
                    n - 20
                );
                // A server that is away, or goes away: the next one is asked.
                if let Ok(open) = open
                    && open.batch_execute(&transaction).await.is_ok()
                {
                    client = Some(open);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Self { stop, running }
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.running.await.unwrap();
    }
}

/// A primary with a streaming standby, and a pipeline whose source knows both.
struct Pair {
    _stack: Stack,
    pipeline: Pipeline,
    primary: Server,
    standby: Server,
    link: Link,
}

impl Pair {
    async fn new(
        name: &str,
        postgres: Postgres,
        on_primary: &[(&str, &str)],
        on_standby: &[(&str, &str)],
    ) -> Self {
        let stack = Stack::from_env().unwrap();
        let mut pipeline = Pipeline::new(&stack, name).await.unwrap();
        let mut primary =
            Server::start_new(pipeline.dir(), "primary", postgres, on_primary).unwrap();
        let client = shop::connect(&primary.url("postgres")).await.unwrap();
        client.batch_execute(TABLE).await.unwrap();
        if !on_standby.is_empty() {
            let slot = "SELECT pg_create_physical_replication_slot('standby')";
            client.batch_execute(slot).await.unwrap();
        }
        drop(client);
        let link = Link::to(primary.port()).unwrap();
        let standby =
            Server::start_standby(&mut primary, "standby", link.port(), on_standby).unwrap();
        pipeline.tables = vec!["s.*".to_owned()];
        // The standby first: it must be passed over.
        pipeline.source_url = format!(
            "postgres://postgres:postgres@{},{}/postgres?target_session_attrs=read-write&connect_timeout=3",
            standby.address(),
            primary.address()
        );
        Self {
            _stack: stack,
            pipeline,
            primary,
            standby,
            link,
        }
    }

    /// Waits until the standby has the source's slot.
    async fn wait_for_synced_slot(&self) {
        let client = shop::connect(&self.standby.url("postgres")).await.unwrap();
        wait_until("the slot on the standby", async || {
            // A reload wakes the worker, which otherwise sleeps for up to half a minute.
            let synced = "SELECT pg_reload_conf(), EXISTS (SELECT FROM pg_replication_slots WHERE synced AND NOT temporary)";
            client.query_one(synced, &[]).await.unwrap().get(1)
        })
        .await;
    }

    /// `check` finds nothing, but what is taken from the standby's settings.
    async fn check_tells(&self, source: &Service) {
        let (code, out, err) = source.command(&["check"]).unwrap();
        assert_eq!(code, 0, "{out}{err}");
        let client = shop::connect(&self.standby.url("postgres")).await.unwrap();
        for setting in ["hot_standby_feedback = off", "sync_replication_slots = off"] {
            let alter = format!("ALTER SYSTEM SET {setting}");
            client.batch_execute(&alter).await.unwrap();
        }
        let reload = "SELECT pg_reload_conf()";
        client.batch_execute(reload).await.unwrap();
        wait_until("what check finds", async || {
            let (code, out, err) = source.command(&["check"]).unwrap();
            let said = format!("{out}{err}");
            let names = ["hot_standby_feedback", "sync_replication_slots"];
            code != 0
                && names
                    .iter()
                    .all(|name| said.contains(&format!("{name} is not on")))
        })
        .await;
        client
            .batch_execute("ALTER SYSTEM RESET ALL")
            .await
            .unwrap();
        client.batch_execute(reload).await.unwrap();
    }

    /// Kills the primary, promotes the standby, and waits until the source has published what is committed then.
    async fn fail_over(&mut self, source: &mut Service) {
        self.primary.kill().unwrap();
        let client = shop::connect(&self.standby.url("postgres")).await.unwrap();
        let promoted = client
            .query_one("SELECT pg_promote(true, 60)", &[])
            .await
            .unwrap();
        assert!(promoted.get::<_, bool>(0));
        let since = Instant::now();
        let change = "INSERT INTO s.t VALUES (-1, 'behind the promotion')";
        client.batch_execute(change).await.unwrap();
        self.pipeline.wait_source(source, PROMOTED).await.unwrap();
        assert!(since.elapsed() <= PROMOTED, "{:?}", since.elapsed());
    }

    /// The topic, folded, is the table of the new primary.
    async fn judge(&self, source: &mut Service) -> Vec<TopicRecord> {
        self.pipeline.wait_source(source, PATIENCE).await.unwrap();
        let client = self.pipeline.source().await.unwrap();
        wait_until("the end of the snapshots", async || {
            source
                .metric("tributary_source_snapshot_tables")
                .unwrap_or_default()
                == 0.0
        })
        .await;
        self.pipeline.wait_source(source, PATIENCE).await.unwrap();
        let records = records(&self.pipeline).await;
        assert_eq!(
            fold(&records),
            table(&client).await,
            "{}",
            source.log_tail()
        );
        records
    }
}

fn events(source: &Service) -> f64 {
    source
        .metric("tributary_source_events_total")
        .unwrap_or_default()
}

async fn more_events(source: &Service, count: f64) {
    let before = events(source);
    wait_until("the stream", async || events(source) >= before + count).await;
}

/// The slot stays behind with the old primary, and so do changes that were published already.
async fn promoted_without_what_was_published(name: &str, postgres: Postgres) {
    let mut pair = Pair::new(name, postgres, &[], &[]).await;
    let mut source = start_source(&pair.pipeline, "source", RESNAPSHOT);
    source.wait_ready(PATIENCE).unwrap();
    let application = Application::start(&pair.pipeline.source_url);
    more_events(&source, 200.0).await;
    pair.link.cut();
    // What comes now is on the old primary and in the topic, and nowhere else. A row that nobody touches later:
    let client = shop::connect(&pair.primary.url("postgres")).await.unwrap();
    let lost =
        "INSERT INTO s.t VALUES (-2, 'lost with the primary'); DELETE FROM s.t WHERE id = 500";
    client.batch_execute(lost).await.unwrap();
    drop(client);
    pair.pipeline
        .wait_source(&mut source, PATIENCE)
        .await
        .unwrap();
    pair.fail_over(&mut source).await;
    application.stop().await;
    let records = pair.judge(&mut source).await;
    assert!(
        records.iter().any(|record| record.below.is_some()),
        "nothing was swept"
    );
    assert!(
        source.log().contains("went over to timeline 2"),
        "{}",
        source.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_promoted_behind_us_converges() {
    let postgres = Postgres::from_env().unwrap().unwrap_or_default();
    promoted_without_what_was_published("behind", postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_with_a_failover_slot_goes_on_without_a_loss() {
    let postgres = Postgres::from_env()
        .unwrap()
        .unwrap_or_default()
        .max(Postgres::V17);
    let on_primary = [("synchronized_standby_slots", "standby")];
    let on_standby = [
        ("sync_replication_slots", "on"),
        ("hot_standby_feedback", "on"),
        ("primary_slot_name", "standby"),
    ];
    let mut pair = Pair::new("failover_slot", postgres, &on_primary, &on_standby).await;
    let mut source = start_source(&pair.pipeline, "source", "");
    source.wait_ready(PATIENCE).unwrap();
    let client = shop::connect(&pair.primary.url("postgres")).await.unwrap();
    install_audit(&client, "s.t").await.unwrap();
    drop(client);
    let application = Application::start(&pair.pipeline.source_url);
    pair.wait_for_synced_slot().await;
    pair.check_tells(&source).await;
    more_events(&source, 200.0).await;
    pair.fail_over(&mut source).await;
    more_events(&source, 50.0).await;
    application.stop().await;
    let records = pair.judge(&mut source).await;
    let client = pair.pipeline.source().await.unwrap();
    let noted = read_audit(&client, "s.t", &["id"]).await.unwrap();
    assert!(noted.len() > 200, "{} changes", noted.len());
    assert_eq!(compare_changes(&noted, &records), Vec::<String>::new());
    assert!(
        records.iter().all(|record| record.below.is_none()),
        "{}",
        source.log()
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute: make test-long"]
async fn a_failover_slot_behind_what_was_published_converges() {
    // Without synchronized_standby_slots the source may be ahead of the standby.
    let on_standby = [
        ("sync_replication_slots", "on"),
        ("hot_standby_feedback", "on"),
        ("primary_slot_name", "standby"),
    ];
    let mut pair = Pair::new("slot_behind", Postgres::V17, &[], &on_standby).await;
    let mut source = start_source(&pair.pipeline, "source", RESNAPSHOT);
    source.wait_ready(PATIENCE).unwrap();
    let application = Application::start(&pair.pipeline.source_url);
    pair.wait_for_synced_slot().await;
    pair.link.cut();
    more_events(&source, 200.0).await;
    pair.fail_over(&mut source).await;
    application.stop().await;
    let records = pair.judge(&mut source).await;
    assert!(
        records.iter().any(|record| record.below.is_some()),
        "nothing was swept"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute: make test-long"]
async fn a_standby_promoted_with_everything_converges() {
    let postgres = Postgres::from_env().unwrap().unwrap_or_default();
    let mut pair = Pair::new("received", postgres, &[], &[]).await;
    let mut source = start_source(&pair.pipeline, "source", RESNAPSHOT);
    source.wait_ready(PATIENCE).unwrap();
    let application = Application::start(&pair.pipeline.source_url);
    more_events(&source, 200.0).await;
    pair.fail_over(&mut source).await;
    application.stop().await;
    pair.judge(&mut source).await;
}
