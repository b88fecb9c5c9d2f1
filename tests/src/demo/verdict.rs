//! The end: everything has arrived, and every row of every table is compared with both targets.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::Demo;
use super::board::{bare, detail, grouped, say};
use crate::service::Kind;
use crate::shop::TABLES;

const CATCH_UP_LIMIT: Duration = Duration::from_secs(120);

impl Demo {
    /// Waits until the log has everything that is committed, and both targets have everything that is in the log.
    ///
    /// # Errors
    /// It takes more than two minutes, or a service ends.
    pub(super) async fn catch_up(&mut self) -> Result<()> {
        let begun = Instant::now();
        self.pipeline
            .wait_source(&mut self.services.source, CATCH_UP_LIMIT)
            .await?;
        let topics = self.pipeline.read_topics(&TABLES).await?;
        let records: usize = topics.values().map(Vec::len).sum();
        for (sink, kind) in [
            (&mut self.services.elastic, Kind::SinkElastic),
            (&mut self.services.redshift, Kind::SinkRedshift),
        ] {
            let group = self.pipeline.group(kind);
            self.pipeline
                .wait_sink(sink, &group, &topics, CATCH_UP_LIMIT)
                .await?;
        }
        say(format_args!(
            "the log holds {} records, and both sinks have committed all of them ({:.1} s, most of it to read the log)",
            grouped(records.try_into()?),
            begun.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    /// Compares every row.
    ///
    /// # Errors
    /// The differences.
    pub(super) async fn compare(&self) -> Result<()> {
        let source = self.pipeline.source().await?;
        let mut found = Vec::new();
        say("comparing every row of every table with both targets:");
        for table in TABLES {
            let quoted = table.replace('.', ".\"") + "\"";
            let query = format!("SELECT count(*) FROM {quoted}");
            let rows: i64 = source.query_one(&query, &[]).await?.get(0);
            let warehouse = self.pipeline.warehouse_differences(&[table], None).await?;
            let search = self.pipeline.search_differences(&[table], "").await?;
            let verdict = if warehouse.is_empty() && search.is_empty() {
                "equal in both"
            } else {
                "DIFFERS"
            };
            detail(format_args!(
                "{table:<18} {:>9} rows  {verdict}",
                grouped(rows.try_into()?)
            ));
            found.extend(warehouse);
            found.extend(search);
        }
        if found.is_empty() {
            return Ok(());
        }
        for difference in &found {
            bare(difference);
        }
        bail!("the targets differ from the source, see above")
    }
}
