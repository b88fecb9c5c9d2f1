//! One primary key under two Kafka keys: a key's type has changed, so its bytes are others, and the row is the same.

use std::sync::Arc;

use tributary_schemas::record::{Datum, FieldType, RecordType};

use super::fixture::{Fixture, TestBatch, open, record};

const ROWS: &str =
    "SELECT id || ' ' || name || ' @' || _tributary_seq FROM shop.t AS t ORDER BY id";

/// What a partition has of both keys.
struct Log {
    keys: [Arc<RecordType>; 2],
    rows: [Arc<RecordType>; 2],
    batch: TestBatch,
}

impl Log {
    fn new() -> Self {
        let types = [FieldType::Int32, FieldType::Int64];
        let row = |id| record(&[("id", id), ("name", FieldType::String)]);
        Self {
            keys: types.clone().map(|id| record(&[("id", id)])),
            rows: types.map(row),
            batch: TestBatch::default(),
        }
    }

    /// A row under the key before (0) or after (1) the change.
    fn upsert(mut self, generation: usize, seq: u64, id: i64, name: &'static str) -> Self {
        let (key, row) = (&self.keys[generation], &self.rows[generation]);
        let offset = self.batch.next_offset;
        self.batch = self.batch.upsert(
            offset,
            seq,
            (key, vec![Datum::Int(id)]),
            (row, vec![Datum::Int(id), Datum::Str(name)]),
        );
        self
    }

    fn delete(mut self, generation: usize, seq: u64, id: i64) -> Self {
        let offset = self.batch.next_offset;
        let key = (&self.keys[generation], vec![Datum::Int(id)]);
        self.batch = self.batch.delete(offset, seq, key);
        self
    }
}

/// A row for each order in which the two may come.
fn mixed() -> Log {
    Log::new()
        .upsert(0, 10, 1, "old")
        .upsert(1, 20, 1, "new")
        .upsert(1, 20, 2, "new")
        .upsert(0, 10, 2, "old")
        .upsert(0, 10, 3, "old")
        .delete(1, 20, 3)
        .delete(1, 20, 4)
        .upsert(0, 10, 4, "old")
        .delete(0, 10, 5)
        .upsert(1, 20, 5, "new")
        .upsert(1, 20, 6, "new")
        .delete(0, 10, 6)
        .upsert(0, 30, 7, "newer before")
        .upsert(1, 20, 7, "than after")
}

const NEWEST: [&str; 5] = [
    "1 new @20",
    "2 new @20",
    "5 new @20",
    "6 new @20",
    "7 newer before @30",
];

#[tokio::test]
async fn the_newest_of_two_keys_wins_within_one_batch() {
    let fixture = Fixture::new().await;
    let (writer, _) = open(&fixture.warehouse(), "t", 0).await;
    writer.apply(&mixed().batch).await.unwrap();
    assert_eq!(fixture.texts(ROWS).await, NEWEST);
    // And over what the table has by then.
    let next = Log::new()
        .upsert(0, 40, 1, "old")
        .upsert(1, 41, 1, "new")
        .upsert(0, 15, 2, "older")
        .upsert(1, 16, 2, "older");
    let mut next = next.batch;
    fixture
        .run("UPDATE _tributary._tributary_ledger SET next_offset = 0 WHERE partition = 0")
        .await;
    let writer = writer.take(0).await;
    next.next_offset = 99;
    writer.apply(&next).await.unwrap();
    assert_eq!(fixture.texts(ROWS).await[..2], ["1 new @41", "2 new @20"]);
}

#[tokio::test]
async fn the_newest_of_two_keys_wins_over_partitions_of_one_transaction() {
    for old_first in [true, false] {
        let fixture = Fixture::new().await;
        let (writer, _) = open(&fixture.warehouse(), "t", 0).await;
        writer.take(1).await;
        let before = Log::new()
            .upsert(0, 10, 1, "old")
            .upsert(0, 11, 2, "old")
            .delete(0, 12, 3)
            .upsert(0, 30, 4, "newer");
        let after = Log::new()
            .upsert(1, 20, 1, "new")
            .delete(1, 21, 2)
            .upsert(1, 22, 3, "new")
            .upsert(1, 23, 4, "older");
        let (first, second) = if old_first {
            (before, after)
        } else {
            (after, before)
        };
        writer
            .apply_together(&[(0, &first.batch), (1, &second.batch)])
            .await
            .unwrap();
        assert_eq!(
            fixture.texts(ROWS).await,
            ["1 new @20", "3 new @22", "4 newer @30"]
        );
    }
}

/// Rows of one version, as a snapshot's are: one of them, and no error.
#[tokio::test]
async fn two_keys_of_one_version_are_one_row() {
    let fixture = Fixture::new().await;
    let (writer, _) = open(&fixture.warehouse(), "t", 0).await;
    let log = Log::new().upsert(0, 10, 1, "a").upsert(1, 10, 1, "a");
    writer.apply(&log.batch).await.unwrap();
    assert_eq!(fixture.texts(ROWS).await, ["1 a @10"]);
}
