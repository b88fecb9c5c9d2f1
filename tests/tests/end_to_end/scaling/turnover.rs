//! Instances of a sink join and leave under load, by SIGTERM and by SIGKILL; each change's way into the target is timed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;
use tributary_tests::http;
use tributary_tests::pipeline::Pipeline;
use tributary_tests::service::{Kind, Service};
use tributary_tests::stack::Stack;

use super::{PATIENCE, start};

const TABLE: &str = "s.t";
const KEYS: i32 = 64;
const PARTITIONS: i32 = 16;
/// Changes a second.
const RATE: f64 = 50.0;
/// How long a change may wait for its target, whoever joins and leaves.
const LIMIT: Duration = Duration::from_secs(5);
/// After so long the group gives the partitions of a member away that was killed: `session.timeout.ms`.
const SESSION: Duration = Duration::from_secs(10);
const SEED: u64 = 9;
/// With each number of instances and each sink: 84 in all.
const TURNS: u32 = 14;

/// What is on its way, by key, and what was late.
#[derive(Default)]
struct Ways {
    pending: BTreeMap<i32, VecDeque<(i64, Instant)>>,
    /// When holders were killed.
    killed: Vec<Instant>,
    /// When a partition was last seen without a living holder.
    orphaned: BTreeMap<i32, Instant>,
    partition_of: BTreeMap<i32, i32>,
    worst: Duration,
    late: BTreeMap<(i32, i64), String>,
}

impl Ways {
    /// By when a change is in the target. Who holds its partition goes on whatever happens; what nobody holds, the group gives to
    /// nobody while it waits for a member that was killed.
    fn due(&self, key: i32, committed: Instant) -> Instant {
        let orphaned = self.orphaned.get(&self.partition_of[&key]);
        let is_orphan = orphaned.is_some_and(|&seen| seen >= committed);
        let kills = self.killed.iter().filter(|_| is_orphan);
        kills.fold(committed + LIMIT, |due, &killed| {
            if killed <= due && killed + SESSION > committed {
                due.max(killed + SESSION + LIMIT)
            } else {
                due
            }
        })
    }

    /// The target has this version of a key by now.
    fn arrived(&mut self, key: i32, version: i64, now: Instant) {
        let mut pending = self.pending.remove(&key).unwrap_or_default();
        while let Some((_, committed)) = pending.pop_front_if(|(pending, _)| *pending <= version) {
            self.worst = self.worst.max(now - committed);
        }
        if let Some(&(waits, committed)) = pending.front()
            && now > self.due(key, committed)
        {
            let partition = self.partition_of[&key];
            let since = (now - committed).as_secs_f64();
            let what = format!(
                "key {key} of partition {partition}: version {waits} waits for {since:.1} s"
            );
            self.late.entry((key, waits)).or_insert(what);
        }
        self.pending.insert(key, pending);
    }
}

/// The target's version of each key.
async fn versions(pipeline: &Pipeline, kind: Kind, search: &str) -> BTreeMap<i32, i64> {
    if kind == Kind::SinkRedshift {
        let client = pipeline.warehouse().await.unwrap();
        let rows = client.query("SELECT id, v FROM s.t", &[]).await.unwrap();
        return rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    }
    let index = pipeline.topic(TABLE);
    let client = http::client();
    let refresh = client.post(format!("{search}/{index}/_refresh"));
    refresh.send().await.unwrap();
    let url = format!("{search}/{index}/_search?size={KEYS}");
    let found: serde_json::Value = client.get(url).send().await.unwrap().json().await.unwrap();
    let hits = found["hits"]["hits"].as_array().unwrap().iter();
    hits.map(|hit| {
        let number = |name: &str| hit["_source"][name].as_i64().unwrap();
        (i32::try_from(number("id")).unwrap(), number("v"))
    })
    .collect()
}

/// Changes a key each time, until it is told to stop.
fn load(pipeline: &Pipeline, ways: &Arc<Mutex<Ways>>, stop: &Arc<AtomicBool>) -> JoinHandle<i64> {
    let (url, ways, stop) = (
        pipeline.source_url.clone(),
        Arc::clone(ways),
        Arc::clone(stop),
    );
    tokio::spawn(async move {
        let client = tributary_tests::shop::connect(&url).await.unwrap();
        let update = client
            .prepare("UPDATE s.t SET v = $1 WHERE id = $2")
            .await
            .unwrap();
        let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / RATE));
        let mut version = 0;
        while !stop.load(Ordering::Relaxed) {
            tick.tick().await;
            version += 1;
            let key = i32::try_from(version % i64::from(KEYS)).unwrap();
            client.execute(&update, &[&version, &key]).await.unwrap();
            let mut ways = ways.lock().unwrap();
            ways.pending
                .entry(key)
                .or_default()
                .push_back((version, Instant::now()));
        }
        version
    })
}

/// The partitions that an instance holds, as its log says.
fn held(service: &Service) -> BTreeSet<i32> {
    let mut held = BTreeSet::new();
    for line in service.log().lines() {
        let Some((_, partition)) = line.rsplit_once('[') else {
            continue;
        };
        let Ok(partition) = partition.trim_end_matches(']').parse() else {
            continue;
        };
        if line.contains(": is assigned") {
            held.insert(partition);
        } else if line.contains(": is let go") {
            held.remove(&partition);
        }
    }
    held
}

/// Instances of one sink.
struct Crew<'p> {
    pipeline: &'p Pipeline,
    kind: Kind,
    config: String,
    size: usize,
    living: Vec<Service>,
    count: usize,
}

impl<'p> Crew<'p> {
    /// With one instance.
    fn begin(pipeline: &'p Pipeline, kind: Kind, size: usize) -> Self {
        let config = pipeline.sink_config(kind);
        let mut crew = Self {
            pipeline,
            kind,
            config,
            size,
            living: Vec::new(),
            count: 0,
        };
        crew.join();
        crew
    }

    fn join(&mut self) {
        self.count += 1;
        let name = format!("{}-{}", self.kind, self.count);
        let service = start(self.pipeline, self.kind, &name, &self.config);
        self.living.push(service);
    }

    /// One joins, leaves, or is killed; at least one stays.
    fn turn(&mut self, random: &mut SmallRng, ways: &Mutex<Ways>) {
        let may_leave = self.living.len() > 1;
        if !may_leave || (self.living.len() < self.size && random.random_bool(0.5)) {
            return self.join();
        }
        let index = random.random_range(0..self.living.len());
        let mut leaving = self.living.swap_remove(index);
        if random.random_bool(0.5) {
            assert!(leaving.stop(PATIENCE).unwrap().success());
            return;
        }
        leaving.kill().unwrap();
        ways.lock().unwrap().killed.push(Instant::now());
    }

    /// The partitions that none of the living holds.
    fn orphans(&self) -> impl Iterator<Item = i32> {
        let held: BTreeSet<i32> = self.living.iter().flat_map(held).collect();
        (0..PARTITIONS).filter(move |partition| !held.contains(partition))
    }
}

/// A source whose table is in its topic.
async fn begin_source(pipeline: &Pipeline) -> Service {
    let client = pipeline.source().await.unwrap();
    let create = format!(
        "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v bigint NOT NULL);
         INSERT INTO s.t SELECT g, 0 FROM generate_series(0, {KEYS} - 1) g"
    );
    client.batch_execute(&create).await.unwrap();
    let config = pipeline.source_config();
    let config = config.replace("partitions = 3", &format!("partitions = {PARTITIONS}"));
    let mut source = start(pipeline, Kind::Source, "source", &config);
    source.wait_ready(PATIENCE).unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    source
}

/// `turns` times one of up to `size` instances joins or leaves.
async fn turn_over(kind: Kind, size: usize, turns: u32) {
    let stack = Stack::from_env().unwrap();
    let name = format!("turnover_{kind}_{size}").replace('-', "_");
    let mut pipeline = Pipeline::new(&stack, &name).await.unwrap();
    pipeline.tables = vec!["s.*".to_owned()];
    let mut source = begin_source(&pipeline).await;
    let group = pipeline.group(kind);
    let mut crew = Crew::begin(&pipeline, kind, size);
    let topics = pipeline.read_topics(&[TABLE]).await.unwrap();
    pipeline
        .wait_sink(&mut crew.living[0], &group, &topics, PATIENCE)
        .await
        .unwrap();

    let mut ways = Ways::default();
    let records = topics.values().flatten();
    let places = records.map(|record| (record.key["id"].parse().unwrap(), record.partition));
    ways.partition_of.extend(places);
    let ways = Arc::new(Mutex::new(ways));
    let stop = Arc::new(AtomicBool::new(false));
    let loading = load(&pipeline, &ways, &stop);
    let mut random = SmallRng::seed_from_u64(SEED);
    let mut next = Instant::now();
    let mut left = turns;
    while left > 0 {
        let versions = versions(&pipeline, kind, stack.search_url()).await;
        let now = Instant::now();
        let orphans = crew.orphans().map(|partition| (partition, now));
        ways.lock().unwrap().orphaned.extend(orphans);
        for (key, version) in versions {
            ways.lock().unwrap().arrived(key, version, now);
        }
        if now >= next {
            left -= 1;
            crew.turn(&mut random, &ways);
            next = Instant::now() + Duration::from_millis(random.random_range(500..8_000));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let changes = loading.await.unwrap();
    pipeline.wait_source(&mut source, PATIENCE).await.unwrap();
    let topics = pipeline.read_topics(&[TABLE]).await.unwrap();
    pipeline
        .wait_sink(&mut crew.living[0], &group, &topics, PATIENCE)
        .await
        .unwrap();
    let differences = match kind {
        Kind::SinkElastic => pipeline.search_differences(&[TABLE], "").await,
        _ => pipeline.warehouse_differences(&[TABLE], None).await,
    };
    assert_eq!(differences.unwrap(), Vec::<String>::new());
    let ways = ways.lock().unwrap();
    println!(
        "{kind}, up to {size} instances, {turns} turns, {changes} changes: the slowest took {:.1} s",
        ways.worst.as_secs_f64()
    );
    assert!(ways.late.is_empty(), "{:#?}", ways.late.values());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: `make test-long`"]
async fn instances_join_and_leave_and_nobody_waits() {
    for size in [2, 4, 8] {
        for kind in [Kind::SinkRedshift, Kind::SinkElastic] {
            turn_over(kind, size, TURNS).await;
        }
    }
}
