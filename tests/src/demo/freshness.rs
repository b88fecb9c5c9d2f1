//! How long a committed row takes until a search finds it, and until the warehouse has it, as an application would
//! notice: by asking again and again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio_postgres::Client;

use super::engine::SearchEngine;
use crate::pipeline::Pipeline;

/// Above every product of the catalogue, and above what the workload renumbers to.
const FIRST_ID: i64 = 1_000_000_000;
/// Between two rows, at least; at random up to twice as much, so that they keep no step with the engine's refresh.
const PAUSE: Duration = Duration::from_millis(350);
/// Between two questions to one target, however many rows are awaited there: asking must not slow it down.
const ASK_AGAIN: Duration = Duration::from_millis(50);
/// After this a row counts as lost.
const LIMIT: Duration = Duration::from_secs(60);

/// The times of all marked rows so far.
#[derive(Debug, Default)]
pub(super) struct Freshness {
    search: Arrivals,
    warehouse: Arrivals,
    stop: AtomicBool,
    all_committed: AtomicBool,
}

impl Freshness {
    /// Lets [`Self::measure`] return once the rows that are on their way have arrived.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// From commit to found by a search.
    pub(super) fn searchable(&self) -> Vec<Duration> {
        lock(&self.search.took).clone()
    }

    /// From commit to seen by SQL in the warehouse.
    pub(super) fn in_warehouse(&self) -> Vec<Duration> {
        lock(&self.warehouse.took).clone()
    }

    /// Commits marked rows and waits for each on both sides until stopped.
    ///
    /// # Errors
    /// A row does not arrive within a minute, or a server refuses.
    pub(super) async fn measure(&self, pipeline: &Pipeline, engine: &SearchEngine) -> Result<()> {
        let alias = pipeline.topic("catalog.product");
        let source = pipeline.source().await?;
        let warehouse = pipeline.warehouse().await?;
        tokio::try_join!(
            self.commit(&source),
            self.watch_search(engine, &alias),
            self.watch_warehouse(&warehouse),
        )?;
        Ok(())
    }

    async fn commit(&self, source: &Client) -> Result<()> {
        let mut rng = SmallRng::seed_from_u64(7);
        for id in FIRST_ID.. {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            source
                .execute(
                    "INSERT INTO catalog.product (id, sku, name, description, price, record) VALUES ($1, $2, 'marked row', $2, 0, '')",
                    &[&id, &mark(id)],
                )
                .await
                .context("commit a marked row")?;
            self.search.expect(id);
            self.warehouse.expect(id);
            tokio::time::sleep(PAUSE.mul_f64(rng.random_range(1.0..2.0))).await;
        }
        self.all_committed.store(true, Ordering::Release);
        Ok(())
    }

    async fn watch_search(&self, engine: &SearchEngine, alias: &str) -> Result<()> {
        while let Some(awaited) = self.awaited(&self.search, "search engine")? {
            if !awaited.is_empty() {
                let marks: Vec<String> = awaited.into_iter().map(mark).collect();
                let hits = engine
                    .search(alias, &["description"], &marks.join(" "))
                    .await?;
                self.search
                    .found(hits.iter().filter_map(|hit| hit.source["id"].as_i64()));
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
        Ok(())
    }

    async fn watch_warehouse(&self, warehouse: &Client) -> Result<()> {
        while let Some(awaited) = self.awaited(&self.warehouse, "warehouse")? {
            if !awaited.is_empty() {
                let query = "SELECT id FROM catalog.product WHERE id = ANY($1)";
                let rows = warehouse.query(query, &[&awaited]).await?;
                self.warehouse.found(rows.iter().map(|row| row.get(0)));
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
        Ok(())
    }

    /// The rows that have not arrived; nothing once there will be no more.
    fn awaited(&self, arrivals: &Arrivals, place: &str) -> Result<Option<Vec<i64>>> {
        // Read first: what is committed before it is set is in the list below.
        let all_committed = self.all_committed.load(Ordering::Acquire);
        let awaited = lock(&arrivals.awaited);
        if awaited.is_empty() && all_committed {
            return Ok(None);
        }
        if awaited
            .values()
            .any(|committed| committed.elapsed() > LIMIT)
        {
            bail!("a marked row is not in the {place} after {LIMIT:?}");
        }
        Ok(Some(awaited.keys().copied().collect()))
    }
}

/// The rows that one target is to get.
#[derive(Debug, Default)]
struct Arrivals {
    /// With the time of the commit.
    awaited: Mutex<BTreeMap<i64, Instant>>,
    took: Mutex<Vec<Duration>>,
}

impl Arrivals {
    fn expect(&self, id: i64) {
        lock(&self.awaited).insert(id, Instant::now());
    }

    fn found(&self, ids: impl Iterator<Item = i64>) {
        let mut awaited = lock(&self.awaited);
        let arrived = ids.filter_map(|id| awaited.remove(&id));
        lock(&self.took).extend(arrived.map(|committed| committed.elapsed()));
    }
}

/// A word that no other row has.
fn mark(id: i64) -> String {
    format!("marked{id}")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{Arrivals, Freshness, Ordering};

    #[test]
    fn a_row_counts_once_and_the_last_ends_the_watch() {
        let freshness = Freshness::default();
        freshness.search.expect(1);
        freshness.search.expect(2);
        let awaited = |arrivals: &Arrivals| freshness.awaited(arrivals, "place").unwrap();
        assert_eq!(awaited(&freshness.search), Some(vec![1, 2]));
        freshness.search.found([2, 2, 3].into_iter());
        assert_eq!(freshness.searchable().len(), 1);
        freshness.all_committed.store(true, Ordering::Release);
        assert_eq!(awaited(&freshness.search), Some(vec![1]));
        freshness.search.found([1].into_iter());
        assert_eq!(awaited(&freshness.search), None);
        assert_eq!(awaited(&freshness.warehouse), None);
        assert!(freshness.in_warehouse().is_empty());
    }
}
