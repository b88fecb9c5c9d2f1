//! The live phase: an application works, both sinks follow, and marked rows tell how fresh the targets are.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use super::Demo;
use super::board::{detail, grouped, quantile, say};
use super::freshness::Freshness;
use crate::shop::Workload;

const DURATION: Duration = Duration::from_secs(26);
/// Between two lines.
const PERIOD: Duration = Duration::from_secs(2);
/// Connections of the application, and transactions per second of each.
const RUNNERS: u32 = 4;
const PER_SECOND: f64 = 25.0;
/// How long the runners may take to finish, and the last marked rows to arrive.
const LAST_LIMIT: Duration = Duration::from_secs(90);

impl Demo {
    /// Runs the workload with a line every two seconds, and prints the freshness at the end.
    ///
    /// # Errors
    /// The workload fails, a service ends, or a marked row does not arrive.
    pub(super) async fn work_live(&mut self, products: i64) -> Result<()> {
        let (workload, mut tasks) = begin_workload(&self.pipeline.source_url, products);
        let freshness = Arc::new(Freshness::default());
        let (measured, pipeline, engine) = (
            Arc::clone(&freshness),
            Arc::clone(&self.pipeline),
            self.engine.clone(),
        );
        tasks.spawn(async move { measured.measure(&pipeline, &engine).await });
        say(format_args!(
            "live: {RUNNERS} connections order, move stock, change prices and withdraw products, for {} s",
            DURATION.as_secs()
        ));
        self.report(&workload, &freshness, &mut tasks).await?;
        workload.stop();
        freshness.stop();
        let ending = async {
            while let Some(ended) = tasks.join_next().await {
                ended??;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(LAST_LIMIT, ending)
            .await
            .context("the last rows have not arrived in time")??;
        say("freshness, from commit in the source, asked every 50 ms:");
        show("found by a search", &freshness.searchable());
        show("in the warehouse", &freshness.in_warehouse());
        detail(
            "(a search engine shows new documents at its next refresh only: here once a second, if it has the CPU for it)",
        );
        Ok(())
    }

    async fn report(
        &mut self,
        workload: &Workload,
        freshness: &Freshness,
        tasks: &mut JoinSet<Result<()>>,
    ) -> Result<()> {
        let before = self.services.of_source(EVENTS);
        let mut lines = tokio::time::interval(PERIOD);
        lines.tick().await;
        for _ in 0..DURATION.as_millis() / PERIOD.as_millis() {
            tokio::select! {
                _ = lines.tick() => {}
                // None of them ends by itself but for an error.
                Some(ended) = tasks.join_next() => ended??,
            }
            self.services.alive()?;
            let [search, warehouse] = self.services.behind();
            say(format_args!(
                "live: {} transactions, {} records in the log, behind by: search {}, warehouse {}; newest {} searchable, {} in the warehouse",
                grouped(workload.transactions()),
                grouped(self.services.of_source(EVENTS).saturating_sub(before)),
                grouped(search),
                grouped(warehouse),
                last(&freshness.searchable()),
                last(&freshness.in_warehouse()),
            ));
        }
        Ok(())
    }
}

/// The application's connections, at work until the workload is stopped.
pub(super) fn begin_workload(url: &str, products: i64) -> (Arc<Workload>, JoinSet<Result<()>>) {
    let workload = Arc::new(Workload::default());
    let mut tasks = JoinSet::new();
    for seed in 1..=RUNNERS {
        let (workload, url) = (Arc::clone(&workload), url.to_owned());
        tasks.spawn(async move {
            workload
                .run(&url, u64::from(seed), products, PER_SECOND)
                .await
        });
    }
    (workload, tasks)
}

const EVENTS: &str = "tributary_source_events_total";

fn last(times: &[Duration]) -> String {
    times
        .last()
        .map_or_else(|| "-".to_owned(), |time| format!("{} ms", time.as_millis()))
}

fn show(what: &str, times: &[Duration]) {
    let millis = |share| quantile(times, share).unwrap_or_default().as_millis();
    detail(format_args!(
        "{what:<18} p50 {:>5} ms, p99 {:>5} ms, {} marked rows",
        millis(0.5),
        millis(0.99),
        times.len()
    ));
}
