//! The position of a source, and the record that holds it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tributary_runtime::Error;
use tributary_schemas::Lsn;

/// The record's format. A source refuses a later one.
const FORMAT_VERSION: u32 = 1;

/// Where a source stands in the WAL and in the log.
///
/// Inequalities: `confirm <= ` the end of the last whole transaction that is in the log; the slot's confirmed
/// flush `<= confirm`; `seq` is the highest `tributary.seq` in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Commit LSN of the last transaction of which something is in the log.
    pub(crate) commit_lsn: Lsn,
    /// How many changes of that transaction are in the log, counted on the wire before any filter.
    pub(crate) ordinal: u64,
    /// Whether that transaction is in the log as a whole.
    pub(crate) complete: bool,
    /// What may be confirmed to the slot.
    pub(crate) confirm: Lsn,
    /// The highest `tributary.seq` given.
    pub(crate) seq: u64,
}

impl Position {
    /// Nothing streamed yet: the slot's consistent point.
    pub(crate) const fn at_consistent_point(consistent: Lsn, seq: u64) -> Self {
        Self {
            commit_lsn: Lsn::ZERO,
            ordinal: 0,
            complete: true,
            confirm: consistent,
            seq,
        }
    }

    /// How many changes of the transaction with this commit LSN are in the log already; `None` for all.
    pub(crate) fn published_of(&self, commit_lsn: Lsn) -> Option<u64> {
        match commit_lsn.cmp(&self.commit_lsn) {
            std::cmp::Ordering::Less => None,
            std::cmp::Ordering::Equal if self.complete => None,
            std::cmp::Ordering::Equal => Some(self.ordinal),
            std::cmp::Ordering::Greater => Some(0),
        }
    }
}

/// How far the first snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SnapshotState {
    /// Rows may be in the log, and not all are.
    Running,
    /// All rows are in the log.
    Done,
}

/// What must not change about a table as long as its topic lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableProgress {
    /// `schema.table` as Postgres has it.
    pub(crate) table: String,
    /// The table's OID.
    pub(crate) oid: u32,
    /// Partitions that keys are spread over, whatever the topic grows to.
    pub(crate) partitions: i32,
    /// The registry's id of the key schema, which is part of every key's bytes; none without a key.
    pub(crate) key_schema_id: Option<u32>,
}

/// The whole record: position, snapshot and tables.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Progress {
    format: u32,
    /// The server's system identifier.
    pub(crate) system_id: String,
    /// The server's timeline.
    pub(crate) timeline: u32,
    pub(crate) position: Position,
    pub(crate) snapshot: SnapshotState,
    /// By topic.
    pub(crate) tables: BTreeMap<String, TableProgress>,
}

impl Progress {
    pub(crate) const fn new(
        system_id: String,
        timeline: u32,
        position: Position,
        snapshot: SnapshotState,
        tables: BTreeMap<String, TableProgress>,
    ) -> Self {
        Self {
            format: FORMAT_VERSION,
            system_id,
            timeline,
            position,
            snapshot,
            tables,
        }
    }

    /// Reads a record.
    pub(crate) fn parse(value: &[u8], topic: &str) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let unreadable = |error: serde_json::Error| {
            Error::stop(error)
                .context(format!("read the progress record in topic '{topic}'"))
                .remedy(
                    "the record is damaged or not ours: see docs/operations.md, 'Progress lost'",
                )
        };
        let version: Version = serde_json::from_slice(value).map_err(unreadable)?;
        if version.format > FORMAT_VERSION {
            return Err(Error::stop_msg(format!(
                "the progress record in topic '{topic}' has format {}, this version knows {FORMAT_VERSION}",
                version.format
            ))
            .remedy("run the newer version of tributary-source"));
        }
        serde_json::from_slice(value).map_err(unreadable)
    }

    /// The writer of this record, for one position after the other.
    pub(crate) fn writer(&self) -> Result<ProgressWriter, Error> {
        let raw = |value: Result<Box<RawValue>, _>| {
            value.map_err(|error: serde_json::Error| {
                Error::stop(error).context("encode the progress record")
            })
        };
        Ok(ProgressWriter {
            system_id: self.system_id.clone(),
            timeline: self.timeline,
            snapshot: self.snapshot,
            tables: raw(serde_json::value::to_raw_value(&self.tables))?,
        })
    }
}

/// Encodes a [`Progress`] per transaction; only the position changes between them.
#[derive(Debug, Serialize)]
pub(crate) struct ProgressWriter {
    system_id: String,
    timeline: u32,
    snapshot: SnapshotState,
    tables: Box<RawValue>,
}

impl ProgressWriter {
    /// The record's value.
    pub(crate) fn encode(&self, position: &Position) -> Vec<u8> {
        #[derive(Serialize)]
        struct Record<'a> {
            format: u32,
            position: &'a Position,
            #[serde(flatten)]
            rest: &'a ProgressWriter,
        }
        let record = Record {
            format: FORMAT_VERSION,
            position,
            rest: self,
        };
        // Numbers, strings and a raw value that was JSON before: encoding into memory cannot fail.
        serde_json::to_vec(&record).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Position, Progress, SnapshotState, TableProgress};
    use tributary_schemas::Lsn;

    fn progress() -> Progress {
        let position = Position {
            commit_lsn: Lsn(5),
            ordinal: 7,
            complete: false,
            confirm: Lsn(3),
            seq: u64::MAX >> 1,
        };
        let table = TableProgress {
            table: "a.b".to_owned(),
            oid: 9,
            partitions: 6,
            key_schema_id: Some(4),
        };
        Progress::new(
            "1".to_owned(),
            2,
            position,
            SnapshotState::Running,
            BTreeMap::from([("p.a.b".to_owned(), table)]),
        )
    }

    #[test]
    fn a_record_round_trips() {
        let progress = progress();
        let bytes = progress.writer().unwrap().encode(&progress.position);
        let read = Progress::parse(&bytes, "p.progress").unwrap();
        assert_eq!(
            (read.position, read.snapshot, read.tables),
            (progress.position, progress.snapshot, progress.tables)
        );
        assert_eq!(
            (read.system_id, read.timeline),
            (progress.system_id, progress.timeline)
        );
    }

    #[test]
    fn a_later_format_is_refused() {
        let error = Progress::parse(br#"{"format":2,"other":1}"#, "p.progress").unwrap_err();
        assert!(error.to_string().contains("has format 2"), "{error}");
        assert!(Progress::parse(b"{", "p.progress").is_err());
    }

    #[test]
    fn what_is_in_the_log_is_skipped() {
        let mut position = progress().position;
        assert_eq!(position.published_of(Lsn(4)), None);
        assert_eq!(position.published_of(Lsn(5)), Some(7));
        assert_eq!(position.published_of(Lsn(6)), Some(0));
        position.complete = true;
        assert_eq!(position.published_of(Lsn(5)), None);
    }
}
