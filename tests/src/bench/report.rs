//! What was measured, for people and for machines.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;

use super::drain::{Drain, count, median};
use super::load::{Load, OURS};
use super::setting::{Measurements, parts};
use super::start::Starts;
use crate::stack::Stack;

/// One backlog, drained by each peer.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    /// pgbench's transactions.
    pub transactions: u64,
    /// Rows changed.
    pub events: u64,
    /// The WAL written meanwhile.
    pub wal_bytes: u64,
    /// The peers in the order in which they ran, the reference first.
    pub drains: Vec<Drain>,
}

/// The drains, and the first snapshots before them.
#[derive(Debug, Clone, Serialize)]
pub struct Drained {
    /// Rows of the tables at the first start.
    pub rows: u64,
    /// What reading them took.
    pub snapshots: Vec<Drain>,
    /// The drains.
    pub rounds: Vec<Round>,
}

impl Drained {
    /// What was read or changed, and by whom.
    fn all(&self) -> impl Iterator<Item = (String, &[Drain])> {
        let snapshot = (format!("{} rows", self.rows), self.snapshots.as_slice());
        let rounds = self.rounds.iter();
        let rounds =
            rounds.map(|round| (format!("{} changes", round.events), round.drains.as_slice()));
        std::iter::once(snapshot).chain(rounds)
    }

    /// How often our rate is the other's over all rounds: the geometric mean.
    fn mean_times(&self, other: &str) -> Option<f64> {
        let times: Option<Vec<f64>> = self
            .rounds
            .iter()
            .map(|round| times(&round.drains, other))
            .collect();
        let logs: Vec<f64> = times?.into_iter().map(f64::ln).collect();
        (!logs.is_empty()).then(|| (logs.iter().sum::<f64>() / count(logs.len() as u64)).exp())
    }
}

/// Everything that is needed to read the figures.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// When it was finished, in UTC.
    pub date: String,
    /// The commit, with `-dirty` if files were changed.
    pub commit: String,
    /// Model and number of the processors.
    pub processor: String,
    /// Processes that wanted to run, on average of the last minute: this bench, and what else the machine did.
    pub load: String,
    /// The servers' versions.
    pub servers: BTreeMap<&'static str, String>,
    /// pgbench's scale.
    pub scale: u32,
    /// What draining took; none if that was not measured.
    pub drained: Option<Drained>,
    /// The first starts.
    pub starts: Vec<Starts>,
    /// What loading targets took; of each target the raw load first.
    pub loads: Vec<Load>,
}

impl Report {
    pub(super) async fn new(
        stack: &Stack,
        plan: &Measurements,
        drained: Option<Drained>,
        starts: Vec<Starts>,
        loads: Vec<Load>,
    ) -> Result<Self> {
        let sql = "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI\"Z\"')";
        let client = crate::shop::connect(stack.postgres_url()).await?;
        let servers = stack.versions();
        Ok(Self {
            date: client.query_one(sql, &[]).await?.get(0),
            commit: commit()?,
            processor: processor()?,
            load: fs::read_to_string("/proc/loadavg")?
                .split(' ')
                .next()
                .unwrap_or_default()
                .to_owned(),
            servers: servers
                .into_iter()
                .filter(|(part, _)| parts(&plan.scenarios).contains(part))
                .map(|(part, version)| (part.name(), version))
                .collect(),
            scale: plan.size.scale,
            drained,
            starts,
            loads,
        })
    }

    /// A table for people.
    pub(super) fn table(&self) -> String {
        let mut table = format!(
            "{:>15} {:<17} {:>8} {:>9} {:>9} {:>9} {:>9}\n",
            "", "", "seconds", "per s", "reference", "CPU s/M", "peak MB"
        );
        let others = [super::debezium::NAME, super::tributary::BEFORE];
        for (what, drains) in self.drained.iter().flat_map(Drained::all) {
            for drain in drains {
                let peak = drain.peak_resident_bytes.map(|bytes| count(bytes) / 1e6);
                // Writing to a String cannot fail.
                let _ = writeln!(
                    table,
                    "{what:>15} {:<17} {:>8.2} {:>9.0} {:>9} {:>9} {:>9}",
                    drain.peer,
                    drain.seconds,
                    drain.events_per_second,
                    figure(drain.of_reference, 2),
                    figure(drain.cpu_seconds_per_million, 2),
                    figure(peak, 1),
                );
            }
            for other in others {
                if let Some(times) = times(drains, other) {
                    let _ = writeln!(table, "{what:>15} {times:.2} times the rate of {other}");
                }
            }
        }
        for other in others {
            let mean = self.drained.as_ref().and_then(|all| all.mean_times(other));
            if let Some(times) = mean {
                let _ = writeln!(
                    table,
                    "{:>15} {times:.2} times the rate of {other}",
                    "all drains"
                );
            }
        }
        for starts in &self.starts {
            let what = format!("{} tables", starts.tables);
            let _ = writeln!(
                table,
                "{what:>15} {:<17} {:>8.2} from exec to the slot ({:.2?})",
                starts.build,
                median(&starts.seconds),
                starts.seconds
            );
        }
        table.push_str(&self.loads_table());
        let servers: Vec<String> = self
            .servers
            .iter()
            .map(|(name, version)| format!("{name} {version}"))
            .collect();
        let _ = write!(
            table,
            "{}, commit {}; {}, load {}; {}",
            self.date,
            self.commit,
            self.processor,
            self.load,
            servers.join(", ")
        );
        table
    }

    /// Of each peer the medians, and its rate beside the raw load's.
    fn loads_table(&self) -> String {
        let mut table = String::new();
        for load in &self.loads {
            let raw = self.loads.iter().find(|raw| raw.target == load.target);
            let peaks = load.peak_resident_bytes.iter();
            let peak = peaks.max().map(|bytes| count(*bytes) / 1e6);
            // Writing to a String cannot fail.
            let _ = writeln!(
                table,
                "{:>15} {:<17} {:>8.2} {:>9.0} {:>9} {:>9} {:>9}  ({:.2?})",
                format!("to {}", load.target),
                load.peer,
                median(&load.seconds),
                load.rate(),
                figure(raw.map(|raw| load.rate() / raw.rate()), 2),
                figure(load.cpu(), 2),
                figure(peak, 1),
                load.seconds,
            );
        }
        for load in self.loads.iter().filter(|load| !load.idle.is_empty()) {
            let _ = writeln!(
                table,
                "{:>15} {:<17} the whole machine worked {:.1} CPU seconds per million, and was idle for {:.0} %",
                format!("to {}", load.target),
                load.peer,
                median(&load.machine_seconds_per_million),
                median(&load.idle) * 100.0,
            );
        }
        for (ours, load) in self.rivals() {
            let times = ours.rate() / load.rate();
            let cpu = ours.cpu().zip(load.cpu()).map(|(ours, its)| ours / its);
            let _ = writeln!(
                table,
                "{:>15} {times:.2} times the rate of {}, {} of its CPU seconds",
                format!("to {}", load.target),
                load.peer,
                figure(cpu, 3),
            );
        }
        table
    }

    /// What this build loads, beside what each other sink loads into the same target.
    fn rivals(&self) -> impl Iterator<Item = (&Load, &Load)> {
        let is_ours = |load: &Load| OURS.contains(&load.peer);
        self.loads.iter().filter_map(move |load| {
            let mut all = self.loads.iter();
            let ours = all.find(|ours| is_ours(ours) && ours.target == load.target)?;
            (!is_ours(load) && load.cpu().is_some()).then_some((ours, load))
        })
    }

    /// Writes all of it as JSON.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, serde_json::to_string_pretty(self)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Our rate as a multiple of another's.
fn times(drains: &[Drain], other: &str) -> Option<f64> {
    let rate = |name: &str| {
        let found = drains.iter().find(|drain| drain.peer == name)?;
        Some(found.events_per_second)
    };
    Some(rate(super::tributary::NAME)? / rate(other)?)
}

fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

fn commit() -> Result<String> {
    let output = Command::new("git")
        .args([
            "describe",
            "--always",
            "--dirty",
            "--abbrev=12",
            "--exclude=*",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .context("run git")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn processor() -> Result<String> {
    let text = fs::read_to_string("/proc/cpuinfo")?;
    let models: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map(|(_, model)| model.trim())
        .collect();
    Ok(format!(
        "{} x {}",
        models.len(),
        models.first().copied().unwrap_or("unknown")
    ))
}
