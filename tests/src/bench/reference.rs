//! The reference: `pg_recvlogical` reads the same messages from a slot of its own and throws them away.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::backlog::Backlog;
use super::drain::{Drain, Peer};
use super::setting::Bench;
use super::tributary::slot;
use crate::stack::postgres_program;

const NAME: &str = "pg_recvlogical";
const SLOT: &str = "reference";

/// Reads the publications of our source.
#[derive(Debug, Default)]
pub(super) struct Reference;

impl Peer for Reference {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare<'a>(
        &'a mut self,
        bench: &'a Bench<'_>,
        _rows: u64,
    ) -> BoxFuture<'a, Result<Option<Drain>>> {
        async move {
            let sql = "SELECT pg_copy_logical_replication_slot($1, $2)::text";
            let own = slot(bench.pipeline);
            bench.client.query_one(sql, &[&own, &SLOT]).await?;
            Ok(None)
        }
        .boxed()
    }

    fn drain<'a>(
        &'a mut self,
        bench: &'a Bench<'_>,
        backlog: &'a Backlog,
    ) -> BoxFuture<'a, Result<Drain>> {
        async move {
            let sql = "SELECT string_agg(pubname, ',') FROM pg_publication";
            let publications: String = bench.client.query_one(sql, &[]).await?.get(0);
            let mut command = Command::new(postgres_program(NAME)?);
            command
                .args(["--dbname", &bench.pipeline.source_url, "--slot", SLOT])
                .args(["--start", "--no-loop", "--endpos", &backlog.end])
                .args(["-o", "proto_version=1", "-o"])
                .arg(format!("publication_names={publications}"))
                .args(["--fsync-interval=0", "--file", "/dev/null"])
                .stdin(Stdio::null());
            let began = Instant::now();
            let output = tokio::task::spawn_blocking(move || command.output()).await?;
            let seconds = began.elapsed().as_secs_f64();
            let output = output.context("run pg_recvlogical")?;
            if !output.status.success() {
                bail!("{}", String::from_utf8_lossy(&output.stderr));
            }
            Ok(Drain::timed(NAME, version()?, seconds, backlog.events))
        }
        .boxed()
    }
}

fn version() -> Result<String> {
    let output = Command::new(postgres_program(NAME)?)
        .arg("--version")
        .output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
