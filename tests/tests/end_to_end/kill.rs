//! The main job under fire: every service killed again and again, every server restarted, and then each row compared.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use rand::RngExt;
use tributary_tests::oracle::{ChangeLog, Event, TopicRecord, compare_changes};
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::shop::{self, TABLES, Workload};
use tributary_tests::stack::{Lifetime, Options, Part, Stack};

/// How often each service is killed at work.
const PRODUCTS: i64 = 2_000;
const RUNNERS: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(120);

/// What tells that a process is at work: records of its are in the log, or in the target, since it was started.
const fn work_metric(kind: Kind) -> &'static str {
    match kind {
        Kind::Source => "tributary_source_events_total",
        Kind::SinkElastic | Kind::SinkRedshift => "tributary_sink_changes_total",
    }
}

/// How far the fire has come.
#[derive(Debug, Default)]
struct Fire {
    /// Services that were killed often enough.
    done: AtomicUsize,
    restarted: AtomicBool,
}

impl Fire {
    fn is_over(&self) -> bool {
        self.restarted.load(Ordering::Relaxed) && self.done.load(Ordering::Relaxed) == 3
    }
}

/// Kills a service, each time at work, and starts it again, until all were killed `enough` times and all servers
/// restarted. Returns the phases in which it was hit.
async fn kill_at_work(
    mut service: Service,
    fire: Arc<Fire>,
    enough: usize,
) -> (Service, BTreeMap<String, usize>) {
    let mut phases = BTreeMap::new();
    let mut kills = 0;
    while !fire.is_over() {
        let deadline = Instant::now() + PATIENCE;
        while service
            .metric(work_metric(service.kind()))
            .unwrap_or_default()
            <= 0.0
        {
            assert!(
                service.is_running().unwrap(),
                "{} has ended:\n{}",
                service.kind(),
                service.log_tail()
            );
            assert!(
                Instant::now() < deadline,
                "{} does nothing before kill {kills}:\n{}",
                service.kind(),
                service.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // At any moment of its work, not always at the first.
        let pause = rand::rng().random_range(0..400);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        *phases.entry(phase(&service)).or_insert(0) += 1;
        service.kill().unwrap();
        service.start().unwrap();
        kills += 1;
        if kills == enough {
            fire.done.fetch_add(1, Ordering::Relaxed);
        }
    }
    (service, phases)
}

/// The phase that `/health` tells; a service that does not answer in time is busy with something.
fn phase(service: &Service) -> String {
    let body = service
        .get("/health")
        .map(|(_, body)| body)
        .unwrap_or_default();
    let health: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
    health["phase"]
        .as_str()
        .unwrap_or("not answering")
        .to_owned()
}

/// Each server is killed and started once, spread over the time of the kills.
async fn restart_servers(stack: Arc<Stack>, fire: Arc<Fire>) {
    for part in [Part::Kafka, Part::Postgres, Part::Search] {
        tokio::time::sleep(Duration::from_secs(20)).await;
        let stack = Arc::clone(&stack);
        tokio::task::spawn_blocking(move || {
            stack.kill(part).unwrap();
            stack.start(part).unwrap();
        })
        .await
        .unwrap();
        println!("killed and started {part:?}");
    }
    fire.restarted.store(true, Ordering::Relaxed);
}

/// The workload, the kills and the restarts; gives the services back, all of them running.
async fn set_fire(
    stack: &Arc<Stack>,
    url: &str,
    services: [Service; 3],
    kills: usize,
) -> Vec<Service> {
    let workload = Arc::new(Workload::default());
    let runners: Vec<_> = (0..RUNNERS)
        .map(|seed| {
            let (workload, url) = (Arc::clone(&workload), url.to_owned());
            tokio::spawn(async move { workload.run(&url, seed, PRODUCTS, 25.0).await })
        })
        .collect();
    let fire = Arc::new(Fire::default());
    let restarts = tokio::spawn(restart_servers(Arc::clone(stack), Arc::clone(&fire)));
    let killed =
        services.map(|service| tokio::spawn(kill_at_work(service, Arc::clone(&fire), kills)));
    let mut services = Vec::new();
    // The first that fails ends them all: the others would wait for it for ever.
    for (service, phases) in try_join_all(killed).await.unwrap() {
        println!(
            "{}: killed {} times, in {phases:?}",
            service.kind(),
            phases.values().sum::<usize>()
        );
        services.push(service);
    }
    restarts.await.unwrap();
    workload.stop();
    for runner in runners {
        runner.await.unwrap().unwrap();
    }
    println!("{} transactions", workload.transactions());
    services
}

/// Each change is in its topic once, in commit order per key.
fn judge_topics(
    pipeline: &Pipeline,
    events: &[Event],
    topics: &BTreeMap<String, Vec<TopicRecord>>,
) {
    let mut compared = 0;
    for table in TABLES {
        let expected: Vec<_> = events
            .iter()
            .filter(|event| event.table == table)
            .cloned()
            .collect();
        compared += expected.len();
        let differences = compare_changes(&expected, &topics[&pipeline.topic(table)]);
        assert!(differences.is_empty(), "topic of {table}: {differences:#?}");
    }
    println!("{compared} changes compared with the topics");
    assert!(
        compared > 1_000,
        "too few changes to show anything: {compared}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_doubled_or_reordered_by_kills_and_restarts() {
    burn(8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes 6 minutes: make test-long"]
async fn nothing_is_lost_doubled_or_reordered_by_twenty_kills() {
    burn(20).await;
}

/// Kills each service at work so often, restarts the servers, and judges topics and targets.
async fn burn(kills: usize) {
    let dir = tempfile::Builder::new()
        .prefix("kill-")
        .tempdir_in(tributary_tests::target_dir())
        .unwrap();
    let options = Options {
        lifetime: Lifetime::Owned,
        ..Options::default()
    };
    let stack = Arc::new(Stack::up(dir.path(), &options).unwrap());
    let pipeline = Pipeline::new(&stack, "kill").await.unwrap();
    let client = pipeline.source().await.unwrap();
    client.batch_execute(shop::SCHEMA).await.unwrap();
    shop::fill(&client, PRODUCTS).await.unwrap();

    let mut services = pipeline.services().unwrap();
    for service in &mut services {
        service.start().unwrap();
    }
    // The changes that are judged begin behind the snapshot.
    services[0].wait_ready(PATIENCE).unwrap();
    let changes = ChangeLog::create(&client, &pipeline.source_url, "oracle", pipeline.dir())
        .await
        .unwrap();
    drop(client);
    let mut services = set_fire(&stack, &pipeline.source_url, services, kills).await;

    pipeline
        .wait_source(&mut services[0], PATIENCE)
        .await
        .unwrap();
    let client = pipeline.source().await.unwrap();
    let events = changes.read(&client).await.unwrap();
    let topics = pipeline.read_topics(&TABLES).await.unwrap();
    judge_topics(&pipeline, &events, &topics);
    for sink in &mut services[1..] {
        let group = pipeline.group(sink.kind());
        pipeline
            .wait_sink(sink, &group, &topics, PATIENCE)
            .await
            .unwrap();
    }
    assert_eq!(
        pipeline.warehouse_differences(&TABLES, None).await.unwrap(),
        Vec::<String>::new()
    );
    assert_eq!(
        pipeline.search_differences(&TABLES, "").await.unwrap(),
        Vec::<String>::new()
    );
}
