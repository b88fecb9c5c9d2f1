//! Changes that wait to be read: pgbench's own transactions.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::setting::{Bench, progress};
use crate::stack::postgres_program;

/// pgbench's connections while it makes a backlog.
const CLIENTS: u64 = 4;
/// What one of its transactions changes, and the record that each becomes: three updates and an insert.
pub(super) const TABLES: [&str; 4] = [
    "public.pgbench_accounts",
    "public.pgbench_tellers",
    "public.pgbench_branches",
    "public.pgbench_history",
];

/// Changes that were committed while nobody read them.
#[derive(Debug)]
pub struct Backlog {
    /// Rows changed.
    pub events: u64,
    /// Rows changed in each of the tables.
    pub events_per_table: u64,
    /// The WAL that they are in, with all that is not for a reader.
    pub wal_bytes: u64,
    /// A position behind the last change.
    pub end: String,
}

/// Creates pgbench's tables.
///
/// # Errors
/// pgbench fails.
pub(super) async fn create_tables(bench: &Bench<'_>, scale: u32) -> Result<()> {
    progress(&format!("creating pgbench's tables, scale {scale}"));
    pgbench(bench, &["-i", "-q", "-s", &scale.to_string()]).await?;
    // Every backlog is made behind a checkpoint, so that all hold whole pages in like measure.
    bench.client.batch_execute("CHECKPOINT").await?;
    Ok(())
}

impl Backlog {
    /// Runs that many transactions of TPC-B.
    ///
    /// # Errors
    /// pgbench fails, or did not do what was asked.
    pub(super) async fn make(bench: &Bench<'_>, transactions: u64) -> Result<Self> {
        ensure!(
            transactions > 0 && transactions.is_multiple_of(CLIENTS),
            "{transactions} transactions cannot be shared among {CLIENTS} connections"
        );
        let (start, rows) = (position(bench).await?, history(bench).await?);
        let per_client = (transactions / CLIENTS).to_string();
        // Without -n it would empty the history, which is none of what is measured.
        let clients = CLIENTS.to_string();
        pgbench(bench, &["-n", "-c", &clients, "-j", "2", "-t", &per_client]).await?;
        let done = history(bench).await? - rows;
        ensure!(
            done == transactions,
            "pgbench made {done} transactions of {transactions}"
        );
        // A record behind the last change lets every reader see the end; and what is read must be on disk.
        let end: String = bench
            .client
            .query_one(
                "SELECT pg_logical_emit_message(true, 'bench', '')::text, pg_current_wal_insert_lsn()::text",
                &[],
            )
            .await?
            .get(1);
        bench.client.batch_execute("CHECKPOINT").await?;
        let tables = u64::try_from(TABLES.len())?;
        Ok(Self {
            events: transactions * tables,
            events_per_table: transactions,
            wal_bytes: distance(bench, &start, &end).await?,
            end,
        })
    }
}

/// All rows of the tables.
///
/// # Errors
/// The database does not answer.
pub(super) async fn rows(bench: &Bench<'_>) -> Result<u64> {
    let counts = TABLES.map(|table| format!("(SELECT count(*) FROM {table})"));
    let sql = format!("SELECT {}", counts.join(" + "));
    let rows: i64 = bench.client.query_one(&sql, &[]).await?.get(0);
    Ok(u64::try_from(rows)?)
}

async fn position(bench: &Bench<'_>) -> Result<String> {
    let sql = "SELECT pg_current_wal_insert_lsn()::text";
    Ok(bench.client.query_one(sql, &[]).await?.get(0))
}

async fn distance(bench: &Bench<'_>, start: &str, end: &str) -> Result<u64> {
    let sql = "SELECT pg_wal_lsn_diff($2::text::pg_lsn, $1::text::pg_lsn)::bigint";
    let bytes: i64 = bench.client.query_one(sql, &[&start, &end]).await?.get(0);
    Ok(u64::try_from(bytes)?)
}

async fn history(bench: &Bench<'_>) -> Result<u64> {
    let sql = "SELECT count(*) FROM pgbench_history";
    let rows: i64 = bench.client.query_one(sql, &[]).await?.get(0);
    Ok(u64::try_from(rows)?)
}

async fn pgbench(bench: &Bench<'_>, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(postgres_program("pgbench")?);
    command
        .args(arguments)
        .arg(&bench.pipeline.source_url)
        // It is how the backlog is read that is measured, not how it is made.
        .env("PGOPTIONS", "-c synchronous_commit=off")
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await?;
    let output = output.context("run pgbench")?;
    if !output.status.success() {
        bail!("pgbench: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
