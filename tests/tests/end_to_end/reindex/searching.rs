//! Clients that search by the alias all the while, and find each row that is never deleted, no older than they have seen it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::PATIENCE;
use super::stage::Stage;

/// Rows that each search looks for.
const AT_ONCE: i64 = 40;
const PACE: Duration = Duration::from_millis(10);

#[derive(Default)]
struct Seen {
    ends: AtomicBool,
    searches: AtomicU64,
    failures: Mutex<Vec<String>>,
}

pub(crate) struct Searchers {
    seen: Arc<Seen>,
    tasks: JoinSet<()>,
}

impl Searchers {
    pub(crate) fn begin(stage: &Arc<Stage>, alias: &str, clients: i64) -> Self {
        let seen = Arc::new(Seen::default());
        let mut tasks = JoinSet::new();
        for client in 0..clients {
            let (stage, seen) = (Arc::clone(stage), Arc::clone(&seen));
            let path = format!("/{alias}/_search");
            tasks.spawn(async move { search(&stage, &path, client, &seen).await });
        }
        Self { seen, tasks }
    }

    /// Waits until there were so many more searches.
    pub(crate) async fn until_more(&self, searches: u64) {
        let (begun, until) = (
            Instant::now(),
            self.seen.searches.load(Ordering::Relaxed) + searches,
        );
        while self.seen.searches.load(Ordering::Relaxed) < until {
            assert!(begun.elapsed() < PATIENCE, "{:?}", self.seen.failures);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How many searches there were, and what was wrong with them.
    pub(crate) async fn end(mut self) -> (u64, Vec<String>) {
        self.seen.ends.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        let failures = self.seen.failures.lock().unwrap().clone();
        (self.seen.searches.load(Ordering::Relaxed), failures)
    }
}

async fn search(stage: &Stage, path: &str, client: i64, seen: &Seen) {
    let mut versions: HashMap<i64, u64> = HashMap::new();
    for round in 0.. {
        if seen.ends.load(Ordering::Relaxed) {
            return;
        }
        let first = 1 + ((round * 13 + client) * AT_ONCE) % (stage.rows() - AT_ONCE);
        let range = json!({"range": {"id": {"gte": first, "lt": first + AT_ONCE}}});
        let body =
            json!({"size": AT_ONCE + 1, "query": range, "_source": ["id", "_tributary_seq"]});
        let (status, answer) = stage.call(Method::POST, path, Some(body)).await;
        if let Err(what) = check(status, &answer, &mut versions) {
            seen.failures.lock().unwrap().push(what);
        }
        seen.searches.fetch_add(1, Ordering::Relaxed);
        // The machine is the engine's, too.
        tokio::time::sleep(PACE).await;
    }
}

fn check(status: u16, answer: &Value, versions: &mut HashMap<i64, u64>) -> Result<(), String> {
    let is_whole = answer["_shards"]["failed"] == 0 && answer["timed_out"] == false;
    if status != 200 || !is_whole {
        return Err(format!("{status}: {answer}"));
    }
    let hits = answer["hits"]["hits"].as_array().unwrap();
    if hits.len() as i64 != AT_ONCE {
        return Err(format!("{} rows of {AT_ONCE}: {answer}", hits.len()));
    }
    for hit in hits {
        let source = &hit["_source"];
        let (id, seq) = (
            source["id"].as_i64().unwrap(),
            // What another connector has written has none.
            source["_tributary_seq"].as_u64().unwrap_or_default(),
        );
        let before = versions.insert(id, seq).unwrap_or_default();
        if seq < before {
            return Err(format!(
                "row {id} was at {before}, and is at {seq} in {}",
                hit["_index"]
            ));
        }
    }
    Ok(())
}
