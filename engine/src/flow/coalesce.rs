//! From records to a batch: checked, versioned, the newest per key.

mod newest;

use std::collections::BTreeSet;
use std::sync::Arc;

use tributary_schemas::decode::{KeyPlan, SchemaError, ValuePlan};
use tributary_schemas::header;
use tributary_schemas::record::{Datum, Op};
use tributary_schemas::{unavailable, wire};

use crate::flow::batch::{Batch, Entry, Lacking, Source};
use crate::flow::beside;
use crate::flow::coalesce::newest::Newest;
use crate::flow::fault::{Part, RecordFault, place};
use crate::flow::plans::Plans;
use crate::flow::records::{Record, Records};
use crate::flow::versions::{OlderThanOffsets, Versions};
use tributary_runtime::{Error, Result};

/// What the records of a partition have told so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct History {
    versions: Versions,
    /// The schemas of keys whose records have no version of their own: the first two are enough to know.
    key_schemas: [Option<u32>; 2],
    /// Records that are none of a table were met, and said to be.
    has_others: bool,
}

/// A batch, and the records that are not in it because they cannot be applied.
#[derive(Debug)]
pub(crate) struct Coalesced {
    pub(crate) batch: Batch,
    pub(crate) faults: Vec<RecordFault>,
}

/// What becomes of records.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// They are a batch.
    Coalesced(Coalesced),
    /// The records as they were: one of them says that a table of another source is empty, and what it means depends on
    /// how many partitions the topic has.
    NeedsPartitions(Records),
}

/// What a record asks for.
enum Content {
    Change(Decoded),
    /// Rows with a lower version are gone: than this one, or than the record's.
    Below(Option<u64>),
    /// The tombstone of such a record: it only tells compaction to forget it.
    Nothing,
}

/// A change whose version is not known yet.
struct Decoded {
    key: Option<Arc<KeyPlan>>,
    /// `None` for a delete.
    value: Option<Arc<ValuePlan>>,
    inserts: bool,
    commit_time_us: Option<i64>,
    /// The record may lack values.
    lacking: Option<Lacking>,
}

impl Decoded {
    fn entry(self, record: usize, seq: u64) -> Entry {
        Entry {
            record,
            seq,
            key: self.key,
            value: self.value,
            inserts: self.inserts,
            commit_time_us: self.commit_time_us,
            lacking: self.lacking,
        }
    }
}

/// Builds the batch. `plans` knows all schema ids of the records; `partitions` is what the topic has, if that was asked for.
///
/// # Errors
/// Stop: the records of a source follow those of another one, and are older than their offsets.
pub(crate) fn coalesce(
    source: Arc<Source>,
    records: Records,
    plans: &Plans,
    history: &mut History,
    partitions: Option<i32>,
) -> Result<Outcome> {
    let Some(found) = gather(&source, &records, plans, history, partitions)? else {
        return Ok(Outcome::NeedsPartitions(records));
    };
    let next_offset = records.next_offset().unwrap_or(0);
    let batch = Batch {
        source,
        records,
        entries: found.entries,
        below: found.below,
        gone: found.gone,
        next_offset,
        is_replay: false,
    };
    let faults = found.faults;
    Ok(Outcome::Coalesced(Coalesced { batch, faults }))
}

/// What is in the records.
struct Found {
    entries: Vec<Entry>,
    below: Option<u64>,
    gone: Vec<Entry>,
    faults: Vec<RecordFault>,
}

/// `None`: the number of partitions is needed.
fn gather(
    source: &Source,
    records: &Records,
    plans: &Plans,
    history: &mut History,
    partitions: Option<i32>,
) -> Result<Option<Found>> {
    let mut faults = Vec::new();
    let mut newest = Newest::with_capacity(records.len());
    for (index, record) in records.iter().enumerate() {
        let read = match read(record, plans) {
            Ok((Content::Nothing, _)) => continue,
            Err(_) if beside::stands_beside(&source.partition.topic, record, plans) => {
                history.passes_over(record, source);
                continue;
            }
            read => read,
        };
        if let Ok((_, None)) = read
            && history.versions == Versions::Open
            && has_header(records, plans)
        {
            history.versions = Versions::Header;
        }
        let versioned = match read {
            Ok((content, seq)) => {
                let version = history.version(seq, record, source)?;
                version.map(|version| (content, seq, version))
            }
            Err(fault) => Err(fault),
        };
        match versioned {
            Ok((Content::Change(change), seq, version)) => {
                if seq.is_none() {
                    history.note_key(record);
                }
                newest.add(record.key, change.entry(index, version));
            }
            Ok((Content::Below(below), Some(_), version)) => {
                newest.is_below(below.unwrap_or(version));
            }
            // Offsets are an order within one partition only.
            Ok((Content::Below(_), None, version)) => match partitions {
                None => return Ok(None),
                Some(1) => newest.is_below(version),
                Some(count) => faults.push(RecordFault::truncate_of_a_part(record.offset, count)),
            },
            Ok((Content::Nothing, ..)) => {}
            Err(fault) => faults.push(fault),
        }
    }
    let below = newest.below;
    let (entries, gone) = newest.finish();
    Ok(Some(Found {
        entries,
        below,
        gone,
        faults,
    }))
}

/// Whether one of the records that can be applied has a version of its own.
fn has_header(records: &Records, plans: &Plans) -> bool {
    records.iter().any(|record| {
        let read = read(record, plans);
        read.is_ok_and(|(content, seq)| seq.is_some() && !matches!(content, Content::Nothing))
    })
}

/// Where those of these records stand that say that rows are gone.
pub(crate) fn emptying(records: &Records, plans: &Plans) -> BTreeSet<i64> {
    let is_below = |record: &Record<'_>| matches!(read(*record, plans), Ok((Content::Below(_), _)));
    let found = records.iter().filter(is_below);
    found.map(|record| record.offset).collect()
}

/// Where the last of these records stands that says that its table was emptied, and has no version of its own.
pub(crate) fn emptied_at(records: &Records, plans: &Plans) -> Option<i64> {
    let empties = |record: &Record<'_>| {
        let read = read(*record, plans);
        matches!(read, Ok((Content::Below(_), None)))
    };
    records
        .iter()
        .filter(empties)
        .map(|record| record.offset)
        .max()
}

impl History {
    /// Of a partition of which it is known already where its records' versions come from.
    pub(crate) fn with(versions: Versions) -> Self {
        Self {
            versions,
            ..Self::default()
        }
    }

    /// The records have no version of their own.
    pub(crate) fn versions_are_offsets(&self) -> bool {
        self.versions == Versions::Offset
    }

    /// The schemas of their keys, as far as it matters.
    pub(crate) fn key_schemas(&self) -> impl Iterator<Item = u32> {
        self.key_schemas.into_iter().flatten()
    }

    fn note_key(&mut self, record: Record<'_>) {
        let Some((id, _)) = record.key.and_then(wire::parse) else {
            return;
        };
        if self.key_schemas[0] != Some(id) {
            let [first, second] = &mut self.key_schemas;
            if first.is_some() { second } else { first }.get_or_insert(id);
        }
    }

    /// A record's version. The outer error stops the service, the inner one is the record's.
    fn version(
        &mut self,
        seq: Option<u64>,
        record: Record<'_>,
        source: &Source,
    ) -> Result<Result<u64, RecordFault>> {
        let before = self.versions;
        let version = self.versions.of(seq, record.offset);
        if before == Versions::Offset && self.versions == Versions::Header {
            tracing::warn!(
                partition = %source.partition,
                offset = record.offset,
                "from here on the records have the header {}: before them, another producer wrote to the topic",
                header::SEQ
            );
        }
        version.map_err(|OlderThanOffsets| {
            let place = place(&source.partition, record.offset);
            Error::stop_msg(format_args!(
                "{place}: the record has the header {}, and records before it lack it and have higher offsets, so they \
                 have no common order",
                header::SEQ
            ))
            .remedy("let one source only write to the topic, and begin again with a new topic")
        })
    }

    fn passes_over(&mut self, record: Record<'_>, source: &Source) {
        if !self.has_others {
            self.has_others = true;
            tracing::info!(
                partition = %source.partition,
                offset = record.offset,
                "the topic holds what a source writes about itself, which is passed over; a pattern that ends in \
                 .*.* behind the source's topic_prefix leaves such topics out"
            );
        }
    }
}

/// What a record asks for, and its `seq`.
fn read(record: Record<'_>, plans: &Plans) -> Result<(Content, Option<u64>), RecordFault> {
    let header = |name| {
        let found = record.seq_header(name);
        found.map_err(|_| RecordFault::malformed_header(record.offset, name))
    };
    let seq = header(header::SEQ)?;
    let below = header(header::BELOW)?;
    let key = match record.key {
        Some(key) => Some(read_key(record, key, plans)?),
        None => None,
    };
    let Some(value) = record.value else {
        return Ok((tombstone(record.offset, key)?, seq));
    };
    let (plan, op, commit_time_us) = read_value(record, value, plans)?;
    let content = match op {
        Op::Truncate => Content::Below(below),
        Op::Message => {
            return Err(RecordFault::nothing_to_apply(
                record.offset,
                "the record is a logical message (op m), no change of a row",
            ));
        }
        Op::Delete | Op::Update if key.is_none() => {
            return Err(RecordFault::keyless_change(record.offset, op));
        }
        Op::Delete | Op::Read | Op::Create | Op::Update => {
            let lacking = match seq {
                None => lacking(record, value, op),
                Some(_) => None,
            };
            Content::Change(Decoded {
                key,
                value: (op != Op::Delete).then_some(plan),
                inserts: matches!(op, Op::Read | Op::Create) && lacking.is_none(),
                commit_time_us,
                lacking,
            })
        }
    };
    Ok((content, seq))
}

/// Where values are looked for that a record without a version of its own may lack: an update, or the create that a changed key ends
/// with, whose row had them under another key.
fn lacking(record: Record<'_>, value: &[u8], op: Op) -> Option<Lacking> {
    let is_new = match op {
        Op::Update => false,
        Op::Create if record.headers().any(|(name, _)| name == header::OLD_KEY) => true,
        _ => return None,
    };
    unavailable::may_be_in(value).then(|| Lacking {
        earlier: Vec::new(),
        is_new,
    })
}

fn tombstone(offset: i64, key: Option<Arc<KeyPlan>>) -> Result<Content, RecordFault> {
    match key {
        None => Err(RecordFault::nothing_to_apply(
            offset,
            "the record has neither key nor value",
        )),
        Some(key) if key.is_truncate() => Ok(Content::Nothing),
        Some(key) => Ok(Content::Change(Decoded {
            key: Some(key),
            value: None,
            inserts: false,
            commit_time_us: None,
            lacking: None,
        })),
    }
}

fn read_key(record: Record<'_>, key: &[u8], plans: &Plans) -> Result<Arc<KeyPlan>, RecordFault> {
    let offset = record.offset;
    let (id, body) =
        wire::parse(key).ok_or_else(|| RecordFault::not_wire_format(record, Part::Key, key))?;
    let plan = usable(plans.keys.get(&id), offset, Part::Key, id)?;
    let corrupt = |error| RecordFault::corrupt(offset, Part::Key, id, &error);
    let fields = &plan.row_type().fields;
    if fields.iter().any(|field| field.nullable) {
        let row = plan.decode(body).map_err(corrupt)?;
        let mut columns = fields.iter().zip(&row);
        if let Some((field, _)) = columns.find(|(_, datum)| **datum == Datum::Null) {
            return Err(RecordFault::null_in_key(offset, &field.name));
        }
    } else {
        plan.check(body).map_err(corrupt)?;
    }
    Ok(plan)
}

type ReadValue = (Arc<ValuePlan>, Op, Option<i64>);

fn read_value(record: Record<'_>, value: &[u8], plans: &Plans) -> Result<ReadValue, RecordFault> {
    let offset = record.offset;
    let (id, body) = wire::parse(value)
        .ok_or_else(|| RecordFault::not_wire_format(record, Part::Value, value))?;
    let plan = usable(plans.values.get(&id), offset, Part::Value, id)?;
    let head = plan
        .check(body)
        .map_err(|error| RecordFault::corrupt(offset, Part::Value, id, &error))?;
    // A snapshot's rows carry the time of the snapshot: they are not late.
    let is_streamed = head.op != Op::Read && head.commit_time_us > 0;
    Ok((plan, head.op, is_streamed.then_some(head.commit_time_us)))
}

fn usable<P>(
    plan: Option<&Option<Result<Arc<P>, Arc<SchemaError>>>>,
    offset: i64,
    part: Part,
    id: u32,
) -> Result<Arc<P>, RecordFault> {
    match plan.and_then(Option::as_ref) {
        Some(Ok(plan)) => Ok(Arc::clone(plan)),
        Some(Err(error)) => Err(RecordFault::unusable_schema(offset, part, id, error)),
        None => Err(RecordFault::unknown_schema(offset, part, id)),
    }
}

#[cfg(test)]
mod tests;
