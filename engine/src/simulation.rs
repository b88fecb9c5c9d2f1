//! The engine under thousands of schedules: instances that join, leave, freeze and die, a group, a registry and targets that
//! are slow and fail, all from one seed, in a thread of its own with a clock of its own. A seed runs twice alike.
//!
//! What runs is the engine itself: the poll loop, the lanes, their jobs. Fakes stand behind the traits that it has to the
//! outside (`Member`, `Cluster`, `Target`, `Schemas`, `Letters`). After each step must hold:
//! - committed ≤ durable ≤ accepted, for each partition;
//! - no two writes of a lane have a partition in common, and what was written is not followed by anything older;
//! - what a replay of letters writes is the newest that the log has of its row;
//! - all that an instance holds fits its budget and one record;
//! - and when the faults are over, each target holds what its log says, and all of the log is committed; what it has refused is there
//!   once it is mended and the letters are replayed, and a record that nothing mends has its letter still.
//!
//! `TRIBUTARY_SEED=<n> cargo test -p tributary-engine --lib simulation::thousands -- --nocapture` runs one seed and prints what
//! happens.

mod conforming;
mod coordinator;
mod dice;
mod letterbox;
mod log;
mod outskirts;
mod plan;
mod process;
mod replays;
mod scene;
mod schedule;
mod seat;
mod shelf;
mod store;
mod trace;

use std::sync::atomic::{AtomicU64, Ordering};

use crate::outside::given::Flaw;
use scene::Planted;
use schedule::{Ran, run};

/// The steps that are printed of a seed in which something was found.
const LAST_STEPS: usize = 60;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is '{text}', which is no number")),
    )
}

/// The first of these seeds in which something is found.
fn first_found(seeds: std::ops::Range<u64>, planted: Option<Planted>) -> Option<Ran> {
    let next = AtomicU64::new(seeds.start);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let search = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return None;
            }
            let ran = run(seed, planted);
            if ran.found.is_some() {
                // The others end.
                next.store(seeds.end, Ordering::Relaxed);
                return Some(ran);
            }
        }
    };
    let found = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(search)).collect();
        let found = threads
            .into_iter()
            .filter_map(|thread| thread.join().unwrap());
        found.collect::<Vec<_>>()
    });
    found.into_iter().min_by_key(|ran| ran.seed)
}

fn report(ran: &Ran, steps: usize) -> String {
    format!(
        "{:#?}\n{}\nseed {} (TRIBUTARY_SEED={} runs it alone, and prints all steps), {} steps: {}",
        ran.plan,
        ran.trace.last(steps),
        ran.seed,
        ran.seed,
        ran.trace.len(),
        ran.found.as_deref().unwrap_or("nothing is wrong"),
    )
}

/// Runs seeds. `TRIBUTARY_SEED` is the first one, and the only one unless `TRIBUTARY_SEEDS` says how many.
fn none_of(usual: u64) {
    let seed = number("TRIBUTARY_SEED");
    let count = number("TRIBUTARY_SEEDS").unwrap_or(if seed.is_some() { 1 } else { usual });
    let first = seed.unwrap_or(0);
    if count == 1 {
        let ran = run(first, None);
        println!("{}", report(&ran, usize::MAX));
        assert_eq!(ran.found, None);
        return;
    }
    let begun = std::time::Instant::now();
    if let Some(ran) = first_found(first..first + count, None) {
        panic!("{}", report(&ran, LAST_STEPS));
    }
    println!("{count} seeds from {first} on, in {:?}", begun.elapsed());
}

#[test]
fn thousands_of_schedules_end_in_equal_targets() {
    none_of(10_000);
}

#[test]
#[ignore = "takes hours: make test-long"]
fn a_million_schedules_end_in_equal_targets() {
    none_of(1_000_000);
}

#[test]
fn a_seed_runs_twice_alike() {
    for seed in 0..50 {
        let [first, second] = [run(seed, None), run(seed, None)];
        assert!(first.trace.len() > 20, "seed {seed}");
        assert_eq!(first.trace.hash(), second.trace.hash(), "seed {seed}");
    }
}

#[test]
fn planted_faults_are_found() {
    let durable: &[&str] = &["durable"];
    for (planted, words) in [
        (Planted::EarlyCommit, durable),
        (Planted::EarlyDurable, durable),
        (Planted::LostRecord, durable),
        (
            Planted::Engine(Flaw::Reorder),
            &["two writes of", "after up to"],
        ),
        (Planted::Engine(Flaw::NoBudget), &["are allowed"]),
        (Planted::Engine(Flaw::Unswept), durable),
        (Planted::Engine(Flaw::OldLetter), &["a replay writes"]),
        (
            Planted::Engine(Flaw::EarlyReplayed),
            &["have no letter", "its log says"],
        ),
    ] {
        let found = first_found(0..200, Some(planted)).and_then(|ran| ran.found);
        let found = found.unwrap_or_else(|| panic!("{planted:?} is not found"));
        let is_it = words.iter().any(|words| found.contains(words));
        assert!(is_it, "{planted:?}: {found}");
    }
}
