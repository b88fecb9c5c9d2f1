//! The record that holds the whole position of a source.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tributary_runtime::Error;
use tributary_schemas::Lsn;

mod position;
mod ranges;
mod table;

pub(crate) use position::Position;
pub(crate) use ranges::{RelationRanges, SnapshotRequest, TableSnapshot};
pub(crate) use table::{Followed, TableProgress};

/// The record's format. A source refuses another one.
const FORMAT_VERSION: u32 = 2;

/// What the record says beside the position: changes seldom, except while a snapshot runs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Progress {
    format: u32,
    /// The server's system identifier.
    pub(crate) system_id: String,
    /// The server's timeline.
    pub(crate) timeline: u32,
    pub(crate) position: Position,
    /// Where the signals begin that are not applied yet; `None` before the first look at their topic.
    #[serde(default)]
    pub(crate) signals_offset: Option<i64>,
    /// Snapshots wait until somebody lets them go on.
    #[serde(default)]
    pub(crate) snapshots_paused: bool,
    /// By topic.
    pub(crate) tables: BTreeMap<String, TableProgress>,
}

impl Progress {
    /// Nothing is in the log, and no slot is created yet.
    pub(crate) const fn new(system_id: String, timeline: u32, position: Position) -> Self {
        Self {
            format: FORMAT_VERSION,
            system_id,
            timeline,
            position,
            signals_offset: None,
            snapshots_paused: false,
            tables: BTreeMap::new(),
        }
    }

    /// Whether the slot's consistent point is known: before that nothing is in the log.
    pub(crate) fn has_begun(&self) -> bool {
        self.position.confirm() > Lsn::ZERO
    }

    /// Whether all rows of all tables are in the log.
    pub(crate) fn is_read(&self) -> bool {
        self.tables.values().all(|table| table.snapshot.is_none())
    }

    /// The tables' OIDs, by name (`schema.table`).
    pub(crate) fn oids(&self) -> HashMap<String, u32> {
        let tables = self.tables.values();
        tables.map(|one| (one.table.clone(), one.oid)).collect()
    }

    /// Asks for all rows of a table; a request before is replaced. Returns whether there is such a topic.
    pub(crate) fn request_snapshot(&mut self, topic: &str, request: SnapshotRequest) -> bool {
        let next_seq = self.position.seq() + 1;
        let Some(table) = self.tables.get_mut(topic) else {
            return false;
        };
        table.snapshot = Some(TableSnapshot::requested(request, next_seq));
        true
    }

    /// Whether rows of an earlier slot or server are to be swept.
    pub(crate) fn sweeps(&self) -> bool {
        let mut snapshots = self
            .tables
            .values()
            .filter_map(|table| table.snapshot.as_ref());
        snapshots.any(|snapshot| snapshot.below.is_some())
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
        if version.format != FORMAT_VERSION {
            return Err(Error::stop_msg(format!(
                "the progress record in topic '{topic}' has format {}, this version knows {FORMAT_VERSION}",
                version.format
            ))
            .remedy("run the version of tributary-source that wrote it"));
        }
        serde_json::from_slice(value).map_err(unreadable)
    }

    /// The record's value.
    pub(crate) fn encode(&self) -> Vec<u8> {
        // Numbers, strings and maps with string keys: encoding into memory cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// A [`Progress`] that is written again and again. While only the position moves, the rest is encoded once.
#[derive(Debug)]
pub(crate) struct ProgressLog {
    progress: Progress,
    tables: Option<Box<RawValue>>,
}

impl ProgressLog {
    pub(crate) const fn new(progress: Progress) -> Self {
        Self {
            progress,
            tables: None,
        }
    }

    /// What the next record will say, but for the position.
    pub(crate) const fn get(&self) -> &Progress {
        &self.progress
    }

    /// Changes what the next record says; the position comes with [`ProgressLog::encode`].
    pub(crate) fn get_mut(&mut self) -> &mut Progress {
        self.tables = None;
        &mut self.progress
    }

    /// Whether there is something to say beside a new position.
    pub(crate) const fn has_changed(&self) -> bool {
        self.tables.is_none()
    }

    pub(crate) fn into_inner(self) -> Progress {
        self.progress
    }

    /// The record's value at a position.
    pub(crate) fn encode(&mut self, position: Position) -> Vec<u8> {
        #[derive(Serialize)]
        struct Record<'a> {
            format: u32,
            position: &'a Position,
            system_id: &'a str,
            timeline: u32,
            signals_offset: Option<i64>,
            snapshots_paused: bool,
            tables: &'a RawValue,
        }
        self.progress.position = position;
        if self.tables.is_none() {
            self.tables = serde_json::value::to_raw_value(&self.progress.tables).ok();
        }
        let Some(tables) = &self.tables else {
            return self.progress.encode();
        };
        let record = Record {
            format: self.progress.format,
            position: &position,
            system_id: &self.progress.system_id,
            timeline: self.progress.timeline,
            signals_offset: self.progress.signals_offset,
            snapshots_paused: self.progress.snapshots_paused,
            tables,
        };
        serde_json::to_vec(&record).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Followed, Position, Progress, ProgressLog, SnapshotRequest, TableProgress};
    use tributary_schemas::Lsn;

    fn progress() -> Progress {
        let mut position = Position::at_consistent_point(Lsn(3), u64::MAX >> 1);
        position.advance(Lsn(5), 7).unwrap();
        position.look_up_to(Lsn(9));
        let table = TableProgress {
            table: "a.b".to_owned(),
            oid: 9,
            partitions: 6,
            key_schema_id: Some(4),
            topic_id: None,
            followed: Followed::default(),
            snapshot: None,
        };
        let mut progress = Progress::new("1".to_owned(), 2, position);
        progress.tables = BTreeMap::from([("p.a.b".to_owned(), table)]);
        progress
    }

    #[test]
    fn a_record_round_trips() {
        let mut progress = progress();
        let request = SnapshotRequest {
            sweep: true,
            filter: None,
        };
        assert!(progress.request_snapshot("p.a.b", request.clone()));
        assert!(!progress.request_snapshot("p.a.c", request));
        let direct = progress.encode();
        let position = progress.position;
        for bytes in [direct, ProgressLog::new(progress.clone()).encode(position)] {
            let read = Progress::parse(&bytes, "p.progress").unwrap();
            assert_eq!((read.position, &read.tables), (position, &progress.tables));
            assert_eq!(
                (read.system_id, read.timeline),
                (progress.system_id.clone(), progress.timeline)
            );
        }
        let below = progress.tables["p.a.b"].snapshot.as_ref().unwrap().below;
        assert_eq!(below, Some((u64::MAX >> 1) + 1));
    }

    #[test]
    fn what_changes_is_in_the_next_record() {
        let mut log = ProgressLog::new(progress());
        let position = log.get().position;
        log.encode(position);
        log.get_mut().tables.clear();
        let read = Progress::parse(&log.encode(position), "p.progress").unwrap();
        assert!(read.tables.is_empty());
    }

    #[test]
    fn another_format_is_refused() {
        let error = Progress::parse(br#"{"format":3,"other":1}"#, "p.progress").unwrap_err();
        assert!(error.to_string().contains("has format 3"), "{error}");
        assert!(Progress::parse(b"{", "p.progress").is_err());
    }
}
