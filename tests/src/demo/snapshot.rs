//! Watches the first snapshot until every row is in both targets.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio_postgres::Client;

use super::Demo;
use super::board::{grouped, say};
use super::services::rate;
use crate::shop::TABLES;

const LIMIT: Duration = Duration::from_secs(600);
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Between two lines.
const PERIOD: Duration = Duration::from_secs(2);

/// How far the rows are.
#[derive(Debug, Clone, Copy)]
struct Progress {
    read: u64,
    searchable: u64,
    in_warehouse: u64,
}

impl Demo {
    /// Waits for the snapshot, printing how far it is.
    ///
    /// # Errors
    /// A service ends, or it takes more than ten minutes.
    pub(super) async fn watch_snapshot(&mut self) -> Result<()> {
        let total = rows(&self.pipeline.source().await?).await?;
        let warehouse = self.pipeline.warehouse().await?;
        let begun = Instant::now();
        let mut printed = begun;
        let mut source_took = None;
        loop {
            self.services.alive()?;
            let now = Progress {
                read: self
                    .services
                    .of_source("tributary_source_snapshot_rows_total"),
                searchable: self
                    .engine
                    .count(&format!("{}.*", self.pipeline.prefix()))
                    .await?,
                in_warehouse: rows(&warehouse).await?,
            };
            // A snapshot that had to start over has read more than there is.
            let all_read = now.read >= total;
            if all_read {
                source_took.get_or_insert(begun.elapsed());
            }
            if all_read && [now.searchable, now.in_warehouse] == [total; 2] {
                break;
            }
            if begun.elapsed() > LIMIT {
                bail!("of {total} rows the snapshot has brought {now:?} within {LIMIT:?}");
            }
            if printed.elapsed() >= PERIOD {
                printed = Instant::now();
                say(format_args!(
                    "snapshot: {} of {} rows read ({}/s), {} searchable, {} in the warehouse",
                    grouped(now.read),
                    grouped(total),
                    rate(now.read, source_took.unwrap_or_else(|| begun.elapsed())),
                    grouped(now.searchable),
                    grouped(now.in_warehouse)
                ));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let took = begun.elapsed();
        say(format_args!(
            "snapshot: all {} rows are in both targets after {:.1} s, start of the services included ({}/s); the source took {:.1} s",
            grouped(total),
            took.as_secs_f64(),
            rate(total, took),
            source_took.unwrap_or(took).as_secs_f64()
        ));
        Ok(())
    }
}

/// The rows of all tables of the shop that are there already.
async fn rows(client: &Client) -> Result<u64> {
    let mut sum = 0;
    for table in TABLES {
        let (schema, name) = table.split_once('.').unwrap_or_default();
        let quoted = format!("\"{schema}\".\"{name}\"");
        let exists: bool = client
            .query_one("SELECT to_regclass($1) IS NOT NULL", &[&quoted])
            .await?
            .get(0);
        if exists {
            let query = format!("SELECT count(*) FROM {quoted}");
            let count: i64 = client.query_one(&query, &[]).await?.get(0);
            sum += u64::try_from(count)?;
        }
    }
    Ok(sum)
}
