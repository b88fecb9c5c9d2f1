//! The records of wal2json, and the parts that they are made of.

use std::ops::Range;
use std::str;

use tributary_schemas::Lsn;

use super::problem::Problem;
use super::timestamp;
use crate::pgoutput::{Begin, Commit, LogicalMessage};

const BYTEA: u32 = 17;

/// One record of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record<'a> {
    /// A transaction starts.
    Begin(Begin),
    /// The transaction that began last ends.
    Commit(Commit),
    /// A row of a table.
    Row(RowChange<'a>),
    /// An emptied table; a TRUNCATE of several is as many records.
    Truncate {
        /// The schema.
        schema: &'a str,
        /// The table.
        table: &'a str,
    },
    /// A message of `pg_logical_emit_message`; its content ends at the first zero byte.
    Logical(LogicalMessage<'a>),
}

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is new.
    Insert,
    /// It was changed.
    Update,
    /// It was deleted.
    Delete,
}

/// A change of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowChange<'a> {
    /// What happened.
    pub action: Action,
    /// The schema.
    pub schema: &'a str,
    /// The table.
    pub table: &'a str,
    /// The row after; without the TOASTed columns that an update did not touch. Empty for a delete.
    pub columns: Columns<'a>,
    /// The columns of the replica identity before, or, where they did not change, after. Empty for an insert.
    pub identity: Columns<'a>,
    /// The columns of the primary key, without values.
    pub key: Columns<'a>,
}

/// Some columns of a row, in the table's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Columns<'a> {
    text: &'a [u8],
    fields: &'a [Field],
}

/// One column of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column<'a> {
    /// The name.
    pub name: &'a [u8],
    /// The type as `format_type` prints it, with its modifier.
    pub type_name: &'a [u8],
    /// The type's OID.
    pub type_oid: u32,
    /// The value.
    pub value: Datum<'a>,
}

/// A column's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datum<'a> {
    /// Null; in a column of type float or numeric possibly `NaN` or an infinity.
    Null,
    /// The text form of the type's output function.
    Text(&'a [u8]),
    /// The text form of a `bytea` without the `\x` that it begins with.
    Hex(&'a [u8]),
}

impl<'a> Columns<'a> {
    /// How many there are.
    pub const fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// One after the other.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Column<'a>> + Clone + use<'a> {
        let Self { text, fields } = *self;
        fields.iter().map(move |field| field.column(text))
    }
}

/// A column as ranges of the reader's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: Range<usize>,
    pub(super) type_name: Range<usize>,
    pub(super) type_oid: u32,
    pub(super) value: Text,
}

/// A value as a range of the reader's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Text {
    Null,
    /// A number or boolean.
    Bare(Range<usize>),
    Quoted(Range<usize>),
}

impl Field {
    fn column<'a>(&self, text: &'a [u8]) -> Column<'a> {
        Column {
            name: &text[self.name.clone()],
            type_name: &text[self.type_name.clone()],
            type_oid: self.type_oid,
            value: match &self.value {
                Text::Null => Datum::Null,
                Text::Quoted(range) if self.type_oid == BYTEA => Datum::Hex(&text[range.clone()]),
                Text::Bare(range) | Text::Quoted(range) => Datum::Text(&text[range.clone()]),
            },
        }
    }
}

/// What an object held, before it is known to be complete.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) action: Option<Range<usize>>,
    pub(super) xid: Option<Range<usize>>,
    pub(super) timestamp: Option<Range<usize>>,
    pub(super) lsn: Option<Range<usize>>,
    pub(super) next_lsn: Option<Range<usize>>,
    pub(super) schema: Option<Range<usize>>,
    pub(super) table: Option<Range<usize>>,
    pub(super) prefix: Option<Range<usize>>,
    pub(super) content: Option<Range<usize>>,
    pub(super) transactional: Option<bool>,
    pub(super) columns: Vec<Field>,
    pub(super) has_columns: bool,
    pub(super) identity: Vec<Field>,
    pub(super) has_identity: bool,
    pub(super) key: Vec<Field>,
}

impl Parts {
    /// Forgets everything but the buffers.
    pub(super) fn clear(&mut self) {
        let mut kept = [&mut self.columns, &mut self.identity, &mut self.key].map(std::mem::take);
        kept.iter_mut().for_each(Vec::clear);
        let [columns, identity, key] = kept;
        *self = Self {
            columns,
            identity,
            key,
            ..Self::default()
        };
    }

    /// The record that these parts make.
    pub(super) fn record<'a>(&'a self, text: &'a [u8]) -> Result<Record<'a>, Problem> {
        let action = self.action.clone().ok_or(Problem::Part("the action"))?;
        match &text[action] {
            b"B" => Ok(Record::Begin(Begin {
                final_lsn: lsn(text, self.lsn.as_ref())?,
                commit_time_us: self.time_us(text)?,
                xid: self.xid(text)?,
            })),
            b"C" => Ok(Record::Commit(Commit {
                flags: 0,
                commit_lsn: lsn(text, self.lsn.as_ref())?,
                end_lsn: lsn(text, self.next_lsn.as_ref())?,
                commit_time_us: self.time_us(text)?,
            })),
            b"I" => self.row(text, Action::Insert),
            b"U" => self.row(text, Action::Update),
            b"D" => self.row(text, Action::Delete),
            b"T" => Ok(Record::Truncate {
                schema: name(text, self.schema.as_ref(), "the schema")?,
                table: name(text, self.table.as_ref(), "the table")?,
            }),
            b"M" => Ok(Record::Logical(LogicalMessage {
                transactional: self
                    .transactional
                    .ok_or(Problem::Part("the kind of message"))?,
                lsn: lsn(text, self.lsn.as_ref())?,
                prefix: name(text, self.prefix.as_ref(), "the prefix")?,
                content: match &self.content {
                    Some(content) => &text[content.clone()],
                    None => return Err(Problem::Part("the content")),
                },
            })),
            _ => Err(Problem::Part("the action")),
        }
    }

    fn row<'a>(&'a self, text: &'a [u8], action: Action) -> Result<Record<'a>, Problem> {
        if !self.has_columns && action != Action::Delete {
            return Err(Problem::Part("the new row"));
        }
        if !self.has_identity && action == Action::Delete {
            return Err(Problem::Part("the old row"));
        }
        let columns = |fields| Columns { text, fields };
        Ok(Record::Row(RowChange {
            action,
            schema: name(text, self.schema.as_ref(), "the schema")?,
            table: name(text, self.table.as_ref(), "the table")?,
            columns: columns(if action == Action::Delete {
                &[]
            } else {
                &self.columns
            }),
            identity: columns(if action == Action::Insert {
                &[]
            } else {
                &self.identity
            }),
            key: columns(&self.key),
        }))
    }

    fn xid(&self, text: &[u8]) -> Result<u32, Problem> {
        let digits = name(text, self.xid.as_ref(), "the transaction id")?;
        digits
            .parse()
            .map_err(|_| Problem::Part("the transaction id"))
    }

    fn time_us(&self, text: &[u8]) -> Result<i64, Problem> {
        let range = self.timestamp.clone();
        range
            .and_then(|range| timestamp::unix_us(&text[range]))
            .ok_or(Problem::Part("the commit time"))
    }
}

fn name<'a>(
    text: &'a [u8],
    range: Option<&Range<usize>>,
    what: &'static str,
) -> Result<&'a str, Problem> {
    range
        .and_then(|range| str::from_utf8(&text[range.clone()]).ok())
        .ok_or(Problem::Part(what))
}

fn lsn(text: &[u8], range: Option<&Range<usize>>) -> Result<Lsn, Problem> {
    name(text, range, "the LSN")?
        .parse()
        .map_err(|_| Problem::Part("the LSN"))
}
