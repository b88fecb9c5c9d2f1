//! How long a source takes from exec to its slot: from there on no change is lost, so until then an application waits.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::Serialize;

use super::setting::{Scenario, progress};
use super::tributary::{Build, slot};
use crate::pipeline::Pipeline;
use crate::service::Kind;
use crate::stack::Stack;

/// Numbers of tables, and how often each build starts with them, in turn.
const WORLDS: [(Scenario, u32, u32); 2] =
    [(Scenario::Start, 3, 5), (Scenario::StartMany, 1_000, 2)];
/// Created in one transaction: all their locks are held at once.
const CREATED_AT_ONCE: usize = 100;
const LIMIT: Duration = Duration::from_secs(1_200);
const POLL: Duration = Duration::from_millis(2);

/// Starts of one build with so many tables.
#[derive(Debug, Clone, Serialize)]
pub struct Starts {
    /// The build.
    pub build: &'static str,
    /// Tables of one row each.
    pub tables: u32,
    /// From exec to the slot, in the order in which they ran.
    pub seconds: Vec<f64>,
}

/// First starts of each build, in turn, with few tables and with many.
///
/// # Errors
/// A source does not come to its slot.
pub(super) async fn measure(
    stack: &Stack,
    builds: &[Build],
    scenarios: &[Scenario],
) -> Result<Vec<Starts>> {
    let mut measured = Vec::new();
    let worlds = WORLDS.into_iter();
    for (_, tables, rounds) in worlds.filter(|(scenario, ..)| scenarios.contains(scenario)) {
        let mut pipeline = Pipeline::new(stack, &format!("start{tables}")).await?;
        pipeline.tables = vec!["s.*".to_owned()];
        create(&pipeline, tables).await?;
        let mut starts: Vec<Starts> = builds
            .iter()
            .map(|build| Starts {
                build: build.name,
                tables,
                seconds: Vec::new(),
            })
            .collect();
        for round in 0..rounds {
            for (build, starts) in builds.iter().zip(&mut starts) {
                progress(&format!("{} starts with {tables} tables", build.name));
                let pipeline = pipeline.beside(&format!("{round}_{}", build.suffix));
                starts.seconds.push(start(stack, &pipeline, build).await?);
            }
        }
        measured.extend(starts);
        pipeline.remove().await?;
    }
    Ok(measured)
}

async fn create(pipeline: &Pipeline, tables: u32) -> Result<()> {
    let client = pipeline.source().await?;
    client.batch_execute("CREATE SCHEMA s").await?;
    let table = |at| {
        format!(
            "CREATE TABLE s.t{at} (id int PRIMARY KEY, name text, at timestamptz); INSERT INTO s.t{at} VALUES ({at}, 'row')"
        )
    };
    let sql: Vec<String> = (0..tables).map(table).collect();
    for some in sql.chunks(CREATED_AT_ONCE) {
        client.batch_execute(&some.join(";")).await?;
    }
    Ok(())
}

/// One start with nothing there: no topic, no schema, no slot. What it made in Postgres is removed.
async fn start(stack: &Stack, pipeline: &Pipeline, build: &Build) -> Result<f64> {
    let client = pipeline.source().await?;
    let sql = "SELECT FROM pg_replication_slots WHERE slot_name = $1::text";
    let exists = client.prepare(sql).await?;
    let config = pipeline.source_config();
    let mut service = pipeline.service(Kind::Source, "source", &config)?;
    service.use_build(build.dir.clone());
    let slot = slot(pipeline);
    let began = Instant::now();
    service.start()?;
    let pid = service.pid().unwrap_or_default();
    let watch = stack.watch(&[pid])?;
    while client.query_opt(&exists, &[&slot]).await?.is_none() {
        if !service.is_running()? || began.elapsed() > LIMIT {
            bail!("no slot; the source's log ends:\n{}", service.log_tail());
        }
        tokio::time::sleep(POLL).await;
    }
    let seconds = began.elapsed().as_secs_f64();
    // Read to the end, so that the next one finds an idle server.
    pipeline.wait_source(&mut service, LIMIT).await?;
    service.stop(LIMIT)?;
    drop(watch);
    let sql = "SELECT pg_drop_replication_slot($1)";
    client.execute(sql, &[&slot]).await?;
    let drop = format!("DROP PUBLICATION {slot}, {slot}_keyless");
    client.batch_execute(&drop).await?;
    Ok(seconds)
}
