//! The state of a table, folded from its topic as any consumer would, and compared with the table itself.

use std::collections::{BTreeMap, BTreeSet};

use super::{Row, TableRows, TopicRecord};

/// How many differences are told before the rest is only counted.
const TOLD: usize = 12;

/// Where a value is found in a record that was written before a column had its name: DDL changes the table, and no
/// record that is in the log.
#[derive(Debug, Clone, Default)]
pub struct Lineage {
    /// Earlier names of a column, the latest first.
    pub earlier: BTreeMap<String, Vec<String>>,
    /// The canonical value that rows got when the column was added.
    pub default: BTreeMap<String, String>,
}

/// A row in the fold: its version, and the row, or `None` once it is deleted.
type Version = (u64, Option<Row>);

/// What is left of a topic.
#[derive(Debug, Clone, Default)]
pub struct Fold {
    keyed: BTreeMap<BTreeMap<String, String>, Version>,
    /// Rows of a table without a key.
    bag: Vec<(u64, Row)>,
    /// Rows below are gone, also those that come later.
    floor: u64,
    /// What no topic may have.
    faults: Vec<String>,
    /// The keys that a snapshot gave, with its `seq`.
    read: BTreeSet<(u64, BTreeMap<String, String>)>,
}

impl Fold {
    /// Applies records in the order in which their partitions have them.
    pub fn apply(&mut self, records: &[TopicRecord]) {
        for record in records {
            self.apply_one(record);
        }
    }

    fn apply_one(&mut self, record: &TopicRecord) {
        let place = format!("[{}] offset {}", record.partition, record.offset);
        let op = record.change.as_ref().map(|change| change.op);
        if let Some(below) = record.below {
            if op != Some('t') {
                self.faults
                    .push(format!("{place}: tributary.below on op {op:?}"));
            }
            self.floor = self.floor.max(below);
            self.keyed
                .retain(|_, (seq, row)| row.is_none() || *seq >= below);
            self.bag.retain(|(seq, _)| *seq >= below);
            return;
        }
        if record
            .headers
            .iter()
            .any(|name| name == "tributary.incomplete")
            && op == Some('d')
        {
            self.faults
                .push(format!("{place}: a delete that is incomplete"));
        }
        if op == Some('r')
            && !record.key.is_empty()
            && !self.read.insert((record.seq, record.key.clone()))
        {
            self.faults.push(format!(
                "{place}: the snapshot has key {:?} twice",
                record.key
            ));
        }
        let row = match &record.change {
            Some(change) if change.op != 'd' => Some(change.after.clone()),
            _ => None,
        };
        if record.seq < self.floor {
            return;
        }
        if record.key.is_empty() {
            match row {
                Some(row) => self.bag.push((record.seq, row)),
                None => self.faults.push(format!("{place}: a delete without a key")),
            }
            return;
        }
        let known = self.keyed.get(&record.key);
        if known.is_none_or(|(seq, _)| *seq <= record.seq) {
            self.keyed.insert(record.key.clone(), (record.seq, row));
        }
    }

    /// The rows with a key that there are: the key, the version, and the row.
    pub(super) fn live(&self) -> impl Iterator<Item = (&BTreeMap<String, String>, u64, &Row)> {
        let keyed = self.keyed.iter();
        keyed.filter_map(|(key, (seq, row))| Some((key, *seq, row.as_ref()?)))
    }

    /// Everything in which the fold differs from the table. `key` are the key's columns; empty without a key.
    pub fn compare(&self, table: &TableRows, key: &[String], lineage: &Lineage) -> Vec<String> {
        let mut found = self.faults.clone();
        let live = self.keyed.values().filter_map(|(_, row)| row.as_ref());
        let live = live.chain(self.bag.iter().map(|(_, row)| row));
        let mut got: BTreeMap<Vec<Option<String>>, Vec<Row>> = BTreeMap::new();
        for row in live {
            let row = seen_as(row, &table.columns, lineage);
            got.entry(identity(&row, key)).or_default().push(row);
        }
        let mut wanted: BTreeMap<Vec<Option<String>>, Vec<&Row>> = BTreeMap::new();
        for row in &table.rows {
            wanted.entry(identity(row, key)).or_default().push(row);
        }
        for (identity, wanted) in wanted {
            let mut got = got.remove(&identity).unwrap_or_default();
            for row in wanted {
                match got.iter().position(|copy| copy == row) {
                    Some(same) => drop(got.swap_remove(same)),
                    None if got.is_empty() => {
                        found.push(format!("row {} is missing", short(&identity)));
                    }
                    None => found.push(difference(&identity, row, &got.swap_remove(0))),
                }
            }
            for _ in got {
                found.push(format!("row {} is there once too often", short(&identity)));
            }
        }
        found.extend(
            got.keys()
                .map(|identity| format!("row {} should be gone", short(identity))),
        );
        let more = found.len().saturating_sub(TOLD);
        if more > 0 {
            found.truncate(TOLD);
            found.push(format!("… and {more} more"));
        }
        found
    }
}

/// A record's row under the names that the table has now.
fn seen_as(row: &Row, columns: &[String], lineage: &Lineage) -> Row {
    let value = |column: &String| {
        let earlier = lineage.earlier.get(column);
        let names = std::iter::once(column).chain(earlier.into_iter().flatten());
        for name in names {
            if let Some(value) = row.get(name) {
                return value.clone();
            }
        }
        lineage.default.get(column).cloned()
    };
    columns
        .iter()
        .map(|column| (column.clone(), value(column)))
        .collect()
}

/// What tells rows apart: the key, or without one the whole row.
fn identity(row: &Row, key: &[String]) -> Vec<Option<String>> {
    if key.is_empty() {
        return row.values().cloned().collect();
    }
    key.iter()
        .map(|column| row.get(column).cloned().flatten())
        .collect()
}

fn difference(identity: &[Option<String>], wanted: &Row, got: &Row) -> String {
    let mut columns = Vec::new();
    for (column, value) in wanted {
        let copy = got.get(column).cloned().flatten();
        if copy != *value {
            columns.push(format!(
                "{column:?} is {} instead of {}",
                short(std::slice::from_ref(&copy)),
                short(std::slice::from_ref(value))
            ));
        }
    }
    format!("row {}: {}", short(identity), columns.join(", "))
}

/// Values for people: long ones are cut.
fn short(values: &[Option<String>]) -> String {
    let print = |value: &Option<String>| match value {
        None => "null".to_owned(),
        Some(text) if text.chars().count() <= 60 => format!("{text:?}"),
        Some(text) => format!(
            "{:?}… ({} bytes)",
            text.chars().take(60).collect::<String>(),
            text.len()
        ),
    };
    values.iter().map(print).collect::<Vec<_>>().join(", ")
}
