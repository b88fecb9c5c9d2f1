//! Changes that cannot be published: a value that its form cannot hold, or a record larger than its topic takes.

use std::ops::Range;
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};
use tributary_runtime::Error;
use tributary_schemas::encode::{Change, ValueError};
use tributary_schemas::record::Op;
use tributary_schemas::table::Cell;
use tributary_schemas::wire;

use super::fault::Fault;
use super::table::TableTopic;
use crate::config::pattern_of;
use crate::log::outbox::{Outbox, Record, record_bytes};
use crate::telemetry;

/// Characters of one key column's value in a message.
const SHOWN_CHARS: usize = 64;

const TOPIC: &str = "tributary.dead-letter.topic";
const ERROR: &str = "tributary.dead-letter.error";
const SERVICE: &str = "tributary.dead-letter.service";

impl TableTopic {
    /// Appends the value of a record whose key has `key_bytes`. On an error the outbox is as it was.
    ///
    /// The size is taken before compression: whether a record passes does not depend on how well it compresses.
    pub(super) fn try_append_value(
        &self,
        outbox: &mut Outbox,
        change: &Change<'_>,
        key_bytes: usize,
        headers: &[(&'static str, Vec<u8>)],
    ) -> Result<Range<usize>, Fault> {
        let start = outbox.bytes.len();
        outbox
            .bytes
            .extend_from_slice(&wire::prefix(self.value_schema_id));
        if let Err(error) = self.plan.encode_envelope(change, &mut outbox.bytes) {
            outbox.bytes.truncate(start);
            return Err(Fault::Value(error));
        }
        let bytes = record_bytes(key_bytes + outbox.bytes.len() - start, headers);
        let limit = self.max_record_bytes;
        if bytes > limit {
            outbox.bytes.truncate(start);
            return Err(Fault::Size { bytes, limit });
        }
        Ok(start..outbox.bytes.len())
    }

    /// Stops with what is wrong, or puts the change aside: as a record of the dead-letter topic in the same
    /// transaction.
    pub(super) fn letter(
        &self,
        outbox: &mut Outbox,
        key: Option<Range<usize>>,
        change: &Change<'_>,
        seq: u64,
        fault: &Fault,
    ) -> Result<Record, Error> {
        let Some(letters) = &self.dead_letters else {
            return Err(self.refuse(fault, change));
        };
        let what = self.describe(fault, change);
        let value = self.letter_value(change, fault).to_string();
        let headers = vec![
            (TOPIC, self.topic.as_bytes().to_vec()),
            (ERROR, what.clone().into_bytes()),
            (SERVICE, letters.service.clone().into_bytes()),
        ];
        let key_bytes = key.as_ref().map_or(0, ExactSizeIterator::len);
        let bytes = record_bytes(key_bytes + value.len(), &headers);
        if bytes > letters.max_bytes {
            return Err(Error::stop_msg(format!(
                "{what}; and the dead-letter topic '{}' takes {} bytes only, not {bytes}",
                letters.topic, letters.max_bytes
            ))
            .remedy("raise max.message.bytes of one of the two topics"));
        }
        tracing::warn!(
            topic = &*letters.topic,
            "{what}: the change goes to the dead-letter topic"
        );
        metrics::counter!(telemetry::DEAD_LETTERS, "table" => self.display_name()).increment(1);
        Ok(Record {
            topic: Arc::clone(&letters.topic),
            partition: 0,
            key,
            value: Some(outbox.extend(value.as_bytes())),
            seq,
            max_batch_bytes: letters.max_bytes,
            headers,
        })
    }

    /// Appends a letter instead of the record whose value does not fit; and the record, where the new state alone
    /// does.
    pub(super) fn put_aside(
        &self,
        outbox: &mut Outbox,
        mut record: Record,
        change: &Change<'_>,
        fault: &Fault,
    ) -> Result<(), Error> {
        let letter = self.letter(outbox, record.key.clone(), change, record.seq, fault)?;
        outbox.records.push(letter);
        let mut key_only = Vec::new();
        let Some(reduced) = self.without_old_row(change, &mut key_only) else {
            return Ok(());
        };
        match self.try_append_value(outbox, &reduced, record.key_bytes(), &record.headers) {
            Ok(value) => {
                record.value = Some(value);
                outbox.records.push(record);
                Ok(())
            }
            // A row that is gone must not stay.
            Err(fault) if reduced.op == Op::Delete => Err(self.refuse(&fault, &reduced)),
            Err(_) => Ok(()),
        }
    }

    /// The error that stops the source.
    pub(super) fn refuse(&self, fault: &Fault, change: &Change<'_>) -> Error {
        let row = change.after.or(change.before);
        Error::stop_msg(self.describe(fault, change)).remedy(match fault {
            Fault::Value(error) => self.value_remedy(error, row),
            Fault::Size { bytes, .. } => format!(
                "raise max.message.bytes of topic '{}' to {bytes} or more, and start again; or set on_unfit_value = \
                 \"dead-letter\"",
                self.topic
            ),
        })
    }

    /// The error of a row whose key does not fit: without its key a change has no place, in no topic.
    pub(super) fn refuse_key(&self, error: &ValueError, row: &[Cell<'_>]) -> Error {
        Error::stop_msg(format!(
            "table {}, {}: {}",
            self.display_name(),
            self.describe_key(row),
            error.what
        ))
        .remedy(format!(
            "{}; a key in another form is another key: postgres.on_key_change = \"resnapshot\" reads all rows again under it",
            self.value_remedy(error, None)
        ))
    }

    fn value_remedy(&self, error: &ValueError, row: Option<&[Cell<'_>]>) -> String {
        if !error.legal {
            return error.remedy.clone();
        }
        let column = pattern_of(&self.table.schema, &self.table.name, &error.column);
        let dead_letter = match row {
            Some(_) => "; or set on_unfit_value = \"dead-letter\"",
            None => "",
        };
        format!(
            "let the column travel as text, for good: [[columns]] with match = '{column}' and as = \"text\"; or \
             correct the value{dead_letter}"
        )
    }

    /// Table, key, column and reason; of the values only the key's.
    fn describe(&self, fault: &Fault, change: &Change<'_>) -> String {
        let row = change.after.or(change.before).unwrap_or_default();
        let what = match fault {
            Fault::Value(error) => error.what.clone(),
            Fault::Size { bytes, limit } => format!(
                "a record of {bytes} bytes, where topic '{}' takes {limit} (max.message.bytes)",
                self.topic
            ),
        };
        format!(
            "table {}, {}: {what}",
            self.display_name(),
            self.describe_key(row)
        )
    }

    /// `key (id) = (7)`
    fn describe_key(&self, row: &[Cell<'_>]) -> String {
        if self.key_columns.is_empty() {
            return "a row without a key".to_owned();
        }
        let names = self
            .key_columns
            .iter()
            .map(|&index| self.table.columns[index].name.as_str());
        let values = self.key_columns.iter().map(|&index| match row.get(index) {
            Some(Cell::Text(text)) => shortened(&String::from_utf8_lossy(text)),
            _ => "null".to_owned(),
        });
        format!(
            "key ({}) = ({})",
            names.collect::<Vec<_>>().join(", "),
            values.collect::<Vec<_>>().join(", ")
        )
    }

    /// All that is known of the change, values as the text that Postgres printed: nothing is lost.
    fn letter_value(&self, change: &Change<'_>, fault: &Fault) -> Json {
        let row = |cells: Option<&[Cell<'_>]>| {
            cells.map(|cells| {
                let columns = self.table.columns.iter().zip(cells);
                let texts = columns.map(|(column, cell)| {
                    let text = match cell {
                        Cell::Null => Json::Null,
                        Cell::Text(text) => String::from_utf8_lossy(text).into(),
                    };
                    (column.name.clone(), text)
                });
                texts.collect::<Map<_, _>>()
            })
        };
        let (column, error) = match fault {
            Fault::Value(error) => (Some(&error.column), error.what.clone()),
            Fault::Size { bytes, limit } => {
                (None, format!("{bytes} bytes, the topic takes {limit}"))
            }
        };
        let key: Vec<_> = self
            .key_columns
            .iter()
            .map(|&index| &self.table.columns[index].name)
            .collect();
        json!({
            "schema": self.table.schema,
            "table": self.table.name,
            "key": key,
            "column": column,
            "error": error,
            "op": change.op.letter().to_string(),
            "before": row(change.before),
            "after": row(change.after),
            "lsn": change.lsn.map(|lsn| lsn.to_string()),
            "tx_id": change.tx_id,
            "commit_time_us": change.commit_time_us,
        })
    }

    /// The change without what the new state does not need of the old row, which may be what does not fit; `None` if
    /// nothing of it would be left out. `key_only` is room for the cells.
    fn without_old_row<'a>(
        &self,
        change: &Change<'a>,
        key_only: &'a mut Vec<Cell<'a>>,
    ) -> Option<Change<'a>> {
        let before = change.before?;
        match change.op {
            Op::Update => Some(Change {
                before: None,
                ..*change
            }),
            Op::Delete => {
                let cells = before.iter().enumerate().map(|(index, cell)| {
                    if self.key_columns.contains(&index) {
                        *cell
                    } else {
                        Cell::Null
                    }
                });
                key_only.extend(cells);
                Some(Change {
                    before: Some(key_only),
                    ..*change
                })
            }
            _ => None,
        }
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
