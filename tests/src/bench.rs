//! How fast a backlog of changes is drained, how fast a topic's rows come into their targets, and what that costs.
//!
//! pgbench makes the backlog while nobody reads it; then each peer in turn drains the same one, in one run on one
//! machine. Rates are to be read beside the reference's: the machine is not the same tomorrow.

mod backlog;
mod connect;
mod debezium;
mod drain;
mod load;
mod raw;
mod reference;
mod report;
mod setting;
mod sinks;
mod start;
mod topics;
mod tributary;

pub use drain::{Drain, Peer};
pub use load::Load;
pub use report::{Drained, Report, Round};
pub use setting::{Bench, Measurements, Scenario, Size};

pub use start::Starts;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::pipeline::Pipeline;
use crate::stack::{Lifetime, Options, Stack};
use backlog::Backlog;
use debezium::Debezium;
use reference::Reference;
use setting::{parts, progress};
use tributary::{Build, Source};

/// The memory that a source may take, whatever waits for it.
const MEMORY_LIMIT_BYTES: u64 = 64_000_000;
/// How much more it may take for the larger backlog: what the allocator and the clients' threads leave to chance.
const MEMORY_GROWTH: f64 = 1.10;

/// Starts a stack in `dir`, measures what is planned, prints a table and writes the report to `result`.
///
/// # Errors
/// Something does not run, a topic does not hold what was changed, or our memory is not bounded.
pub async fn run(dir: &Path, result: &Path, plan: Measurements) -> Result<()> {
    let stack = start(dir, &plan)?;
    let builds = Build::all(plan.before.clone());
    let drained = if plan.scenarios.contains(&Scenario::Drain) {
        Some(drain(&stack, plan.size, &builds).await?)
    } else {
        None
    };
    let starts = start::measure(&stack, &builds, &plan.scenarios).await?;
    let loads = if plan.scenarios.contains(&Scenario::Sinks) {
        sinks::measure(&stack, &builds, plan.size).await?
    } else {
        Vec::new()
    };
    let report = Report::new(&stack, &plan, drained, starts, loads).await?;
    print(&report.table());
    report.write(result)?;
    progress(&format!("result in {}", result.display()));
    if plan.keep {
        progress(&format!("the stack runs on in {}", dir.display()));
    } else {
        drop(stack);
        Stack::attach(dir)?.remove_data()?;
    }
    check_memory(&report)
}

/// First snapshots of pgbench's tables, and then backlogs of changes, each drained by all.
async fn drain(stack: &Stack, size: Size, builds: &[Build]) -> Result<Drained> {
    let pipeline = {
        let mut pipeline = Pipeline::new(stack, "bench").await?;
        pipeline.tables = vec!["public.*".to_owned()];
        pipeline
    };
    let bench = Bench {
        stack,
        pipeline: &pipeline,
        client: pipeline.source().await?,
    };
    backlog::create_tables(&bench, size.scale).await?;
    // The reference copies the slot of ours, so ours goes first.
    let mut peers: Vec<Box<dyn Peer>> =
        vec![Box::new(Debezium::new(pipeline.dir().join("debezium")))];
    for build in builds {
        // The reference copies the slot of this tree's build, and so that one has the bench's name.
        let own = match build.dir {
            Some(_) => pipeline.beside(build.suffix),
            None => pipeline.clone(),
        };
        peers.push(Box::new(Source::new(own, build)?));
    }
    peers.push(Box::new(Reference));
    let rows = backlog::rows(&bench).await?;
    let mut snapshots = Vec::new();
    for peer in &mut peers {
        progress(&format!("{} reads {rows} rows", peer.name()));
        let snapshot = peer.prepare(&bench, rows).await;
        snapshots.extend(snapshot.with_context(|| format!("{} prepares", peer.name()))?);
    }
    // And it drains first: then all find the WAL in the same caches.
    peers.reverse();
    let mut rounds = Vec::new();
    for transactions in [size.transactions, 2 * size.transactions] {
        // Of two builds each goes first once: where one stands in a round decides up to a tenth of its rate.
        for _ in builds {
            rounds.push(round(&bench, &mut peers, transactions).await?);
            if builds.len() > 1 {
                peers.swap(1, 2);
            }
        }
    }
    Ok(Drained {
        rows,
        snapshots,
        rounds,
    })
}

/// A stack without what an earlier run left in it.
fn start(dir: &Path, plan: &Measurements) -> Result<Stack> {
    if dir.exists() {
        Stack::attach(dir)?.down()?;
        fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    // Nothing else is to write, or to wait for a checkpoint, while a backlog is drained.
    let settings = [
        ("autovacuum", "off"),
        // When the peers' rows came, nobody needs to ask while they come.
        ("track_commit_timestamp", "on"),
        ("checkpoint_timeout", "1h"),
        ("max_wal_size", "16GB"),
    ];
    Stack::up(
        dir,
        &Options {
            parts: parts(&plan.scenarios),
            postgres_settings: settings
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            lifetime: if plan.keep {
                Lifetime::Detached
            } else {
                Lifetime::Owned
            },
            ..Options::default()
        },
    )
}

async fn round(bench: &Bench<'_>, peers: &mut [Box<dyn Peer>], transactions: u64) -> Result<Round> {
    progress(&format!("making a backlog of {transactions} transactions"));
    let backlog = Backlog::make(bench, transactions).await?;
    let mut drains: Vec<Drain> = Vec::new();
    for peer in peers {
        progress(&format!("{} drains it", peer.name()));
        let drain = peer.drain(bench, &backlog).await;
        let mut drain = drain.with_context(|| format!("{} drains", peer.name()))?;
        let reference = drains.first().unwrap_or(&drain).events_per_second;
        drain.of_reference = Some(drain.events_per_second / reference);
        drains.push(drain);
    }
    Ok(Round {
        transactions,
        events: backlog.events,
        wal_bytes: backlog.wal_bytes,
        drains,
    })
}

fn check_memory(report: &Report) -> Result<()> {
    let Some(drained) = &report.drained else {
        return Ok(());
    };
    // By the size of the backlog.
    let mut peaks: BTreeMap<u64, u64> = BTreeMap::new();
    for round in &drained.rounds {
        let ours = round.drains.iter().filter(|it| it.peer == tributary::NAME);
        for bytes in ours.filter_map(|drain| drain.peak_resident_bytes) {
            let peak = peaks.entry(round.transactions).or_default();
            *peak = bytes.max(*peak);
        }
    }
    let peaks: Vec<u64> = peaks.into_values().collect();
    let [smaller, larger] = peaks[..] else {
        bail!("the memory was not measured with both backlogs");
    };
    if smaller.max(larger) >= MEMORY_LIMIT_BYTES {
        bail!(
            "the source took {} bytes, {MEMORY_LIMIT_BYTES} are the limit",
            smaller.max(larger)
        );
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
    let growth = larger as f64 / smaller as f64;
    if growth > MEMORY_GROWTH {
        bail!(
            "twice the backlog took {growth:.2} times the memory: {smaller} bytes, then {larger}"
        );
    }
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the table is what was asked for")]
fn print(text: &str) {
    println!("{text}");
}
