//! Quiet points: a row of its own, committed behind all others, tells that all others are in the log.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio_postgres::Client;

use crate::oracle::{Offsets, TopicReader};
use crate::pipeline::Pipeline;
use crate::service::Service;

const POLL: Duration = Duration::from_millis(30);

/// The marks of one source.
#[derive(Debug, Default)]
pub struct Marks {
    last: i32,
    offsets: Offsets,
}

impl Marks {
    /// What creates their table, which the source must carry: see [`TABLE`](Self::TABLE).
    pub const SQL: &str = "CREATE SCHEMA mark; CREATE TABLE mark.mark (n int PRIMARY KEY)";
    /// Their table.
    pub const TABLE: &str = "mark.mark";

    /// Waits until the source streams, has read all tables that it is to read, and has published everything that is
    /// committed now.
    ///
    /// # Errors
    /// The source ends, or does not come so far within `patience`.
    pub async fn quiet(
        &mut self,
        pipeline: &Pipeline,
        client: &Client,
        reader: &mut TopicReader,
        source: &mut Service,
        patience: Duration,
    ) -> Result<()> {
        let deadline = Instant::now() + patience;
        source.wait_ready(patience)?;
        while source.metric("tributary_source_snapshot_tables") != Some(0.0) {
            wait(source, deadline, "reads its tables").await?;
        }
        self.last += 1;
        let mark = self.last.to_string();
        let insert = format!("INSERT INTO mark.mark VALUES ({mark})");
        client.batch_execute(&insert).await?;
        let topic = pipeline.topic(Self::TABLE);
        loop {
            let read = reader.read_on(&[&topic], &mut self.offsets).await?;
            let mut records = read.values().flatten();
            if records.any(|record| record.key.get("n") == Some(&mark)) {
                return Ok(());
            }
            wait(source, deadline, &format!("does not publish mark {mark}")).await?;
        }
    }
}

async fn wait(source: &mut Service, deadline: Instant, what: &str) -> Result<()> {
    if !source.is_running()? {
        bail!("the source has ended; its log ends:\n{}", source.log_tail());
    }
    if Instant::now() >= deadline {
        bail!(
            "the source still {what}; its log ends:\n{}",
            source.log_tail()
        );
    }
    tokio::time::sleep(POLL).await;
    Ok(())
}
