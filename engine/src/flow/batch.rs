//! A batch of one partition's records, coalesced per key.

use std::fmt;
use std::sync::Arc;

use tributary_schemas::decode::{KeyPlan, ValuePlan};
use tributary_schemas::record::{Datum, RecordType, Row};
use tributary_schemas::unavailable::is_placeholder;
use tributary_schemas::wire;

use crate::flow::records::{Record, Records};
use crate::topics::TableName;
use crate::topics::TopicPartition;

/// Records of one partition, newest per key, decoded on demand from the bytes that the batch owns.
///
/// It may be empty, when the loop put all its records aside: a target that keeps offsets still moves them.
pub struct Batch {
    pub(crate) source: Arc<Source>,
    pub(crate) records: Records,
    /// In offset order.
    pub(crate) entries: Vec<Entry>,
    pub(crate) below: Option<u64>,
    /// Changes that are below it themselves, newest per key.
    pub(crate) gone: Vec<Entry>,
    pub(crate) next_offset: i64,
    pub(crate) is_replay: bool,
}

/// A partition and its table.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) partition: TopicPartition,
    pub(crate) table: TableName,
}

/// A change of a [`Batch`], checked: its key and value decode with these plans.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The index in [`Batch::records`].
    pub(crate) record: usize,
    pub(crate) seq: u64,
    pub(crate) key: Option<Arc<KeyPlan>>,
    /// `None` for a delete.
    pub(crate) value: Option<Arc<ValuePlan>>,
    /// The row was read or inserted, not changed.
    pub(crate) inserts: bool,
    /// Microseconds since 1970 of a streamed change's commit.
    pub(crate) commit_time_us: Option<i64>,
    /// Set where the record may lack values.
    pub(crate) lacking: Option<Lacking>,
}

/// Where values are looked for that a record lacks.
#[derive(Debug, Default)]
pub(crate) struct Lacking {
    /// Earlier records of the row, the oldest first.
    pub(crate) earlier: Vec<(usize, Arc<ValuePlan>)>,
    /// What the target has under this key is another row, or one that is gone.
    pub(crate) is_new: bool,
}

impl Batch {
    /// The partition that the records come from.
    pub fn partition(&self) -> &TopicPartition {
        &self.source.partition
    }

    /// The table that the topic carries.
    pub fn table(&self) -> &TableName {
        &self.source.table
    }

    /// Where the batch ends: one past its last record.
    pub const fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Whether its records are of keys of which one was put aside, read again. They stand below where the target stands with the
    /// partition, and are written all the same: each is the newest of its key there. The place does not change.
    pub const fn is_replay(&self) -> bool {
        self.is_replay
    }

    /// Where set: rows of the target with a lower `seq` are gone. Comes before all [`Batch::changes`],
    /// none of which has a lower `seq`.
    pub const fn below(&self) -> Option<u64> {
        self.below
    }

    /// How many changes there are.
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no changes ([`Batch::below`] may be set all the same).
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether its rows were all read or inserted at the source: most likely, the target has none of them yet.
    pub fn inserts_only(&self) -> bool {
        self.entries.iter().all(|entry| entry.inserts)
    }

    /// Whether rows in it may have a [`Datum::Unavailable`] or [`Datum::Lost`].
    pub fn lacks_values(&self) -> bool {
        self.entries.iter().any(|entry| entry.lacking.is_some())
    }

    /// Bytes of the records that the batch holds, those that coalescing left out included.
    pub fn bytes(&self) -> usize {
        self.records.bytes()
    }

    /// The changes, decoded one by one. May be called again.
    pub fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        self.entries.iter().filter_map(|entry| self.change(entry))
    }

    /// Deletes, just below the boundary, of the rows whose changes in the batch are below it themselves and so in none of the
    /// [`Batch::changes`]. A target that goes by versions alone needs them: an earlier holder's write of such a row may still come, and
    /// a sweep does not find what is not there yet.
    pub fn gone(&self) -> impl Iterator<Item = Change<'_>> {
        let last = self.below.unwrap_or_default().saturating_sub(1);
        self.gone.iter().filter_map(move |entry| {
            let record = self.records.get(entry.record)?;
            let key = match &entry.key {
                Some(plan) => Some(key_row(plan, record)?),
                None => None,
            };
            Some(Change {
                partition: self.source.partition.partition,
                offset: record.offset,
                seq: last,
                key,
                action: Action::Delete,
            })
        })
    }

    /// Whether it has a change of the record at this offset.
    pub(crate) fn has(&self, offset: i64) -> bool {
        self.entry(offset).is_some()
    }

    /// Takes a change out. Where it would have been completed from an earlier record, that one takes its place: nothing else may have the
    /// values.
    pub(crate) fn remove(&mut self, offset: i64) {
        let Some(index) = self.entry(offset) else {
            return;
        };
        let mut entry = self.entries.remove(index);
        let earlier = entry.lacking.as_mut().and_then(|it| it.earlier.pop());
        let Some((record, plan)) = earlier else {
            return;
        };
        let Some(offset) = self.records.get(record).map(|record| record.offset) else {
            return;
        };
        (entry.record, entry.seq) = (record, offset.unsigned_abs() + 1);
        entry.value = Some(plan);
        let offset_of = |entry: &Entry| self.records.get(entry.record).map(|record| record.offset);
        let at = self
            .entries
            .partition_point(|other| offset_of(other) < Some(offset));
        self.entries.insert(at, entry);
    }

    fn entry(&self, offset: i64) -> Option<usize> {
        self.entries
            .binary_search_by_key(&Some(offset), |entry| {
                self.records.get(entry.record).map(|record| record.offset)
            })
            .ok()
    }

    /// Every entry was checked when the batch was built, so none is left out here.
    fn change<'a>(&'a self, entry: &'a Entry) -> Option<Change<'a>> {
        let record = self.records.get(entry.record)?;
        let key = match &entry.key {
            Some(plan) => Some(key_row(plan, record)?),
            None => None,
        };
        let action = match &entry.value {
            None => Action::Delete,
            Some(plan) => {
                let mut row = value_row(plan, record)?;
                if let Some(lacking) = &entry.lacking {
                    self.complete(&mut row, lacking);
                }
                if key.is_some() {
                    Action::Upsert(row)
                } else {
                    Action::Append(row)
                }
            }
        };
        Some(Change {
            partition: self.source.partition.partition,
            offset: record.offset,
            seq: entry.seq,
            key,
            action,
        })
    }

    /// Puts the newest of the earlier values in the place of those that the record lacks.
    fn complete<'a>(&'a self, row: &mut ValueRow<'a>, lacking: &'a Lacking) {
        let fields = &row.row_type.fields;
        let mut open: Vec<_> = (0..row.row.len())
            .filter(|&at| is_placeholder(&row.row[at]))
            .collect();
        for (record, plan) in lacking.earlier.iter().rev() {
            if open.is_empty() {
                return;
            }
            let record = self.records.get(*record);
            let Some(mut older) = record.and_then(|record| value_row(plan, record)) else {
                continue;
            };
            open.retain(|&at| {
                let mut columns = older.row_type.fields.iter().zip(&mut older.row);
                let Some((field, datum)) = columns.find(|(field, _)| field.name == fields[at].name)
                else {
                    return true;
                };
                if is_placeholder(datum) {
                    return true;
                }
                row.row[at] = if field.field_type == fields[at].field_type {
                    std::mem::replace(datum, Datum::Null)
                } else {
                    Datum::Lost
                };
                false
            });
        }
        for at in open {
            row.row[at] = if lacking.is_new {
                Datum::Lost
            } else {
                Datum::Unavailable
            };
        }
    }
}

fn key_row<'a>(plan: &'a KeyPlan, record: Record<'a>) -> Option<KeyRow<'a>> {
    let (_, body) = wire::parse(record.key?)?;
    Some(KeyRow {
        key_type: plan.row_type(),
        row: plan.decode(body).ok()?,
    })
}

fn value_row<'a>(plan: &'a ValuePlan, record: Record<'a>) -> Option<ValueRow<'a>> {
    let (_, body) = wire::parse(record.value?)?;
    Some(ValueRow {
        row_type: plan.row_type(),
        row: plan.row(body).ok()??,
    })
}

/// Without the records, which are row values.
impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("partition", &self.source.partition)
            .field("len", &self.len())
            .field("below", &self.below)
            .field("next_offset", &self.next_offset)
            .finish_non_exhaustive()
    }
}

/// One change to apply; at most one per key and batch (the newest), in offset order.
///
/// A key is what its bytes are. Where its schema has changed, a row may come under two of them, in one batch or in two partitions'
/// at the same time: the higher `seq` counts, in whatever order they come.
#[derive(Debug)]
pub struct Change<'a> {
    /// The record's partition.
    pub partition: i32,
    /// The record's offset in it.
    pub offset: i64,
    /// The row's version: the record's `tributary.seq`, or its offset + 1 on a foreign topic.
    pub seq: u64,
    /// The key's columns; `None` for a table without a key (then the action is [`Action::Append`]).
    pub key: Option<KeyRow<'a>>,
    /// What to do.
    pub action: Action<'a>,
}

impl<'a> Change<'a> {
    /// What the row is now; `None` where it is gone.
    pub const fn row(&self) -> Option<&ValueRow<'a>> {
        match &self.action {
            Action::Upsert(row) | Action::Append(row) => Some(row),
            Action::Delete => None,
        }
    }
}

/// A decoded key.
#[derive(Debug)]
pub struct KeyRow<'a> {
    /// The key's columns.
    pub key_type: &'a RecordType,
    /// Their values.
    pub row: Row<'a>,
}

/// What to do with a row.
#[derive(Debug)]
pub enum Action<'a> {
    /// The row is now this, whether or not the target has it.
    Upsert(ValueRow<'a>),
    /// A further row of a table without a key. The offset identifies it.
    Append(ValueRow<'a>),
    /// The row is gone.
    Delete,
}

/// A decoded row.
#[derive(Debug)]
pub struct ValueRow<'a> {
    /// The table's columns.
    pub row_type: &'a RecordType,
    /// Their values.
    pub row: Row<'a>,
}
