use std::sync::Arc;

use tributary_schemas::decode::{KeyPlan, ValuePlan};
use tributary_schemas::record::Datum;
use tributary_schemas::unavailable::PLACEHOLDER;
use tributary_schemas::{header, wire};

use super::{Coalesced, History, Outcome, coalesce};
use crate::flow::batch::{Action, Source};
use crate::flow::plans::Plans;
use crate::flow::records::Records;
use crate::flow::records::tests::message;
use crate::topics::TopicPartition;
use crate::topics::table_of;
use tributary_runtime::Result;

const KEY: u32 = 1;
const TRUNCATE: u32 = 2;
const VALUE: u32 = 3;
const UNUSABLE: u32 = 4;
const TEXT: u32 = 5;

const NULLABLE_KEY: u32 = 6;

const NULLABLE_KEY_SCHEMA: &str =
    r#"{"type":"record","name":"t.Key","fields":[{"name":"id","type":["null","int"]}]}"#;
const KEY_SCHEMA: &str =
    r#"{"type":"record","name":"t.Key","fields":[{"name":"id","type":"int"}]}"#;
const TRUNCATE_SCHEMA: &str = r#"{"type":"record","name":"tributary.TruncateKey","fields":[
    {"name":"source","type":"string"},{"name":"schema","type":"string"},{"name":"table","type":"string"}]}"#;
const VALUE_SCHEMA: &str = r#"{"type":"record","name":"t.Envelope","fields":[
    {"name":"before","type":["null",{"type":"record","name":"t.Value","fields":[{"name":"id","type":"int"}]}]},
    {"name":"after","type":["null","t.Value"]},
    {"name":"source","type":{"type":"record","name":"t.Source","fields":[{"name":"ts_us","type":"long"}]}},
    {"name":"op","type":"string"}]}"#;

/// Records of a test, built one after the other at the offsets 0, 1, 2, …
struct Log {
    records: Records,
    next: i64,
}

impl Log {
    fn new() -> Self {
        Self {
            records: Records::default(),
            next: 0,
        }
    }

    fn raw(mut self, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&str, u64)]) -> Self {
        let headers: Vec<_> = headers
            .iter()
            .map(|&(name, seq)| (name, seq.to_be_bytes()))
            .collect();
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, seq)| (*name, &seq[..]))
            .collect();
        self.records.push(&message(self.next, key, value, &headers));
        self.next += 1;
        self
    }

    fn change(self, op: char, id: u8, seq: u64) -> Self {
        self.raw(Some(&key(id)), Some(&value(op, id)), &[(header::SEQ, seq)])
    }

    fn tombstone(self, id: u8, seq: u64) -> Self {
        self.raw(Some(&key(id)), None, &[(header::SEQ, seq)])
    }

    fn coalesce(self, history: &mut History) -> Result<Coalesced> {
        match self.coalesce_of(history, Some(1))? {
            Outcome::Coalesced(coalesced) => Ok(coalesced),
            Outcome::NeedsPartitions(_) => panic!("it has them"),
        }
    }

    fn coalesce_of(self, history: &mut History, partitions: Option<i32>) -> Result<Outcome> {
        let topic = "shop.s.t".to_owned();
        let source = Arc::new(Source {
            table: table_of(&topic),
            partition: TopicPartition {
                topic,
                partition: 3,
            },
        });
        coalesce(source, self.records, &plans(), history, partitions)
    }

    /// What is left: `<letter><id>@<seq>`, with U(psert), A(ppend), D(elete).
    fn changes(self) -> (Vec<String>, Option<u64>, Vec<String>) {
        let coalesced = self.coalesce(&mut History::default()).unwrap();
        let changes = coalesced.batch.changes().map(|change| {
            let letter = match change.action {
                Action::Upsert(_) => 'U',
                Action::Append(_) => 'A',
                Action::Delete => 'D',
            };
            let id = change.key.map_or(String::new(), |key| match key.row[0] {
                Datum::Int(id) => id.to_string(),
                _ => "?".to_owned(),
            });
            format!("{letter}{id}@{}", change.seq)
        });
        let faults = coalesced.faults.iter().map(|fault| fault.what.clone());
        (changes.collect(), coalesced.batch.below(), faults.collect())
    }
}

/// With a text beside the id.
fn text_value(op: char, id: u8, text: &str) -> Vec<u8> {
    let (length, op) = (u8::try_from(text.len() * 2).unwrap(), op.to_string());
    let head: [&[u8]; 3] = [
        &wire::prefix(TEXT),
        &[0, 2, id * 2, 2, length],
        text.as_bytes(),
    ];
    [&head.concat()[..], &[2, 2], op.as_bytes()].concat()
}

fn plans() -> Plans {
    let mut plans = Plans::default();
    let key = |schema| Some(KeyPlan::compile(schema).map(Arc::new).map_err(Arc::new));
    plans.keys.insert(KEY, key(KEY_SCHEMA));
    plans.keys.insert(NULLABLE_KEY, key(NULLABLE_KEY_SCHEMA));
    plans.keys.insert(TRUNCATE, key(TRUNCATE_SCHEMA));
    let value = |schema| Some(ValuePlan::compile(schema).map(Arc::new).map_err(Arc::new));
    plans.values.insert(VALUE, value(VALUE_SCHEMA));
    let text = VALUE_SCHEMA.replace(
        r#"[{"name":"id","type":"int"}]"#,
        r#"[{"name":"id","type":"int"},{"name":"text","type":["null","string"],"default":null}]"#,
    );
    plans.values.insert(TEXT, value(&text));
    plans.values.insert(UNUSABLE, value(KEY_SCHEMA));
    plans
}

fn key(id: u8) -> Vec<u8> {
    [&wire::prefix(KEY)[..], &[id * 2]].concat()
}

fn truncate_key() -> Vec<u8> {
    [&wire::prefix(TRUNCATE)[..], b"\x02s\x02s\x02t"].concat()
}

fn value(op: char, id: u8) -> Vec<u8> {
    let after: &[u8] = if matches!(op, 'd' | 't') {
        &[0]
    } else {
        &[2, id * 2]
    };
    let op = op.to_string();
    [
        &wire::prefix(VALUE)[..],
        &[0],
        after,
        &[2],
        &[2],
        op.as_bytes(),
    ]
    .concat()
}

#[test]
fn the_newest_change_of_a_key_is_left() {
    let log = Log::new()
        .change('c', 1, 10)
        .change('c', 2, 11)
        .change('u', 1, 12)
        .change('d', 2, 13)
        .tombstone(2, 14)
        .change('r', 3, 15);
    let (changes, below, faults) = log.changes();
    assert_eq!(changes, ["U1@12", "D2@14", "U3@15"]);
    assert_eq!((below, faults.len()), (None, 0));
}

#[test]
fn an_older_record_behind_a_newer_one_changes_nothing() {
    let log = Log::new()
        .change('u', 1, 20)
        .change('u', 1, 19)
        .change('d', 1, 18);
    assert_eq!(log.changes().0, ["U1@20"]);
    // A snapshot's rows share one version: the later one counts.
    let log = Log::new().change('r', 1, 20).change('d', 1, 20);
    assert_eq!(log.changes().0, ["D1@20"]);
}

#[test]
fn rows_without_a_key_are_all_kept() {
    let log = Log::new()
        .raw(None, Some(&value('c', 1)), &[(header::SEQ, 5)])
        .raw(None, Some(&value('c', 1)), &[(header::SEQ, 5)])
        .raw(None, Some(&value('u', 1)), &[(header::SEQ, 6)])
        .raw(None, Some(&value('d', 1)), &[(header::SEQ, 7)]);
    let (changes, _, faults) = log.changes();
    assert_eq!(changes, ["A@5", "A@5"]);
    assert_eq!(
        faults,
        [
            "the record is an update without a key",
            "the record is a delete without a key"
        ]
    );
}

/// Debezium takes a unique index for the key of a table without one: rows with a null in it are not the same row.
#[test]
fn a_key_with_a_null_in_it_is_a_fault() {
    let key = |id: &[u8]| [&wire::prefix(NULLABLE_KEY)[..], id].concat();
    let log = Log::new()
        .raw(Some(&key(&[0])), Some(&value('c', 1)), &[])
        .raw(Some(&key(&[2, 2])), Some(&value('c', 1)), &[]);
    let (changes, _, faults) = log.changes();
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert_eq!(
        faults,
        ["the key's column 'id' is null, so that several rows may have this key"]
    );
}

/// What Apicurio's converter writes unless it is told otherwise: the id in a header, or in eight bytes.
#[test]
fn ids_in_other_places_are_faults_that_say_so() {
    let eight_bytes = [&[0; 8][..], &[1, 2]].concat();
    let log = Log::new()
        .raw(Some(&[2]), None, &[("apicurio.key.globalId", 1)])
        .raw(Some(&eight_bytes), None, &[]);
    let (changes, _, faults) = log.changes();
    assert_eq!(changes, [] as [&str; 0]);
    assert_eq!(
        faults,
        [
            "the key's schema id is in a header, not in front of it",
            "the key's schema id is 0, as is the first half of an id in eight bytes"
        ]
    );
}

#[test]
fn rows_below_are_dropped_wherever_they_stand() {
    let log = Log::new()
        .change('c', 1, 10)
        .raw(
            Some(&truncate_key()),
            Some(&value('t', 0)),
            &[(header::SEQ, 21), (header::BELOW, 20)],
        )
        .raw(Some(&truncate_key()), None, &[(header::SEQ, 22)])
        .change('c', 2, 20)
        .change('c', 3, 15);
    let (changes, below, _) = log.changes();
    assert_eq!(changes, ["U2@20"]);
    assert_eq!(below, Some(20));
}

#[test]
fn a_foreign_topic_is_versioned_by_offset_and_truncated_at_the_record() {
    let log = Log::new()
        .raw(Some(&key(1)), Some(&value('c', 1)), &[])
        .raw(None, Some(&value('t', 0)), &[])
        .raw(Some(&key(2)), Some(&value('c', 2)), &[]);
    let (changes, below, _) = log.changes();
    assert_eq!(changes, ["U2@3"]);
    assert_eq!(below, Some(2));
}

/// A record's key and value.
type Raw = (Option<Vec<u8>>, Option<Vec<u8>>);

/// The text of the rows that are left, `-` where no record has it.
fn texts(log: Log) -> Vec<String> {
    let coalesced = log.coalesce(&mut History::default()).unwrap();
    let changes = coalesced.batch.changes().map(|change| {
        let Action::Upsert(row) = change.action else {
            return "gone".to_owned();
        };
        match &row.row[1] {
            Datum::Str(text) => (*text).to_owned(),
            Datum::Unavailable => "-".to_owned(),
            Datum::Lost => "lost".to_owned(),
            other => format!("{other:?}"),
        }
    });
    changes.collect()
}

#[test]
fn what_a_foreign_record_lacks_is_taken_from_earlier_ones_of_its_row() {
    let old_key = key(7);
    let change = |op, id, text| (Some(key(id)), Some(text_value(op, id, text)));
    let log = |changes: Vec<Raw>, headers: &[(&str, u64)]| {
        changes.into_iter().fold(Log::new(), |log, (key, value)| {
            log.raw(key.as_deref(), value.as_deref(), headers)
        })
    };
    let changes = vec![
        change('c', 1, "one"),
        change('u', 1, PLACEHOLDER),
        change('u', 1, PLACEHOLDER),
        change('u', 2, PLACEHOLDER),
        change('c', 3, "three"),
        change('u', 3, "3"),
        change('u', 3, PLACEHOLDER),
        change('c', 4, PLACEHOLDER),
        change('u', 5, "five"),
        (Some(key(5)), None),
        change('u', 5, PLACEHOLDER),
    ];
    assert_eq!(
        texts(log(changes.clone(), &[])),
        ["one", "-", "3", PLACEHOLDER, "lost"]
    );
    // In our own records it is a text like any other.
    let own = texts(log(changes, &[(header::SEQ, 5)]));
    assert_eq!(own[..2], [PLACEHOLDER, PLACEHOLDER]);
    // A changed key ends with a create that lacks what the update did not touch.
    let mut moved = Log::new();
    let value = text_value('c', 4, PLACEHOLDER);
    moved.records.push(&message(
        0,
        Some(&key(4)),
        Some(&value),
        &[(header::OLD_KEY, &old_key)],
    ));
    assert_eq!(texts(moved), ["lost"]);
    // A record that is refused leaves the row as it was before.
    let refused = vec![
        change('u', 1, "one"),
        change('u', 2, "2"),
        change('u', 1, PLACEHOLDER),
    ];
    let refused = log(refused, &[]).coalesce(&mut History::default());
    let mut batch = refused.unwrap().batch;
    assert!(batch.lacks_values());
    batch.remove(2);
    let left = batch.changes().map(|change| (change.offset, change.seq));
    assert_eq!(left.collect::<Vec<_>>(), [(0, 1), (1, 2)]);
    batch.remove(0);
    assert_eq!(batch.len(), 1);
}

#[test]
fn a_foreign_truncate_is_applied_to_one_partition_only() {
    let log = || {
        Log::new()
            .raw(Some(&key(1)), Some(&value('c', 1)), &[])
            .raw(None, Some(&value('t', 0)), &[])
            .raw(Some(&key(2)), Some(&value('c', 2)), &[])
    };
    let mut history = History::default();
    let Outcome::NeedsPartitions(records) = log().coalesce_of(&mut history, None).unwrap() else {
        panic!("nobody has said how many partitions there are");
    };
    assert_eq!(records.len(), 3);
    let Outcome::Coalesced(several) = log().coalesce_of(&mut history, Some(2)).unwrap() else {
        panic!("it has them");
    };
    assert_eq!(several.batch.below(), None);
    assert_eq!(several.batch.len(), 2);
    assert_eq!(several.faults[0].offset, 1);
}

#[test]
fn what_is_put_aside_says_nothing_about_versions() {
    let mut history = History::default();
    let first = Log::new().raw(Some(b"junk"), Some(b"not avro"), &[]);
    assert_eq!(first.coalesce(&mut history).unwrap().faults.len(), 1);
    let second = Log::new()
        .change('c', 1, 10)
        .raw(Some(b"junk"), Some(b"not avro"), &[])
        .raw(Some(&key(1)), Some(&value('c', 1)), &[])
        .change('c', 2, 11);
    let second = second.coalesce(&mut history).unwrap();
    assert_eq!(second.batch.len(), 2);
    let offsets: Vec<_> = second.faults.iter().map(|fault| fault.offset).collect();
    assert_eq!(offsets, [1, 2]);
    // After a restart, a stranger comes first.
    let third = Log::new()
        .raw(Some(&key(1)), Some(&value('c', 1)), &[])
        .change('c', 2, 12);
    let third = third.coalesce(&mut History::default()).unwrap();
    assert_eq!((third.batch.len(), third.faults[0].offset), (1, 0));
}

#[test]
fn what_cannot_be_applied_is_a_fault_of_its_own() {
    let seq = [(header::SEQ, 5)];
    let unknown = [&wire::prefix(99)[..], b"x"].concat();
    let unusable = [&wire::prefix(UNUSABLE)[..], &[2]].concat();
    let log = Log::new()
        .raw(Some(&key(1)), Some(b"{}"), &seq)
        .raw(Some(b"1"), Some(&value('c', 1)), &seq)
        .raw(Some(&key(1)), Some(&unknown), &seq)
        .raw(Some(&key(1)), Some(&unusable), &seq)
        .raw(Some(&key(1)), Some(&value('c', 1)[..7]), &seq)
        .raw(Some(&key(1)), Some(&value('m', 1)), &seq)
        .raw(None, None, &seq)
        .raw(Some(&key(1)), Some(&value('c', 1)), &[(header::SEQ, 0)])
        .change('c', 2, 6);
    let (changes, _, faults) = log.changes();
    assert_eq!(changes, ["U2@6"]);
    let expected = [
        "the value is JSON without a schema (schemas.enable=false), not Avro",
        "the key is not in the Avro wire format (a zero byte, the schema's id in four bytes, the body)",
        "the value's schema id 99 is unknown to the schema registry",
        "the value's schema id 4 cannot be used: 't.Key' is not a Debezium change event envelope",
        "the value does not decode with schema id 3: the body does not fit its schema at",
        "the record is a logical message (op m), no change of a row",
        "the record has neither key nor value",
        "the header tributary.seq is not a positive number in eight big-endian bytes",
    ];
    assert_eq!(faults.len(), expected.len(), "{faults:?}");
    for (fault, expected) in faults.iter().zip(expected) {
        assert!(fault.starts_with(expected), "{fault}");
    }
}

#[test]
fn refused_records_are_taken_out_of_the_batch() {
    let log = Log::new()
        .change('c', 1, 10)
        .change('c', 2, 11)
        .change('c', 3, 12);
    let mut batch = log.coalesce(&mut History::default()).unwrap().batch;
    assert!(batch.has(1) && !batch.has(7));
    batch.remove(1);
    let offsets: Vec<_> = batch.changes().map(|change| change.offset).collect();
    assert_eq!(
        (offsets, batch.len(), batch.next_offset()),
        (vec![0, 2], 2, 3)
    );
}
