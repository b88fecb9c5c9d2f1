//! From records to a batch: checked, versioned, the newest per key.

use std::sync::Arc;

use ahash::AHashMap;
use tributary_schemas::decode::{KeyPlan, SchemaError, ValuePlan};
use tributary_schemas::header;
use tributary_schemas::record::Op;
use tributary_schemas::wire;

use crate::flow::batch::{Batch, Entry, Source};
use crate::flow::fault::{Part, RecordFault, place};
use crate::flow::plans::Plans;
use crate::flow::records::{Record, Records};
use tributary_runtime::{Error, Result};

/// Where the versions of a partition's records come from. Decided by its first record, and never mixed:
/// offsets and `seq` are no common order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Versions {
    /// No record seen yet.
    #[default]
    Open,
    /// The header `tributary.seq`.
    Header,
    /// The offset + 1: a topic of another source.
    Offset,
}

/// A batch, and the records that are not in it because they cannot be applied.
#[derive(Debug)]
pub(crate) struct Coalesced {
    pub(crate) batch: Batch,
    pub(crate) faults: Vec<RecordFault>,
}

/// What a record asks for.
enum Content {
    Change(Entry),
    /// Rows with a lower version are gone.
    Below(u64),
    /// The tombstone of such a record: it only tells compaction to forget it.
    Nothing,
}

/// Builds the batch. `plans` knows all schema ids of the records.
///
/// # Errors
/// Stop: the partition mixes records with and without `tributary.seq`.
pub(crate) fn coalesce(
    source: Arc<Source>,
    records: Records,
    plans: &Plans,
    versions: &mut Versions,
) -> Result<Coalesced> {
    let mut faults = Vec::new();
    let (entries, below) = {
        let mut newest = Newest::with_capacity(records.len());
        for (index, record) in records.iter().enumerate() {
            let content = match versions.of(record, &source)? {
                Ok(seq) => read(index, record, seq, plans),
                Err(fault) => Err(fault),
            };
            match content {
                Ok(Content::Change(entry)) => newest.add(record.key, entry),
                Ok(Content::Below(below)) => newest.below = newest.below.max(Some(below)),
                Ok(Content::Nothing) => {}
                Err(fault) => faults.push(fault),
            }
        }
        newest.finish()
    };
    let next_offset = records.next_offset().unwrap_or(0);
    let batch = Batch {
        source,
        records,
        entries,
        below,
        next_offset,
    };
    Ok(Coalesced { batch, faults })
}

/// The newest change per key. Keys are compared as bytes: those are a row's identity.
struct Newest<'a> {
    entries: Vec<Option<Entry>>,
    by_key: AHashMap<&'a [u8], usize>,
    below: Option<u64>,
}

impl<'a> Newest<'a> {
    fn with_capacity(records: usize) -> Self {
        Self {
            entries: Vec::with_capacity(records),
            by_key: AHashMap::with_capacity(records),
            below: None,
        }
    }

    /// The higher version wins, of equal ones (a snapshot's rows) the later.
    fn add(&mut self, key: Option<&'a [u8]>, entry: Entry) {
        let index = self.entries.len();
        if let Some(key) = key {
            if let Some(&earlier) = self.by_key.get(key) {
                let is_older = self.entries[earlier]
                    .as_ref()
                    .is_some_and(|earlier| entry.seq < earlier.seq);
                if is_older {
                    return;
                }
                self.entries[earlier] = None;
            }
            self.by_key.insert(key, index);
        }
        self.entries.push(Some(entry));
    }

    fn finish(self) -> (Vec<Entry>, Option<u64>) {
        let below = self.below;
        let entries = self.entries.into_iter().flatten();
        let kept = entries.filter(|entry| below.is_none_or(|below| entry.seq >= below));
        (kept.collect(), below)
    }
}

impl Versions {
    /// A record's version. The outer error stops the service, the inner one is the record's.
    fn of(&mut self, record: Record<'_>, source: &Source) -> Result<Result<u64, RecordFault>> {
        let seq = match record.seq_header(header::SEQ) {
            Ok(seq) => seq,
            Err(_) => {
                return Ok(Err(RecordFault::malformed_header(
                    record.offset,
                    header::SEQ,
                )));
            }
        };
        let found = if seq.is_some() {
            Self::Header
        } else {
            Self::Offset
        };
        match *self {
            Self::Open => *self = found,
            versions if versions == found => {}
            _ => {
                let place = place(&source.partition, record.offset);
                let (this, others) = match found {
                    Self::Header => ("has", "lack"),
                    _ => ("lacks", "have"),
                };
                return Err(Error::stop_msg(format_args!(
                    "{place}: the record {this} the header {}, and records before it {others} it, so they \
                     have no common order",
                    header::SEQ
                ))
                .remedy("let one source only write to the topic, and begin again with a new topic"));
            }
        }
        let version = seq.or_else(|| u64::try_from(record.offset + 1).ok());
        Ok(version
            .ok_or_else(|| RecordFault::nothing_to_apply(record.offset, "the offset is negative")))
    }
}

fn read(index: usize, record: Record<'_>, seq: u64, plans: &Plans) -> Result<Content, RecordFault> {
    let below = record
        .seq_header(header::BELOW)
        .map_err(|_| RecordFault::malformed_header(record.offset, header::BELOW))?;
    let key = match record.key {
        Some(key) => Some(read_key(record.offset, key, plans)?),
        None => None,
    };
    let Some(value) = record.value else {
        return tombstone(index, record.offset, seq, key);
    };
    let (plan, op, commit_time_us) = read_value(record.offset, value, plans)?;
    let entry = |value| Entry {
        record: index,
        seq,
        key: key.clone(),
        value,
        commit_time_us,
    };
    match op {
        Op::Truncate => Ok(Content::Below(below.unwrap_or(seq))),
        Op::Message => Err(RecordFault::nothing_to_apply(
            record.offset,
            "the record is a logical message (op m), no change of a row",
        )),
        Op::Delete if key.is_none() => Err(RecordFault::nothing_to_apply(
            record.offset,
            "the record is a delete without a key",
        )),
        Op::Delete => Ok(Content::Change(entry(None))),
        Op::Read | Op::Create | Op::Update => Ok(Content::Change(entry(Some(plan)))),
    }
}

fn tombstone(
    index: usize,
    offset: i64,
    seq: u64,
    key: Option<Arc<KeyPlan>>,
) -> Result<Content, RecordFault> {
    match key {
        None => Err(RecordFault::nothing_to_apply(
            offset,
            "the record has neither key nor value",
        )),
        Some(key) if key.is_truncate() => Ok(Content::Nothing),
        Some(key) => Ok(Content::Change(Entry {
            record: index,
            seq,
            key: Some(key),
            value: None,
            commit_time_us: None,
        })),
    }
}

fn read_key(offset: i64, key: &[u8], plans: &Plans) -> Result<Arc<KeyPlan>, RecordFault> {
    let (id, body) =
        wire::parse(key).ok_or_else(|| RecordFault::not_wire_format(offset, Part::Key))?;
    let plan = usable(plans.keys.get(&id), offset, Part::Key, id)?;
    plan.decode(body)
        .map_err(|error| RecordFault::corrupt(offset, Part::Key, id, &error))?;
    Ok(plan)
}

type ReadValue = (Arc<ValuePlan>, Op, Option<i64>);

fn read_value(offset: i64, value: &[u8], plans: &Plans) -> Result<ReadValue, RecordFault> {
    let (id, body) =
        wire::parse(value).ok_or_else(|| RecordFault::not_wire_format(offset, Part::Value))?;
    let plan = usable(plans.values.get(&id), offset, Part::Value, id)?;
    let envelope = plan
        .decode(body)
        .map_err(|error| RecordFault::corrupt(offset, Part::Value, id, &error))?;
    let op = envelope.op;
    // A snapshot's rows carry the time of the snapshot: they are not late.
    let commit_time_us = (op != Op::Read && envelope.source.commit_time_us > 0)
        .then_some(envelope.source.commit_time_us);
    Ok((Arc::clone(&plan), op, commit_time_us))
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
