//! Our source.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::backlog::{Backlog, TABLES};
use super::drain::{Drain, Peer, count};
use super::setting::Bench;
use super::topics;
use crate::pipeline::Pipeline;
use crate::service::{Kind, Service};
use crate::stack::Watch;

pub(super) const NAME: &str = "tributary-source";
/// The build that it is compared with.
pub(super) const BEFORE: &str = "the build before";
/// Records committed to Kafka: here one for each change, as nothing is deleted and no key changed.
const EVENTS: &str = "tributary_source_events_total";
const LIMIT: Duration = Duration::from_secs(600);
/// How long the beginning and the end of a drain may remain unnoticed.
const POLL: Duration = Duration::from_millis(10);

/// A build of `tributary-source`.
#[derive(Debug, Clone)]
pub(super) struct Build {
    /// Its name in the report.
    pub(super) name: &'static str,
    /// What its slots and topics end with.
    pub(super) suffix: &'static str,
    /// The folder of its binary, where that is not this tree's.
    pub(super) dir: Option<PathBuf>,
}

impl Build {
    /// The build of this tree; and the one to compare it with, in this folder.
    pub(super) fn all(before: Option<PathBuf>) -> Vec<Self> {
        let now = Self {
            name: NAME,
            suffix: "now",
            dir: None,
        };
        let before = before.map(|dir| Self {
            name: BEFORE,
            suffix: "before",
            dir: Some(dir),
        });
        before.into_iter().chain([now]).collect()
    }
}

/// `tributary-source`, started anew for each backlog.
#[derive(Debug)]
pub(super) struct Source {
    name: &'static str,
    pipeline: Pipeline,
    service: Service,
}

/// The slot of a pipeline's source.
pub(super) fn slot(pipeline: &Pipeline) -> String {
    format!("tributary_{}", pipeline.prefix())
}

impl Source {
    pub(super) fn new(pipeline: Pipeline, build: &Build) -> Result<Self> {
        let config = pipeline.source_config();
        let mut service = pipeline.service(Kind::Source, "source", &config)?;
        service.use_build(build.dir.clone());
        Ok(Self {
            name: build.name,
            pipeline,
            service,
        })
    }

    async fn run_snapshot(&mut self, bench: &Bench<'_>, rows: u64) -> Result<Drain> {
        let began = Instant::now();
        let _watch = self.start(bench)?;
        self.wait("streams", streams).await?;
        let seconds = began.elapsed().as_secs_f64();
        let drain = self.used(
            Drain::timed(self.name, self.version()?, seconds, rows),
            rows,
        )?;
        self.stop().await?;
        let topics = TABLES.map(|table| self.pipeline.topic(table));
        let starts = topics::ends(bench.stack, &topics)?
            .into_keys()
            .map(|partition| (partition, 0));
        let found: u64 = topics::count_since(bench.stack, &starts.collect())?
            .values()
            .sum();
        if found != rows {
            bail!("the snapshot has {found} records, the tables have {rows} rows");
        }
        Ok(drain)
    }

    /// With what the process has used.
    fn used(&self, drain: Drain, events: u64) -> Result<Drain> {
        Ok(Drain {
            cpu_seconds_per_million: Some(self.service.cpu_seconds()? / count(events) * 1e6),
            peak_resident_bytes: Some(self.service.peak_resident_bytes()?),
            ..drain
        })
    }

    async fn run_drain(&mut self, bench: &Bench<'_>, backlog: &Backlog) -> Result<Drain> {
        let before = topics::ends(bench.stack, &TABLES.map(|table| self.pipeline.topic(table)))?;
        let events = count(backlog.events);
        let _watch = self.start(bench)?;
        self.wait("streams", streams).await?;
        let began = Instant::now();
        self.wait("has published all changes", |service| {
            service.metric(EVENTS).is_some_and(|done| done >= events)
        })
        .await?;
        let seconds = began.elapsed().as_secs_f64();
        let drain = Drain::timed(self.name, self.version()?, seconds, backlog.events);
        let drain = self.used(drain, backlog.events)?;
        self.stop().await?;
        for (topic, found) in topics::count_since(bench.stack, &before)? {
            if found != backlog.events_per_table {
                bail!(
                    "{topic} got {found} records, {} rows were changed",
                    backlog.events_per_table
                );
            }
        }
        Ok(drain)
    }

    fn version(&self) -> Result<String> {
        let output = Command::new(self.service.binary()?)
            .arg("--version")
            .output()?;
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    fn start(&mut self, bench: &Bench<'_>) -> Result<Watch> {
        self.service.start()?;
        let pid = self.service.pid().context("the source has no process")?;
        bench.stack.watch(&[pid])
    }

    /// Stops it when the slot, too, is at the end.
    async fn stop(&mut self) -> Result<()> {
        self.pipeline.wait_source(&mut self.service, LIMIT).await?;
        let status = self.service.stop(LIMIT)?;
        if !status.success() {
            bail!("{status}; its log ends:\n{}", self.service.log_tail());
        }
        Ok(())
    }

    /// Waits for something that the service says of itself.
    async fn wait(&mut self, what: &str, is: impl Fn(&Service) -> bool) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        while !is(&self.service) {
            if !self.service.is_running()? || Instant::now() >= deadline {
                bail!(
                    "the source never {what}; its log ends:\n{}",
                    self.service.log_tail()
                );
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}

impl Peer for Source {
    fn name(&self) -> &'static str {
        self.name
    }

    fn prepare<'a>(
        &'a mut self,
        bench: &'a Bench<'_>,
        rows: u64,
    ) -> BoxFuture<'a, Result<Option<Drain>>> {
        async move { self.run_snapshot(bench, rows).await.map(Some) }.boxed()
    }

    fn drain<'a>(
        &'a mut self,
        bench: &'a Bench<'_>,
        backlog: &'a Backlog,
    ) -> BoxFuture<'a, Result<Drain>> {
        self.run_drain(bench, backlog).boxed()
    }
}

/// Whether the snapshot is done and the slot is read.
fn streams(service: &Service) -> bool {
    service.get("/ready").is_ok_and(|(status, _)| status == 200)
}
