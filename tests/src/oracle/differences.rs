//! Compares the changes of the oracle's slot with the records of a topic.

use std::collections::{BTreeMap, BTreeSet};

use super::{Event, TopicRecord};

type Key = BTreeMap<String, String>;

/// How many differences are told before the rest is only counted.
const TOLD: usize = 20;

/// Everything in which a table's topic differs from what it should hold: each change once, in commit order
/// per key, every value as it was committed, each delete with its tombstone, and `seq` strictly increasing.
/// Empty if nothing does.
///
/// `expected` are the changes of this table in commit order; snapshot records of the topic are passed over. A column
/// that the WAL does not carry is not judged here (the targets' comparison does).
pub fn compare_changes(expected: &[Event], records: &[TopicRecord]) -> Vec<String> {
    let mut found = Vec::new();
    check_seq(records, &mut found);
    let key_names: BTreeSet<String> = records
        .iter()
        .flat_map(|record| record.key.keys().cloned())
        .collect();
    let wanted = wanted_by_key(expected, &key_names);
    let mut got = published_by_key(records, &mut found);
    for (key, wanted) in &wanted {
        compare_key(
            key,
            wanted,
            &got.remove(key).unwrap_or_default(),
            &mut found,
        );
    }
    for (key, extra) in got {
        found.push(format!(
            "key {key:?}: {} changes that were never committed",
            extra.len()
        ));
    }
    let more = found.len().saturating_sub(TOLD);
    if more > 0 {
        found.truncate(TOLD);
        found.push(format!("… and {more} more"));
    }
    found
}

/// One partition's records of the stream have a `seq` each of their own, in order.
fn check_seq(records: &[TopicRecord], found: &mut Vec<String>) {
    let mut last: BTreeMap<i32, u64> = BTreeMap::new();
    for record in records {
        let streamed = record.change.as_ref().is_none_or(|change| change.op != 'r');
        let before = last.insert(record.partition, record.seq);
        if streamed && before.is_some_and(|before| before >= record.seq) {
            found.push(format!(
                "[{}] offset {}: seq {} is not above the last",
                record.partition, record.offset, record.seq
            ));
        }
    }
}

fn wanted_by_key<'a>(
    expected: &'a [Event],
    key_names: &BTreeSet<String>,
) -> BTreeMap<Key, Vec<&'a Event>> {
    let mut by_key: BTreeMap<Key, Vec<&Event>> = BTreeMap::new();
    for event in expected.iter().filter(|event| event.op != 't') {
        let key = if event.key.is_empty() {
            let values = key_names
                .iter()
                .filter_map(|name| Some((name.clone(), event.row.get(name)?.clone()?)));
            values.collect()
        } else {
            event.key.clone()
        };
        by_key.entry(key).or_default().push(event);
    }
    by_key
}

/// The streamed records by key; a delete without its tombstone, and a tombstone without its delete, are told.
fn published_by_key<'a>(
    records: &'a [TopicRecord],
    found: &mut Vec<String>,
) -> BTreeMap<Key, Vec<&'a TopicRecord>> {
    let mut by_key: BTreeMap<Key, Vec<&TopicRecord>> = BTreeMap::new();
    let mut deleted: BTreeSet<&Key> = BTreeSet::new();
    for record in records {
        match &record.change {
            Some(change) if matches!(change.op, 'r' | 't') => continue,
            Some(change) => {
                if deleted.remove(&record.key) {
                    found.push(format!(
                        "key {:?}: a delete without a tombstone",
                        record.key
                    ));
                }
                if change.op == 'd' {
                    deleted.insert(&record.key);
                }
                by_key.entry(record.key.clone()).or_default().push(record);
            }
            None => {
                if !deleted.remove(&record.key) {
                    found.push(format!(
                        "key {:?}: a tombstone without a delete",
                        record.key
                    ));
                }
            }
        }
    }
    found.extend(
        deleted
            .into_iter()
            .map(|key| format!("key {key:?}: a delete without a tombstone at the end")),
    );
    by_key
}

fn compare_key(key: &Key, wanted: &[&Event], got: &[&TopicRecord], found: &mut Vec<String>) {
    if wanted.len() != got.len() {
        found.push(format!(
            "key {key:?}: {} changes committed, {} in the topic",
            wanted.len(),
            got.len()
        ));
        return;
    }
    for (wanted, got) in wanted.iter().zip(got) {
        let Some(change) = &got.change else { continue };
        let place = format!("key {key:?} at [{}] offset {}", got.partition, got.offset);
        if change.op != wanted.op {
            found.push(format!(
                "{place}: op {} instead of {}",
                change.op, wanted.op
            ));
            continue;
        }
        for (column, value) in &wanted.row {
            if change.after.get(column) != Some(value) {
                found.push(format!(
                    "{place}: column {column} is {:?} instead of {value:?}",
                    change.after.get(column)
                ));
            }
        }
    }
}
