//! A table as it is published: its topic, its schemas' ids, its encode plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use tributary_runtime::Error;
use tributary_schemas::encode::{Change, EncodePlan};
use tributary_schemas::table::{Cell, Table};
use tributary_schemas::{partition, wire};

use super::fault::{DeadLetters, Fault};
use crate::config::SourceConfig;
use crate::log::outbox::{Outbox, Record};
use crate::log::progress::Followed;
use crate::log::progress::TableProgress;
use crate::log::topics::{Cleanup, TopicSpec};

/// What `source.connector` says: consumers of Debezium's topics look for it.
pub(super) const CONNECTOR: &str = "postgresql";

/// The topic that a table needs.
pub(crate) fn topic_spec(config: &SourceConfig, table: &Table) -> Result<TopicSpec, Error> {
    let keyless = table.is_keyless();
    Ok(TopicSpec {
        name: config.topic_name(table)?,
        partitions: if keyless { 1 } else { config.kafka.partitions },
        cleanup: if keyless {
            Cleanup::KeepAll
        } else {
            Cleanup::Compact
        },
    })
}

/// A table with all that turns its rows into records.
#[derive(Debug)]
pub(crate) struct TableTopic {
    pub(crate) table: Table,
    pub(crate) topic: Arc<str>,
    pub(super) topic_id: Option<String>,
    pub(crate) partitions: i32,
    /// Indexes of the key's columns, in key order; empty without a key.
    pub(crate) key_columns: Vec<usize>,
    pub(super) plan: EncodePlan,
    pub(super) key_schema_id: Option<u32>,
    /// [`Followed::rekeyed`]
    pub(super) rekeyed: bool,
    pub(super) value_schema_id: u32,
    pub(super) truncate_schema_id: u32,
    /// The topic's `max.message.bytes`.
    pub(super) max_record_bytes: usize,
    /// Where changes go that cannot be published; `None` where the source stops.
    pub(super) dead_letters: Option<Arc<DeadLetters>>,
}

impl TableTopic {
    /// A table with three partitions, whose schemas have the ids 1, 2 and 3.
    #[cfg(test)]
    pub(crate) fn for_test(table: Table) -> Self {
        let identity = tributary_schemas::encode::SourceIdentity {
            version: "0".to_owned(),
            connector: CONNECTOR.to_owned(),
            name: "p".to_owned(),
            db: "d".to_owned(),
            region: None,
        };
        Self {
            plan: EncodePlan::compile(&table, &identity),
            topic: "p.s.t".into(),
            topic_id: None,
            partitions: if table.is_keyless() { 1 } else { 3 },
            key_schema_id: (!table.is_keyless()).then_some(1),
            rekeyed: false,
            value_schema_id: 2,
            truncate_schema_id: 3,
            max_record_bytes: usize::MAX,
            dead_letters: None,
            key_columns: table.key_columns(),
            table,
        }
    }

    /// What progress must remember of it.
    pub(crate) fn progress(&self) -> TableProgress {
        TableProgress {
            table: self.display_name(),
            oid: self.table.oid,
            partitions: self.partitions,
            key_schema_id: self.key_schema_id,
            topic_id: self.topic_id.clone(),
            followed: Followed {
                key: self.table.key(),
                dimensions: self.dimensions(),
                rekeyed: self.rekeyed,
                ..Followed::default()
            },
            snapshot: None,
        }
    }

    /// [`Followed::dimensions`]
    pub(crate) fn dimensions(&self) -> BTreeMap<String, usize> {
        let columns = self.table.columns.iter();
        let arrays = columns.map(|column| (column.name.clone(), column.column_type.dimensions()));
        arrays.filter(|(_, dimensions)| *dimensions > 1).collect()
    }

    /// Whether its records have other keys than those that progress knows: then all rows are read again, or the
    /// topic would mix them.
    pub(crate) fn has_other_key(&self, known: &TableProgress) -> bool {
        self.key_schema_id != known.key_schema_id
    }

    /// `schema.table`, for messages.
    pub(crate) fn display_name(&self) -> String {
        format!("{}.{}", self.table.schema, self.table.name)
    }

    /// The key of a row in the wire format; `None` without a key.
    pub(crate) fn key_bytes(&self, row: &[Cell<'_>]) -> Result<Option<Vec<u8>>, Error> {
        let Some(id) = self.key_schema_id else {
            return Ok(None);
        };
        let mut key = wire::prefix(id).to_vec();
        self.plan
            .encode_key(row, &mut key)
            .map_err(|error| self.refuse_key(&error, row))?;
        Ok(Some(key))
    }

    /// Appends a record: the row's key, and the change or, without one, a tombstone.
    pub(crate) fn append(
        &self,
        outbox: &mut Outbox,
        key: Option<&[u8]>,
        change: Option<&Change<'_>>,
        seq: u64,
        headers: Vec<(&'static str, Vec<u8>)>,
    ) -> Result<(), Error> {
        let partition = key.map_or(0, |key| partition::partition_for(key, self.partitions));
        let key = key.map(|key| outbox.extend(key));
        let mut record = Record {
            topic: Arc::clone(&self.topic),
            partition,
            key,
            value: None,
            seq,
            max_batch_bytes: self.max_record_bytes,
            headers,
        };
        if let Some(change) = change {
            match self.try_append_value(outbox, change, record.key_bytes(), &record.headers) {
                Ok(value) => record.value = Some(value),
                Err(fault) => return self.put_aside(outbox, record, change, &fault),
            }
        }
        outbox.records.push(record);
        Ok(())
    }

    /// Gives a record that has its place the value of this change; one that cannot be published is put aside.
    pub(crate) fn complete(
        &self,
        outbox: &mut Outbox,
        record: usize,
        change: &Change<'_>,
    ) -> Result<(), Error> {
        let Some(place) = outbox.records.get(record) else {
            return Ok(());
        };
        let (key_bytes, headers) = (place.key_bytes(), place.headers.clone());
        match self.try_append_value(outbox, change, key_bytes, &headers) {
            Ok(value) => outbox.records[record].value = Some(value),
            Err(fault) => {
                let (key, seq) = (
                    outbox.records[record].key.clone(),
                    outbox.records[record].seq,
                );
                outbox.records[record] = self.letter(outbox, key, change, seq, &fault)?;
            }
        }
        Ok(())
    }

    fn append_value(
        &self,
        outbox: &mut Outbox,
        change: &Change<'_>,
    ) -> Result<std::ops::Range<usize>, Error> {
        self.try_append_value(outbox, change, 0, &[])
            .map_err(|fault: Fault| self.refuse(&fault, change))
    }

    /// Appends "rows of this table with a `seq` below are gone" to every partition of the topic.
    pub(crate) fn append_gone_below(
        &self,
        outbox: &mut Outbox,
        change: &Change<'_>,
        below: u64,
        mut next_seq: impl FnMut() -> u64,
    ) -> Result<(), Error> {
        let mut key = wire::prefix(self.truncate_schema_id).to_vec();
        self.plan.encode_truncate_key(&mut key);
        let value = self.append_value(outbox, change)?;
        let key = outbox.extend(&key);
        for partition in 0..self.partitions {
            let below = (
                tributary_schemas::header::BELOW,
                below.to_be_bytes().to_vec(),
            );
            outbox.records.push(Record {
                topic: Arc::clone(&self.topic),
                partition,
                key: Some(key.clone()),
                value: Some(value.clone()),
                seq: next_seq(),
                max_batch_bytes: self.max_record_bytes,
                headers: vec![below],
            });
        }
        Ok(())
    }
}
