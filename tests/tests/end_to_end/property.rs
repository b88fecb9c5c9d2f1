//! Generated worlds, each judged by the oracle; and the judge itself, who must find what is planted.

mod planted;

use std::time::{Duration, Instant};

use tributary_tests::property::{Budget, run_world};
use tributary_tests::stack::Stack;

async fn run_worlds(budget: Budget) {
    let stack = Stack::from_env().unwrap();
    let begun = Instant::now();
    let (mut transactions, mut records, mut hits) = (0, 0, 0);
    for seed in budget.seed.. {
        println!(
            "world of seed {seed}: TRIBUTARY_PROPERTY_SEED={seed} TRIBUTARY_PROPERTY_SECONDS=0 replays it"
        );
        let outcome = match run_world(&stack, "property", seed).await {
            Ok(outcome) => outcome,
            Err(error) => panic!("TRIBUTARY_PROPERTY_SEED={seed}: {error:#}"),
        };
        transactions += outcome.transactions;
        hits += outcome.hits;
        records += outcome
            .evidence
            .iter()
            .map(|one| one.records.len())
            .sum::<usize>();
        if begun.elapsed() >= budget.time {
            let worlds = seed - budget.seed + 1;
            println!(
                "{worlds} worlds, {transactions} transactions, {records} records, the source hit {hits} times: no difference"
            );
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generated_worlds_arrive_as_they_are() {
    // The same ones each time: what is new is found by the long test, not by whoever comes next.
    run_worlds(Budget::from_env(Some(1), 25).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes 30 minutes: make test-long"]
async fn generated_worlds_arrive_as_they_are_for_half_an_hour() {
    let mut budget = Budget::from_env(None, 1_800).unwrap();
    budget.time = budget.time.max(Duration::from_secs(1));
    run_worlds(budget).await;
}
