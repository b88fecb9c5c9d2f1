//! `make bench`: drains backlogs, starts with few tables and with many, loads targets, and measures. `SCENARIO` names what alone is
//! measured, `KEEP=1` leaves the stack running, `TRIBUTARY_BENCH_TRANSACTIONS` makes the backlog another size,
//! `TRIBUTARY_BENCH_ROWS` the topic that is loaded into targets; the sinks of Kafka Connect load it `TRIBUTARY_BENCH_PEER_ROUNDS` times;
//! `TRIBUTARY_BENCH_AIVEN` is a checkout of Aiven's sink for OpenSearch, which is left out without it.
//! `TRIBUTARY_BENCH_BEFORE` is a folder with the binaries of another build, which is measured in the same run.

use std::num::ParseIntError;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tributary_tests::bench::{self, Measurements, Scenario, Size};

const TRANSACTIONS: u64 = 200_000;
const SCALE: u32 = 10;
const ROWS: u64 = 1_000_000;
const PEER_ROUNDS: u32 = 3;

#[allow(clippy::print_stderr, reason = "a command line speaks to people")]
#[tokio::main]
async fn main() -> ExitCode {
    match measure().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Those of these names; all where there is none.
fn scenarios(names: &str) -> Result<Vec<Scenario>> {
    let find = |name: &str| {
        let found = Scenario::ALL.into_iter().find(|one| one.name() == name);
        let all = Scenario::ALL.map(Scenario::name).join(", ");
        found.with_context(|| format!("SCENARIO has '{name}'; there are {all}"))
    };
    let chosen: Vec<Scenario> = names.split_whitespace().map(find).collect::<Result<_>>()?;
    Ok(if chosen.is_empty() {
        Scenario::ALL.to_vec()
    } else {
        chosen
    })
}

/// What a variable says, if it is set.
fn number<T>(variable: &str, otherwise: T) -> Result<T>
where
    T: FromStr<Err = ParseIntError>,
{
    match std::env::var(variable) {
        Ok(number) => number
            .parse()
            .with_context(|| format!("{variable} is '{number}'")),
        Err(_) => Ok(otherwise),
    }
}

async fn measure() -> Result<()> {
    let keep = std::env::var("KEEP").is_ok_and(|keep| !matches!(keep.as_str(), "" | "0"));
    let size = Size {
        transactions: number("TRIBUTARY_BENCH_TRANSACTIONS", TRANSACTIONS)?,
        scale: SCALE,
        rows: number("TRIBUTARY_BENCH_ROWS", ROWS)?,
        peer_rounds: number("TRIBUTARY_BENCH_PEER_ROUNDS", PEER_ROUNDS)?,
    };
    let plan = Measurements {
        scenarios: scenarios(&std::env::var("SCENARIO").unwrap_or_default())?,
        size,
        before: std::env::var_os("TRIBUTARY_BENCH_BEFORE").map(PathBuf::from),
        keep,
    };
    let target = PathBuf::from(std::env::var_os("CARGO_TARGET_DIR").unwrap_or("target".into()));
    let (stack, result) = (target.join("bench-stack"), target.join("bench/result.json"));
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        measured = Box::pin(bench::run(&stack, &result, plan)) => measured,
        // What runs is ended as the bench is dropped.
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}
