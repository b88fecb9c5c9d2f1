//! Debezium's connector on Kafka Connect, as it is without tuning: at least once, in Avro.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::backlog::{Backlog, TABLES};
use super::drain::{Drain, Peer, count};
use super::setting::Bench;
use super::topics::{self, Offsets};
use crate::debezium::{Connect, Connector, Jvm};
use crate::stack::Watch;
use crate::usage;

pub(super) const NAME: &str = "debezium";
const PREFIX: &str = "debezium";
const SETTINGS: [(&str, &str); 3] = [
    ("schema.name.adjustment.mode", "avro_unicode"),
    ("field.name.adjustment.mode", "avro_unicode"),
    ("schema.include.list", "public"),
];
const LIMIT: Duration = Duration::from_secs(1200);
/// How long the beginning and the end may remain unnoticed.
const POLL: Duration = Duration::from_millis(20);

/// A worker, started anew for each backlog.
#[derive(Debug)]
pub(super) struct Debezium {
    dir: PathBuf,
}

impl Debezium {
    pub(super) const fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    fn start(&self, bench: &Bench<'_>) -> Result<(Connect, Watch)> {
        let connector = Connector {
            database: &bench.pipeline.source_url,
            prefix: PREFIX,
            settings: &SETTINGS,
        };
        let connect = Connect::start(bench.stack, &self.dir, Jvm::Shipped, &connector)?;
        let watch = bench.stack.watch(&[connect.pid()])?;
        Ok((connect, watch))
    }

    /// Measures from its first record on: the start of its virtual machine is not what is compared.
    async fn measure(
        &self,
        bench: &Bench<'_>,
        connect: &Connect,
        before: u64,
        events: u64,
    ) -> Result<Drain> {
        let deadline = Instant::now() + LIMIT;
        let mut began = None;
        loop {
            let now = sum(&topics::ends(bench.stack, &topics())?);
            if now > before && began.is_none() {
                began = Some(Instant::now());
            }
            if now >= before + events {
                break;
            }
            if Instant::now() >= deadline {
                bail!(
                    "it has published {} of {events} records; its log ends:\n{}",
                    now - before,
                    connect.log_tail()
                );
            }
            tokio::time::sleep(POLL).await;
        }
        let seconds = began.context("no beginning")?.elapsed().as_secs_f64();
        Ok(Drain {
            cpu_seconds_per_million: Some(usage::cpu_seconds(connect.pid())? / count(events) * 1e6),
            peak_resident_bytes: Some(usage::peak_resident_bytes(connect.pid())?),
            ..Drain::timed(NAME, version()?, seconds, events)
        })
    }
}

impl Peer for Debezium {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare<'a>(
        &'a mut self,
        bench: &'a Bench<'_>,
        rows: u64,
    ) -> BoxFuture<'a, Result<Option<Drain>>> {
        async move {
            let (mut connect, _watch) = self.start(bench)?;
            let drain = self.measure(bench, &connect, 0, rows).await?;
            connect.wait_streaming(&bench.client, LIMIT).await?;
            connect.stop(LIMIT)?;
            Ok(Some(drain))
        }
        .boxed()
    }

    fn drain<'a>(
        &'a mut self,
        bench: &'a Bench<'_>,
        backlog: &'a Backlog,
    ) -> BoxFuture<'a, Result<Drain>> {
        async move {
            let before = sum(&topics::ends(bench.stack, &topics())?);
            let (connect, _watch) = self.start(bench)?;
            let drain = self
                .measure(bench, &connect, before, backlog.events)
                .await?;
            connect.stop(LIMIT)?;
            Ok(drain)
        }
        .boxed()
    }
}

/// A topic that does not exist yet has no records; Debezium writes no other.
fn topics() -> Vec<String> {
    TABLES.map(|table| format!("{PREFIX}.{table}")).into()
}

fn sum(ends: &Offsets) -> u64 {
    let sum: i64 = ends.values().sum();
    sum.unsigned_abs()
}

fn version() -> Result<String> {
    let folder = crate::stack::debezium()?;
    let name = folder.file_name().context("no folder")?;
    Ok(name.to_string_lossy().into_owned())
}
