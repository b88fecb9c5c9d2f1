//! A search index under all that may happen to it, compared with the fold of its log and with its table; and the comparison
//! itself, which must find what is planted.

mod planted;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tributary_tests::property::{SearchOutcome, SearchWorld};
use tributary_tests::stack::Stack;

/// Worlds that run at the same time: they wait a good deal of it.
const LANES: usize = 2;

/// A number of the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// A world that has come to its end; it still stands. Of one in which something is wrong, what it is.
async fn run(
    stack: Arc<Stack>,
    seed: u64,
    is_short: bool,
) -> Result<(SearchWorld, SearchOutcome), String> {
    let told = |error: anyhow::Error| format!("TRIBUTARY_SEED={seed}: {error:#}");
    let world = SearchWorld::create(&stack, "fold", seed, is_short).await;
    let mut world = world.map_err(told)?;
    let begun = Instant::now();
    let outcome = world.run().await.map_err(told)?;
    println!("seed {seed}, {:?}: {outcome:?}", begun.elapsed());
    Ok((world, outcome))
}

async fn run_and_remove(stack: Arc<Stack>, seed: u64) -> Option<SearchOutcome> {
    match run(stack, seed, false).await {
        Ok((world, outcome)) => {
            world.remove().await.unwrap();
            Some(outcome)
        }
        Err(error) => {
            println!("{error}");
            None
        }
    }
}

/// Seeds one after the other, some at a time, until the time is over. `TRIBUTARY_SEED` is the first one: alone, or of so many as
/// `TRIBUTARY_SEEDS` says.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "takes minutes: `make test-long`"]
async fn indices_equal_the_fold_of_their_logs_whatever_happens() {
    let stack = Arc::new(Stack::from_env().unwrap());
    let first = number("TRIBUTARY_SEED");
    let usual = if first.is_some() { 1 } else { 40 };
    let seeds = number("TRIBUTARY_SEEDS").unwrap_or(usual);
    let first = first.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let (next, begun) = (Mutex::new(first), Instant::now());
    let end = first + seeds;
    let take = || {
        let mut next = next.lock().unwrap();
        let is_left = *next < end && begun.elapsed() < Duration::from_secs(1_200);
        is_left.then(|| {
            *next += 1;
            *next - 1
        })
    };
    let lane = async || {
        let mut outcomes = Vec::new();
        while let Some(seed) = take() {
            // A task of its own: where one world waits, the others go on.
            let world = tokio::spawn(run_and_remove(Arc::clone(&stack), seed));
            outcomes.push((seed, world.await.unwrap()));
        }
        outcomes
    };
    let outcomes: Vec<_> = join_all((0..LANES).map(|_| lane())).await.concat();
    let failed = outcomes.iter().filter(|(_, outcome)| outcome.is_none());
    let failed: Vec<_> = failed.map(|(seed, _)| seed).collect();
    let outcomes: Vec<_> = outcomes
        .iter()
        .filter_map(|(_, one)| one.as_ref())
        .collect();
    let mut events: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, count) in outcomes.iter().flat_map(|outcome| &outcome.events) {
        *events.entry(name).or_default() += count;
    }
    let sum = |of: fn(&SearchOutcome) -> usize| outcomes.iter().copied().map(of).sum::<usize>();
    println!(
        "{} seeds, {} transactions, {} records, {} comparisons, {events:?}; differences with the seeds {failed:?}",
        outcomes.len(),
        sum(|outcome| outcome.transactions),
        sum(|outcome| outcome.records),
        sum(|outcome| outcome.comparisons),
    );
    assert!(
        failed.is_empty(),
        "seeds {failed:?}: what it is stands above"
    );
}
