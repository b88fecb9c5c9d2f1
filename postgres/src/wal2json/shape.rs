//! The shape of a table at the time of a change, from the record, the shape before it and the catalog.

use std::iter::Peekable;

use super::facts::{ColumnFacts, Facts};
use super::modifier::type_modifier;
use super::record::{Action, Column, Columns, RowChange};
use crate::pgoutput::{RelationColumn, ReplicaIdentity};

/// A column as it was at the time of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShapeColumn {
    pub(super) name: String,
    type_name: Vec<u8>,
    pub(super) type_oid: u32,
    type_modifier: i32,
    /// Zero for a column that the catalog does not have any more.
    attnum: i16,
    toastable: bool,
    pub(super) key: bool,
}

/// How a record's columns fit a shape.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fit {
    Whole,
    /// Only columns that may have been left out are missing: these, by index.
    Missing(Vec<usize>),
    Differs,
}

impl ShapeColumn {
    fn of_record(column: &Column<'_>, facts: &Facts, key: bool) -> Option<Self> {
        let known = facts.column(column.name);
        let same_type = known.filter(|known| {
            known.type_oid == column.type_oid && known.type_name.as_bytes() == column.type_name
        });
        Some(Self {
            name: std::str::from_utf8(column.name).ok()?.to_owned(),
            type_name: column.type_name.to_vec(),
            type_oid: column.type_oid,
            type_modifier: same_type.map_or_else(
                || type_modifier(column.type_name),
                |same| same.type_modifier,
            ),
            attnum: known.map_or(0, |known| known.attnum),
            toastable: known.is_none_or(|known| known.toastable),
            key,
        })
    }

    fn of_catalog(column: &ColumnFacts, key: bool) -> Self {
        Self {
            name: column.name.clone(),
            type_name: column.type_name.clone().into_bytes(),
            type_oid: column.type_oid,
            type_modifier: column.type_modifier,
            attnum: column.attnum,
            toastable: column.toastable,
            key,
        }
    }

    pub(super) fn is(&self, column: &Column<'_>) -> bool {
        self.name.as_bytes() == column.name
            && self.type_oid == column.type_oid
            && self.type_name == column.type_name
    }

    /// As a Relation message has it. With FULL every column is flagged.
    pub(super) fn relation_column(&self, identity: ReplicaIdentity) -> RelationColumn<'_> {
        RelationColumn {
            key: self.key || identity == ReplicaIdentity::Full,
            name: &self.name,
            type_oid: self.type_oid,
            type_modifier: self.type_modifier,
        }
    }
}

/// The columns of a record that are published: all but the generated ones.
pub(super) fn published<'a>(
    columns: Columns<'a>,
    facts: &Facts,
) -> Peekable<impl Iterator<Item = Column<'a>>> {
    let mut columns = columns.iter();
    std::iter::from_fn(move || columns.find(|column| !facts.is_generated(column.name))).peekable()
}

/// Whether the old row is the whole one, and not its key alone. The record decides where it can: the catalog may
/// be newer.
pub(super) fn is_full(row: &RowChange<'_>, facts: &Facts) -> bool {
    if facts.identity == ReplicaIdentity::Index {
        return false;
    }
    let all_are_key = || facts.columns.iter().filter(|c| !c.generated).count() <= row.key.len();
    row.identity.len() > row.key.len()
        || (facts.identity == ReplicaIdentity::Full && !row.identity.is_empty() && all_are_key())
}

/// Whether this column is part of what identifies the row.
fn is_key(name: &[u8], row: &RowChange<'_>, facts: &Facts) -> bool {
    let among = |columns: Columns<'_>| columns.iter().any(|column| column.name == name);
    match (row.action, facts.identity) {
        (Action::Insert, ReplicaIdentity::Index) => {
            facts.column(name).is_some_and(|column| column.key)
        }
        (Action::Insert, ReplicaIdentity::Nothing) => false,
        (Action::Insert, _) => among(row.key),
        _ if is_full(row, facts) => among(row.key),
        _ => among(row.identity),
    }
}

/// Whether the record and the shape agree on the key.
pub(super) fn same_key(row: &RowChange<'_>, facts: &Facts, shape: &[ShapeColumn]) -> bool {
    shape
        .iter()
        .all(|column| column.key == is_key(column.name.as_bytes(), row, facts))
}

/// How these columns of a record fit a shape.
pub(super) fn fit(columns: Columns<'_>, facts: &Facts, shape: &[ShapeColumn]) -> Fit {
    let mut columns = published(columns, facts);
    let mut missing = Vec::new();
    for (index, column) in shape.iter().enumerate() {
        if columns.next_if(|found| column.is(found)).is_none() {
            if !column.toastable {
                return Fit::Differs;
            }
            missing.push(index);
        }
    }
    match (columns.next(), missing.is_empty()) {
        (Some(_), _) => Fit::Differs,
        (None, true) => Fit::Whole,
        (None, false) => Fit::Missing(missing),
    }
}

/// Whether the catalog has all of these columns still: then the table had them at the time of the change too,
/// and the update has left them out because it did not touch them.
pub(super) fn still_there(missing: &[usize], facts: &Facts, shape: &[ShapeColumn]) -> bool {
    missing.iter().all(|&index| {
        let column = &shape[index];
        let known = facts.column(column.name.as_bytes());
        known
            .is_some_and(|known| known.attnum == column.attnum && known.type_oid == column.type_oid)
    })
}

/// The columns of a delete's old row are in the shape, wherever.
pub(super) fn holds(columns: Columns<'_>, facts: &Facts, shape: &[ShapeColumn]) -> bool {
    let mut shape = shape.iter();
    published(columns, facts).all(|found| shape.any(|column| column.is(&found)))
}

/// The shape that a row's record tells of. `before` is the one that the last record had.
///
/// `None` if a name is not UTF-8.
pub(super) fn derive(
    row: &RowChange<'_>,
    facts: &Facts,
    before: Option<&[ShapeColumn]>,
) -> Option<Vec<ShapeColumn>> {
    let full = is_full(row, facts);
    let columns = match row.action {
        Action::Delete => row.identity,
        Action::Update if full => row.identity,
        Action::Insert | Action::Update => row.columns,
    };
    let key = |name: &[u8]| is_key(name, row, facts);
    let mut shape = published(columns, facts)
        .map(|column| ShapeColumn::of_record(&column, facts, key(column.name)))
        .collect::<Option<Vec<_>>>()?;
    if full || row.action == Action::Insert {
        return Some(shape);
    }
    let absent = |column: &&ColumnFacts| {
        !column.generated && shape.iter().all(|found| found.name != column.name)
    };
    let lacking: Vec<_> = facts
        .columns
        .iter()
        .filter(absent)
        .filter(|column| match (row.action, before) {
            // Nothing else tells which columns there were.
            (Action::Delete, _) => true,
            (_, None) => column.toastable,
            (_, Some(before)) => {
                column.toastable && before.iter().any(|known| known.attnum == column.attnum)
            }
        })
        .map(|column| ShapeColumn::of_catalog(column, key(column.name.as_bytes())))
        .collect();
    for column in lacking {
        let place = shape
            .iter()
            .position(|found| found.attnum > column.attnum)
            .unwrap_or(shape.len());
        shape.insert(place, column);
    }
    Some(shape)
}

/// The shape of a table of which only the name is known, as for a TRUNCATE.
pub(super) fn of_catalog(facts: &Facts) -> Vec<ShapeColumn> {
    let columns = facts.columns.iter().filter(|column| !column.generated);
    columns
        .map(|column| ShapeColumn::of_catalog(column, column.key))
        .collect()
}
