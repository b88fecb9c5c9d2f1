//! From the records of wal2json to the messages that pgoutput would have sent.
//!
//! The records name tables by name and hold columns by name: before the first change of a table, and whenever
//! its columns differ from those before, a Relation message is made up of the record and of what the catalog
//! says. A value that the record lacks is given as unchanged, so that it is looked up:
//!
//! - a TOASTed column that an update did not touch;
//! - null in a column of type `real`, `double precision` or `numeric`, which stands for `NaN` and the infinities
//!   as well. Where it cannot be looked up (key, old row, table without a key) it is an error.

use std::collections::HashMap;

use tributary_schemas::Lsn;

use super::facts::Facts;
use super::shape::{self, Fit, ShapeColumn};
use super::{Action, Column, Datum, ReadError, Reader, Record, RowChange};
use crate::pgoutput::{
    Delete, Insert, Message, OldRow, Relation, Truncate, TupleData, TupleWriter, Update,
};

/// Types whose special values wal2json writes as null.
const DOUBTFUL: [u32; 3] = [700, 701, 1700];

/// What the record says, as far as it is known.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// A message; there may be another one.
    Message(Message<'a>),
    /// The catalog must be asked first: see [`Assembly::ask`].
    Ask,
    /// Nothing more.
    Done,
}

/// Why a record cannot become a message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(
        "wal2json has null in column '{column}' of table {table}, which may stand for NaN or an infinity, and which {problem}"
    )]
    Doubtful {
        column: String,
        table: String,
        problem: &'static str,
    },
    #[error("a record of wal2json for table {table} cannot be understood: {problem}")]
    Contradiction {
        table: String,
        problem: &'static str,
    },
}

/// Assembles messages; keeps the shapes of the tables.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    reader: Reader,
    tables: HashMap<String, Known>,
    /// OIDs of the tables that are published already, by `schema.table`.
    remembered: HashMap<String, u32>,
    /// Of the open transaction.
    commit_lsn: Lsn,
    /// The record still has something to say.
    pending: bool,
    new: TupleWriter,
    old: TupleWriter,
    /// The key of `tables` that was looked up last.
    name: String,
}

/// What is known of a table.
#[derive(Debug)]
struct Known {
    facts: Facts,
    shape: Option<Vec<ShapeColumn>>,
    /// A Relation message has told of this shape.
    announced: bool,
}

/// Whether a record's table is known well enough.
enum Ready {
    Yes,
    /// The change is none of ours.
    Unpublished,
    Ask,
}

impl Assembly {
    /// `remembered` are the OIDs of the tables that are published already, by `schema.table`.
    pub(crate) fn new(remembered: HashMap<String, u32>) -> Self {
        Self {
            remembered,
            ..Self::default()
        }
    }

    /// Takes the payload of one `XLogData`; [`Self::step`] says what is in it.
    ///
    /// # Errors
    /// The payload is no record.
    pub(crate) fn read(&mut self, payload: &[u8]) -> Result<(), ReadError> {
        if let Record::Begin(begin) = self.reader.read(payload)? {
            self.commit_lsn = begin.final_lsn;
        }
        self.pending = true;
        Ok(())
    }

    /// The next message of the record. A change is repeated until the table's shape is known.
    ///
    /// # Errors
    /// The record contradicts the catalog, or has null where `NaN` is possible and cannot be looked up.
    pub(crate) fn step(&mut self) -> Result<Step<'_>, Refusal> {
        if !self.pending {
            return Ok(Step::Done);
        }
        let record = self.reader.again()?;
        let (schema, table) = match record {
            Record::Row(row) => (row.schema, row.table),
            Record::Truncate { schema, table } => (schema, table),
            Record::Begin(begin) => return Ok(last(&mut self.pending, Message::Begin(begin))),
            Record::Commit(commit) => return Ok(last(&mut self.pending, Message::Commit(commit))),
            Record::Logical(message) => {
                return Ok(last(&mut self.pending, Message::Logical(message)));
            }
        };
        set_name(&mut self.name, schema, table);
        let Some(known) = self.tables.get_mut(&self.name) else {
            return Ok(Step::Ask);
        };
        let ready = match &record {
            Record::Row(row) => known.prepare(row, self.commit_lsn)?,
            _ => known.prepare_truncate(self.commit_lsn),
        };
        match ready {
            Ready::Ask => return Ok(Step::Ask),
            Ready::Unpublished => return Ok(last(&mut self.pending, Message::Unpublished)),
            Ready::Yes if !known.announced => {
                known.announced = true;
                return Ok(Step::Message(known.relation(schema, table)));
            }
            Ready::Yes => {}
        }
        let message = match &record {
            Record::Row(row) => known.message(row, &mut self.new, &mut self.old)?,
            _ => Message::Truncate(Truncate {
                relations: vec![known.facts.oid],
                cascade: false,
                restart_identity: false,
            }),
        };
        Ok(last(&mut self.pending, message))
    }

    /// The table that [`Step::Ask`] is about: schema, name, and the OID that it had when it was last published.
    pub(crate) fn question(&self) -> Option<(&str, &str, Option<u32>)> {
        let (schema, table) = match self.reader.again().ok()? {
            Record::Row(row) => (row.schema, row.table),
            Record::Truncate { schema, table } => (schema, table),
            Record::Begin(_) | Record::Commit(_) | Record::Logical(_) => return None,
        };
        let remembered = self.remembered.get(&format!("{schema}.{table}"));
        Some((schema, table, remembered.copied()))
    }

    /// What is known of a table counts no more.
    pub(crate) fn forget(&mut self, schema: &str, table: &str) {
        let mut name = String::new();
        set_name(&mut name, schema, table);
        self.tables.remove(&name);
    }

    /// The catalog's answer about the table that was looked up last.
    pub(crate) fn learn(&mut self, mut facts: Facts) {
        // The transaction had been committed when its record came in.
        facts.read_at = facts.read_at.max(self.commit_lsn);
        let before = self.tables.remove(&self.name);
        let known = Known {
            // The same name may be another table now.
            shape: before
                .filter(|known| known.facts.oid == facts.oid)
                .and_then(|known| known.shape),
            facts,
            announced: false,
        };
        self.tables.insert(self.name.clone(), known);
    }
}

/// The record has nothing more to say.
const fn last<'a>(pending: &mut bool, message: Message<'a>) -> Step<'a> {
    *pending = false;
    Step::Message(message)
}

/// No name holds a zero byte.
fn set_name(name: &mut String, schema: &str, table: &str) {
    name.clear();
    name.push_str(schema);
    name.push('\0');
    name.push_str(table);
}

impl Known {
    /// Whether the change is none of ours, as far as the catalog has been asked: the name may be another table by now.
    fn foreign(&self, commit_lsn: Lsn) -> Option<Ready> {
        let foreign = self.facts.oid == 0 || !self.facts.ordinary;
        foreign.then_some(if self.facts.read_at < commit_lsn {
            Ready::Ask
        } else {
            Ready::Unpublished
        })
    }

    fn is_keyless(&self) -> bool {
        let shape = self.shape.as_deref().unwrap_or_default();
        shape.iter().all(|column| !column.key)
    }

    /// Makes the shape that of this record.
    fn prepare(&mut self, row: &RowChange<'_>, commit_lsn: Lsn) -> Result<Ready, Refusal> {
        if let Some(ready) = self.foreign(commit_lsn) {
            return Ok(ready);
        }
        if !self.fits(row, commit_lsn) {
            if self.facts.read_at < commit_lsn {
                return Ok(Ready::Ask);
            }
            self.reshape(row)?;
        }
        // As a publication of tables without a key: it has no updates and deletes.
        let appended = row.action == Action::Insert || !self.is_keyless();
        Ok(if appended {
            Ready::Yes
        } else {
            Ready::Unpublished
        })
    }

    /// A TRUNCATE tells no columns.
    fn prepare_truncate(&mut self, commit_lsn: Lsn) -> Ready {
        if let Some(ready) = self.foreign(commit_lsn) {
            return ready;
        }
        if self.shape.is_none() && self.facts.columns.is_empty() {
            return Ready::Unpublished;
        }
        let facts = &self.facts;
        self.shape.get_or_insert_with(|| shape::of_catalog(facts));
        Ready::Yes
    }

    /// Whether the shape is that of this record.
    fn fits(&self, row: &RowChange<'_>, commit_lsn: Lsn) -> bool {
        let Some(shape) = &self.shape else {
            return false;
        };
        let facts = &self.facts;
        let columns_fit = match row.action {
            Action::Delete if shape::is_full(row, facts) => {
                shape::fit(row.identity, facts, shape) == Fit::Whole
            }
            Action::Delete => shape::holds(row.identity, facts, shape),
            Action::Insert => shape::fit(row.columns, facts, shape) == Fit::Whole,
            Action::Update => match shape::fit(row.columns, facts, shape) {
                Fit::Whole => true,
                Fit::Missing(_) if shape::is_full(row, facts) => {
                    shape::fit(row.identity, facts, shape) == Fit::Whole
                }
                Fit::Missing(missing) => {
                    facts.read_at >= commit_lsn && shape::still_there(&missing, facts, shape)
                }
                Fit::Differs => false,
            },
        };
        columns_fit && shape::same_key(row, facts, shape)
    }

    fn reshape(&mut self, row: &RowChange<'_>) -> Result<(), Refusal> {
        let shape = shape::derive(row, &self.facts, self.shape.as_deref());
        let shape = shape.ok_or_else(|| contradiction(row, "a column's name is not UTF-8"))?;
        self.shape = Some(shape);
        self.announced = false;
        if self.fits(row, Lsn::ZERO) {
            return Ok(());
        }
        Err(contradiction(row, "its columns come in an unknown order"))
    }

    fn relation<'a>(&'a self, schema: &'a str, name: &'a str) -> Message<'a> {
        let columns = self.shape.as_deref().unwrap_or_default().iter();
        let identity = self.facts.identity;
        Message::Relation(Relation {
            oid: self.facts.oid,
            schema,
            name,
            replica_identity: identity,
            columns: columns.map(|c| c.relation_column(identity)).collect(),
        })
    }

    /// The change, its rows in the order of the shape.
    fn message<'a>(
        &self,
        row: &RowChange<'_>,
        new: &'a mut TupleWriter,
        old: &'a mut TupleWriter,
    ) -> Result<Message<'a>, Refusal> {
        let relation = self.facts.oid;
        if row.action == Action::Insert {
            let new = self.new_row(row, new)?;
            return Ok(Message::Insert(Insert { relation, new }));
        }
        let full = shape::is_full(row, &self.facts);
        let has_old = row.action == Action::Delete || full || key_changed(row);
        let old = if has_old {
            let tuple = self.old_row(row, full, old)?;
            Some(if full {
                OldRow::Full(tuple)
            } else {
                OldRow::Key(tuple)
            })
        } else {
            None
        };
        match (row.action, old) {
            (Action::Delete, Some(old)) => Ok(Message::Delete(Delete { relation, old })),
            (_, old) => Ok(Message::Update(Update {
                relation,
                old,
                new: self.new_row(row, new)?,
            })),
        }
    }

    fn new_row<'a>(
        &self,
        row: &RowChange<'_>,
        tuple: &'a mut TupleWriter,
    ) -> Result<TupleData<'a>, Refusal> {
        let mut columns = shape::published(row.columns, &self.facts);
        let keyless = self.is_keyless();
        tuple.clear();
        for column in self.shape.as_deref().unwrap_or_default() {
            match columns.next_if(|found| column.is(found)) {
                Some(found) if is_doubtful(&found) => {
                    if column.key || keyless {
                        return Err(doubtful(row, column, "cannot be looked up without a key"));
                    }
                    tuple.unchanged();
                }
                Some(found) => write(tuple, found.value),
                None => tuple.unchanged(),
            }
        }
        finished(
            row,
            columns.next().is_none().then(|| tuple.finish()).flatten(),
        )
    }

    fn old_row<'a>(
        &self,
        row: &RowChange<'_>,
        full: bool,
        tuple: &'a mut TupleWriter,
    ) -> Result<TupleData<'a>, Refusal> {
        let mut columns = shape::published(row.identity, &self.facts);
        tuple.clear();
        for column in self.shape.as_deref().unwrap_or_default() {
            match columns.next_if(|found| column.is(found)) {
                Some(found) if is_doubtful(&found) => {
                    let problem = if full {
                        "is of the old row, which is gone"
                    } else {
                        "is part of the key"
                    };
                    return Err(doubtful(row, column, problem));
                }
                Some(found) => write(tuple, found.value),
                None => tuple.null(),
            }
        }
        finished(
            row,
            columns.next().is_none().then(|| tuple.finish()).flatten(),
        )
    }
}

fn finished<'a>(
    row: &RowChange<'_>,
    tuple: Option<TupleData<'a>>,
) -> Result<TupleData<'a>, Refusal> {
    tuple.ok_or_else(|| contradiction(row, "its columns are not those of the table"))
}

fn write(tuple: &mut TupleWriter, value: Datum<'_>) {
    match value {
        Datum::Null => tuple.null(),
        Datum::Text(text) => tuple.text(&[text]),
        Datum::Hex(digits) => tuple.text(&[b"\\x", digits]),
    }
}

fn is_doubtful(column: &Column<'_>) -> bool {
    column.value == Datum::Null && DOUBTFUL.contains(&column.type_oid)
}

/// Where the identity did not change the record repeats it from the new row.
fn key_changed(row: &RowChange<'_>) -> bool {
    let mut columns = row.columns.iter();
    row.identity.iter().any(|old| {
        columns
            .find(|new| new.name == old.name)
            .is_none_or(|new| new != old)
    })
}

#[cold]
fn doubtful(row: &RowChange<'_>, column: &ShapeColumn, problem: &'static str) -> Refusal {
    Refusal::Doubtful {
        column: column.name.clone(),
        table: format!("{}.{}", row.schema, row.table),
        problem,
    }
}

#[cold]
fn contradiction(row: &RowChange<'_>, problem: &'static str) -> Refusal {
    Refusal::Contradiction {
        table: format!("{}.{}", row.schema, row.table),
        problem,
    }
}

#[cfg(test)]
mod tests;
