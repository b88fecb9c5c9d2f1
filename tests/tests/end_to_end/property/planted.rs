//! The judge finds what is planted into the evidence of a real world.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tributary_tests::oracle::TopicRecord;
use tributary_tests::property::{Evidence, judge, run_world};
use tributary_tests::stack::Stack;

/// A world whose evidence has all kinds of records; any other would do.
const SEED: u64 = 2;
/// How often each error is planted, each time elsewhere.
const PLANTS: usize = 40;

type Plant = fn(&mut Evidence, usize) -> bool;

/// Each does its damage at a record, and says whether there was something to damage.
const ERRORS: [(&str, Plant); 6] = [
    ("a dropped record", |evidence, at| {
        // Of a row that was read and has changed since nothing is left to be seen.
        let superseded = is_superseded(evidence, at);
        let is_read = op(&evidence.records[at]) == Some('r');
        (!is_read || !superseded) && {
            evidence.records.remove(at);
            true
        }
    }),
    ("a doubled record", |evidence, at| {
        let copy = evidence.records[at].clone();
        evidence.records.insert(at, copy);
        true
    }),
    ("a record that comes again later", |evidence, at| {
        let mut copy = evidence.records[at].clone();
        copy.seq = evidence
            .records
            .iter()
            .map(|record| record.seq)
            .max()
            .unwrap_or_default()
            + 1;
        evidence.records.push(copy);
        // As long as rows are read again, `r` is the newest state of a row: here it must be an old one.
        op(&evidence.records[at]) != Some('r') || is_superseded(evidence, at)
    }),
    ("a reordered record", |evidence, at| {
        let key = &evidence.records[at].key;
        let next =
            (at + 1..evidence.records.len()).find(|next| evidence.records[*next].key == *key);
        let Some(next) = next.filter(|_| streamed(&evidence.records[at])) else {
            return false;
        };
        evidence.records.swap(at, next);
        true
    }),
    ("an altered value", |evidence, at| {
        let superseded = is_superseded(evidence, at);
        let Some(change) = &mut evidence.records[at].change else {
            return false;
        };
        if change.op == 'r' && superseded || change.after.is_empty() {
            return false;
        }
        let columns: Vec<String> = change.after.keys().cloned().collect();
        let column = &columns[at % columns.len()];
        // What wal2json does not tell, and what has been dropped since, is nobody's to judge.
        if !evidence.rows.columns.contains(column) || change.after[column].is_none() || superseded {
            return false;
        }
        change
            .after
            .insert(column.clone(), Some("planted".to_owned()));
        true
    }),
    ("an altered operation", |evidence, at| {
        let Some(change) = &mut evidence.records[at].change else {
            return false;
        };
        let other = match change.op {
            'c' => 'u',
            'u' => 'c',
            _ => return false,
        };
        change.op = other;
        true
    }),
];

fn op(record: &TopicRecord) -> Option<char> {
    record.change.as_ref().map(|change| change.op)
}

fn streamed(record: &TopicRecord) -> bool {
    !matches!(op(record), Some('r' | 't'))
}

/// Whether a later record says something else of the same row, or of all rows.
fn is_superseded(evidence: &Evidence, at: usize) -> bool {
    let key = &evidence.records[at].key;
    let mut later = evidence.records[at + 1..].iter();
    later.any(|record| record.below.is_some() || !key.is_empty() && record.key == *key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_errors_are_found() {
    let stack = Stack::from_env().unwrap();
    let outcome = run_world(&stack, "planted", SEED).await.unwrap();
    let mut rng = SmallRng::seed_from_u64(SEED);
    for (name, plant) in ERRORS {
        let mut planted = 0;
        for _ in 0..PLANTS * 20 {
            let mut evidence =
                outcome.evidence[rng.random_range(0..outcome.evidence.len())].clone();
            // What came before the oracle's slot is judged by the fold alone.
            let behind = evidence.before_events..evidence.records.len();
            if behind.is_empty() {
                continue;
            }
            let at = rng.random_range(behind);
            if evidence.records[at].below.is_some() || !plant(&mut evidence, at) {
                continue;
            }
            assert!(
                !judge(&evidence).is_empty(),
                "{name} at {at} of {} is not found",
                evidence.table
            );
            planted += 1;
            if planted == PLANTS {
                break;
            }
        }
        println!("{name}: {planted} planted and found");
        assert!(planted >= 5, "{name} could be planted {planted} times only");
    }
}
