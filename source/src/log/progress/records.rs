//! The two records that progress is kept in: one that every transaction writes, and one with all tables, which costs
//! as much as there are tables and is written seldom.
//!
//! The first has the tables that are not as the second one says. Both are of one producer's transactions, and compaction
//! keeps the last of each: the last two that are committed belong together.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tributary_runtime::Error;

use super::position::Position;
use super::state::Progress;
use super::table::TableProgress;
use super::tables::Tables;

/// The records' format. A source refuses a newer one.
const FORMAT_VERSION: u32 = 3;
/// The format that had all tables in the one record. The next records have today's.
const ONE_RECORD: u32 = 2;

/// All tables are written again when the position records since have come to so many times their bytes: they add a
/// quarter to what is written, and are not far from the end for who looks for them.
const POSITIONS_TO_TABLES: usize = 4;
/// A few tables count as so many bytes.
const LEAST_TABLES_BYTES: usize = 16 << 10;

/// What a transaction writes to the topic of progress.
#[derive(Debug)]
pub(crate) struct ProgressRecords {
    /// The value of the record with [`tables_key`], which comes first.
    pub(crate) tables: Option<Vec<u8>>,
    /// The value of the record whose key is the source's name.
    pub(crate) position: Vec<u8>,
}

/// The key of the record with all tables. A source's name has no slash.
pub(crate) fn tables_key(source: &str) -> String {
    format!("{source}/tables")
}

/// The source whose record has this key.
pub(crate) fn source_of(key: &str) -> &str {
    key.split('/').next().unwrap_or(key)
}

/// A position record as it was read: with the tables it makes a [`Progress`].
#[derive(Debug, Deserialize)]
pub(crate) struct PositionRecord {
    system_id: String,
    timeline: u32,
    position: Position,
    #[serde(default)]
    selection: Option<Vec<String>>,
    #[serde(default)]
    signals_offset: Option<i64>,
    #[serde(default)]
    snapshots_paused: bool,
    /// In [`ONE_RECORD`] only: all tables.
    tables: Option<BTreeMap<String, TableProgress>>,
    /// The tables that are not as the tables record says.
    #[serde(default)]
    changed: BTreeMap<String, TableProgress>,
}

impl PositionRecord {
    /// Reads a position record.
    ///
    /// # Errors
    /// It is not one of ours, or of a later version.
    pub(crate) fn parse(value: &[u8], topic: &str) -> Result<Self, Error> {
        let format = format(value, topic)?;
        let record: Self = serde_json::from_slice(value).map_err(|e| unreadable(e, topic))?;
        if format == ONE_RECORD && record.tables.is_none() {
            let missing = serde::de::Error::missing_field("tables");
            return Err(unreadable(missing, topic));
        }
        Ok(record)
    }

    /// What the record says; `tables` gives the value of the tables record, where it needs one.
    ///
    /// # Errors
    /// There is no tables record, or it is not one of ours.
    pub(crate) fn complete(
        self,
        topic: &str,
        tables: impl FnOnce() -> Result<Option<Vec<u8>>, Error>,
    ) -> Result<Progress, Error> {
        let mut all = match self.tables {
            Some(all) => all,
            None => {
                let value = tables()?.ok_or_else(|| {
                    Error::stop_msg(format!(
                        "topic '{topic}' has a position of this source, but not the record with its tables"
                    ))
                    .remedy("the topic has lost records (its cleanup.policy is compact?): see docs/operations.md, 'Progress lost'")
                })?;
                format(&value, topic)?;
                let record: TablesRecord<'_> =
                    serde_json::from_slice(&value).map_err(|e| unreadable(e, topic))?;
                record.tables.into_owned()
            }
        };
        all.extend(self.changed);
        Ok(Progress {
            system_id: self.system_id,
            timeline: self.timeline,
            position: self.position,
            selection: self.selection,
            signals_offset: self.signals_offset,
            snapshots_paused: self.snapshots_paused,
            tables: all.into_iter().collect(),
        })
    }
}

/// A record's format, if it is one that is read.
fn format(value: &[u8], topic: &str) -> Result<u32, Error> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let version: Version = serde_json::from_slice(value).map_err(|e| unreadable(e, topic))?;
    match version.format {
        ONE_RECORD | FORMAT_VERSION => Ok(version.format),
        other => Err(Error::stop_msg(format!(
            "the progress record in topic '{topic}' has format {other}, this version knows {ONE_RECORD} and {FORMAT_VERSION}"
        ))
        .remedy("run the version of tributary-source that wrote it")),
    }
}

fn unreadable(error: serde_json::Error, topic: &str) -> Error {
    Error::stop(error)
        .context(format!("read the progress record in topic '{topic}'"))
        .remedy("the record is damaged or not ours: see docs/operations.md, 'Progress lost'")
}

/// The tables record.
#[derive(Serialize, Deserialize)]
struct TablesRecord<'a> {
    format: u32,
    tables: Cow<'a, BTreeMap<String, TableProgress>>,
}

/// The tables record's value.
fn encode_tables(tables: &Tables) -> Vec<u8> {
    let record = TablesRecord {
        format: FORMAT_VERSION,
        tables: Cow::Borrowed(tables),
    };
    // Numbers, strings and maps with string keys: encoding into memory cannot fail.
    serde_json::to_vec(&record).unwrap_or_default()
}

/// The position record's value. `changed` are the tables that are not as the tables record says.
fn encode_position(progress: &Progress, changed: BTreeMap<&String, &TableProgress>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Written<'a> {
        format: u32,
        system_id: &'a str,
        timeline: u32,
        position: Position,
        #[serde(skip_serializing_if = "Option::is_none")]
        selection: Option<&'a [String]>,
        signals_offset: Option<i64>,
        snapshots_paused: bool,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        changed: BTreeMap<&'a String, &'a TableProgress>,
    }
    let record = Written {
        format: FORMAT_VERSION,
        system_id: &progress.system_id,
        timeline: progress.timeline,
        position: progress.position,
        selection: progress
            .selection
            .as_deref()
            .filter(|_| progress.position.is_amid_transaction()),
        signals_offset: progress.signals_offset,
        snapshots_paused: progress.snapshots_paused,
        changed,
    };
    serde_json::to_vec(&record).unwrap_or_default()
}

impl Progress {
    /// The records, where this is written once.
    pub(crate) fn encode(&self) -> ProgressRecords {
        ProgressRecords {
            tables: Some(encode_tables(&self.tables)),
            position: encode_position(self, BTreeMap::new()),
        }
    }
}

/// A [`Progress`] that is written again and again.
#[derive(Debug)]
pub(crate) struct ProgressLog {
    progress: Progress,
    has_changed: bool,
    /// The bytes of the last tables record; `None` before the first.
    tables_bytes: Option<usize>,
    /// The bytes of the position records since.
    position_bytes: usize,
}

impl ProgressLog {
    pub(crate) const fn new(progress: Progress) -> Self {
        Self {
            progress,
            has_changed: true,
            tables_bytes: None,
            position_bytes: 0,
        }
    }

    /// What the next records will say, but for the position.
    pub(crate) const fn get(&self) -> &Progress {
        &self.progress
    }

    /// Changes what the next records say; the position comes with [`ProgressLog::encode`].
    pub(crate) const fn get_mut(&mut self) -> &mut Progress {
        self.has_changed = true;
        &mut self.progress
    }

    /// Whether there is something to say beside a new position.
    pub(crate) const fn has_changed(&self) -> bool {
        self.has_changed
    }

    pub(crate) fn into_inner(self) -> Progress {
        self.progress
    }

    /// The records at a position.
    pub(crate) fn encode(&mut self, position: Position) -> ProgressRecords {
        self.progress.position = position;
        self.has_changed = false;
        let due = self.tables_bytes.is_none_or(|bytes| {
            self.position_bytes >= POSITIONS_TO_TABLES * bytes.max(LEAST_TABLES_BYTES)
        });
        let tables = due.then(|| encode_tables(&self.progress.tables));
        if let Some(tables) = &tables {
            self.progress.tables.settle();
            self.tables_bytes = Some(tables.len());
            self.position_bytes = 0;
        }
        let position = encode_position(&self.progress, self.progress.tables.changed());
        self.position_bytes += position.len();
        ProgressRecords { tables, position }
    }
}

#[cfg(test)]
mod tests {
    use tributary_schemas::Lsn;

    use super::{PositionRecord, ProgressLog, ProgressRecords};
    use crate::log::progress::{Followed, Position, Progress, SnapshotRequest, TableProgress};

    fn progress(tables: usize) -> Progress {
        let mut position = Position::at_consistent_point(Lsn(3), u64::MAX >> 1);
        position.advance(Lsn(5), 7).unwrap();
        position.look_up_to(Lsn(9));
        let table = |at: usize| TableProgress {
            table: format!("a.b{at}"),
            oid: 9,
            partitions: 6,
            key_schema_id: Some(4),
            topic_id: None,
            followed: Followed::default(),
            snapshot: None,
        };
        let mut progress = Progress::new("1".to_owned(), 2, position);
        let tables = (0..tables).map(|at| (format!("p.a.b{at}"), table(at)));
        progress.tables = tables.collect();
        progress
    }

    /// A reader that comes behind each transaction.
    #[derive(Default)]
    struct Topic {
        tables: Option<Vec<u8>>,
        tables_written: usize,
        bytes: usize,
    }

    impl Topic {
        fn write(&mut self, records: ProgressRecords) -> Progress {
            self.bytes += records.position.len();
            if let Some(tables) = records.tables {
                self.bytes += tables.len();
                self.tables_written += 1;
                self.tables = Some(tables);
            }
            let record = PositionRecord::parse(&records.position, "p.progress").unwrap();
            let tables = || Ok(self.tables.clone());
            record.complete("p.progress", tables).unwrap()
        }
    }

    #[test]
    fn what_changes_is_read_back() {
        let mut topic = Topic::default();
        let mut log = ProgressLog::new(progress(9));
        let position = log.get().position;
        for at in 0..2_000 {
            let request = SnapshotRequest {
                sweep: at % 2 == 0,
                filter: None,
            };
            let name = format!("p.a.b{}", at % 9);
            assert!(log.get_mut().request_snapshot(&name, request));
            log.get_mut().signals_offset = Some(at);
            assert!(log.has_changed());
            let read = topic.write(log.encode(position));
            assert!(!log.has_changed());
            assert_eq!(*read.tables, *log.get().tables, "{at}");
            assert_eq!(
                (read.position, read.timeline, read.signals_offset),
                (position, 2, Some(at))
            );
        }
        assert!(topic.tables_written > 10, "{}", topic.tables_written);
        let request = SnapshotRequest::default();
        assert!(!log.get_mut().request_snapshot("p.a.c", request));
    }

    #[test]
    fn the_selection_is_kept_amid_a_transaction() {
        let (mut topic, mut log) = (Topic::default(), ProgressLog::new(progress(1)));
        let selection = Some(vec!["a.*".to_owned()]);
        log.get_mut().selection.clone_from(&selection);
        let mut position = log.get().position;
        assert_eq!(topic.write(log.encode(position)).selection, selection);
        position.commit(Lsn(5), 7, Lsn(6));
        assert_eq!(topic.write(log.encode(position)).selection, None);
        position.advance(Lsn(8), 1).unwrap();
        assert_eq!(topic.write(log.encode(position)).selection, selection);
    }

    #[test]
    fn a_position_costs_the_same_with_any_number_of_tables() {
        let cost = |tables| {
            let (mut topic, mut log) = (Topic::default(), ProgressLog::new(progress(tables)));
            let mut position = log.get().position;
            topic.write(log.encode(position));
            let begin = topic.bytes;
            for at in 0..20_000 {
                position.advance(Lsn(6 + at), 1).unwrap();
                topic.write_only(log.encode(position));
            }
            topic.bytes - begin
        };
        let (few, many) = (cost(3), cost(3_000));
        assert!(many < few * 13 / 10, "{many} bytes, where {few} would do");
    }

    impl Topic {
        /// As [`Topic::write`], without a reader.
        fn write_only(&mut self, records: ProgressRecords) {
            self.bytes += records.position.len() + records.tables.map_or(0, |tables| tables.len());
        }
    }

    #[test]
    fn the_format_with_one_record_is_read() {
        let value = br#"{"format":2,"position":{"commit_lsn":"0/5","ordinal":7,"complete":false,"confirm":"0/3","seq":9},
            "system_id":"1","timeline":2,"signals_offset":4,"snapshots_paused":true,"tables":{"p.a.b":{"table":"a.b","oid":9,
            "partitions":6,"key_schema_id":4,"followed":{"key":["id"],"place":1}}}}"#;
        let record = PositionRecord::parse(value, "p.progress").unwrap();
        let read = record
            .complete("p.progress", || panic!("all is in the one"))
            .unwrap();
        assert_eq!(read.tables["p.a.b"].followed.key, ["id"]);
        assert_eq!(
            (read.signals_offset, read.snapshots_paused),
            (Some(4), true)
        );
    }

    #[test]
    fn what_is_not_ours_or_not_whole_is_refused() {
        let refused = |value: &[u8]| PositionRecord::parse(value, "t").unwrap_err().to_string();
        let error = refused(br#"{"format":4,"other":1}"#);
        assert!(error.contains("has format 4"), "{error}");
        refused(b"{");
        let error = refused(
            br#"{"format":2,"system_id":"1","timeline":2,"position":
            {"commit_lsn":"0/5","ordinal":7,"complete":false,"confirm":"0/3","seq":9}}"#,
        );
        assert!(error.contains("tables"), "{error}");
        let mut log = ProgressLog::new(progress(1));
        let records = log.encode(log.get().position);
        let read = |tables: Option<Vec<u8>>| {
            let record = PositionRecord::parse(&records.position, "t").unwrap();
            record.complete("t", || Ok(tables)).unwrap_err().to_string()
        };
        assert!(read(None).contains("not the record with its tables"));
        assert!(read(Some(br#"{"format":9}"#.to_vec())).contains("has format 9"));
        assert!(read(Some(br#"{"format":3}"#.to_vec())).contains("tables"));
    }
}
