//! What a world left behind, and whether that is right.

use crate::oracle::{Event, Fold, Lineage, TableRows, TopicRecord, compare_changes};

/// All that is known of one table at a quiet point.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// `schema.table`
    pub table: String,
    /// The key's columns; empty without a key.
    pub key: Vec<String>,
    /// A partitioned table: the oracle's slot tells of its leaves.
    pub partitioned: bool,
    /// The table's topic.
    pub records: Vec<TopicRecord>,
    /// How many of the records were there when the oracle's slot was created.
    pub before_events: usize,
    /// The table.
    pub rows: TableRows,
    /// Where older records have what the table has now.
    pub lineage: Lineage,
    /// What the oracle's slot tells; `None` at a quiet point before the end.
    pub events: Option<Vec<Event>>,
}

/// Everything that is wrong; empty if nothing is.
pub fn judge(evidence: &Evidence) -> Vec<String> {
    let mut fold = Fold::default();
    fold.apply(&evidence.records);
    let mut found = fold.compare(&evidence.rows, &evidence.key, &evidence.lineage);
    if let Some(events) = &evidence.events {
        let streamed = &evidence.records[evidence.before_events..];
        found.extend(compare_changes(events, streamed));
        // What pgoutput calls a truncate of the root is one of each leaf to wal2json.
        if !evidence.partitioned {
            found.extend(truncates(events, streamed));
        }
    }
    found
}

/// Each truncate is one record in every partition. The end of a sweep looks the same, and is none.
fn truncates(events: &[Event], records: &[TopicRecord]) -> Option<String> {
    let committed = events.iter().filter(|event| event.op == 't').count();
    let truncates = |record: &&TopicRecord| {
        record.below.is_some() && record.change.as_ref().is_some_and(|change| !change.read)
    };
    let told = records.iter().filter(truncates);
    let mut told: Vec<i32> = told.map(|record| record.partition).collect();
    told.sort_unstable();
    let mut partitions = told.clone();
    partitions.dedup();
    let wrong = partitions
        .iter()
        .find(|partition| told.iter().filter(|other| other == partition).count() != committed);
    if partitions.is_empty() && committed > 0 || wrong.is_some() {
        return Some(format!(
            "{committed} truncates committed, but in the partitions {told:?}"
        ));
    }
    None
}
