//! Which column of a row takes which of a record's values.

use tributary_engine::Change;
use tributary_schemas::record::{Datum, FieldType, RecordType};

use crate::warehouse::batch::{record_types, same_types};
use crate::warehouse::target::{DELETED, LACKING, OFFSET, PARTITION, SEQ, Target};

/// How records of one key type and value type become rows of one target table.
pub(crate) struct Plan<'a> {
    key_type: Option<&'a RecordType>,
    row_type: Option<&'a RecordType>,
    columns: Vec<Source<'a>>,
}

/// Where a column's value comes from.
pub(crate) enum Source<'a> {
    Key(usize, &'a FieldType),
    Row(usize, &'a FieldType),
    Seq,
    Partition,
    Offset,
    Deleted,
    /// Which of the columns the record has no value for.
    Lacking,
    /// The records lack the column: dropped at the source, or not yet known there.
    Missing,
}

impl<'a> Plan<'a> {
    /// Which column takes which field. `further` are those of our own that the rows have beyond the table's.
    pub(crate) fn new(target: &Target, change: &Change<'a>, further: &[&str]) -> Self {
        let (key_type, row_type) = record_types(change);
        let place = |record: Option<&'a RecordType>, name: &str| {
            let fields = &record?.fields;
            let index = fields.iter().position(|field| field.name == name)?;
            Some((index, &fields[index].field_type))
        };
        let names = target.column_names();
        let columns = names
            .chain(further.iter().copied())
            .map(|name| match name {
                SEQ => Source::Seq,
                PARTITION => Source::Partition,
                OFFSET => Source::Offset,
                DELETED => Source::Deleted,
                LACKING => Source::Lacking,
                _ => {
                    let key = place(key_type, name).map(|(index, field)| Source::Key(index, field));
                    let row =
                        || place(row_type, name).map(|(index, field)| Source::Row(index, field));
                    key.or_else(row).unwrap_or(Source::Missing)
                }
            })
            .collect();
        Self {
            key_type,
            row_type,
            columns,
        }
    }

    /// Whether the plan was made for records like this one.
    pub(crate) fn serves(&self, change: &Change<'_>) -> bool {
        same_types((self.key_type, self.row_type), record_types(change))
    }

    /// Where the values come from, in the order of the row's columns.
    pub(crate) fn columns(&self) -> &[Source<'a>] {
        &self.columns
    }

    /// The table's columns, by their index, of which the record does not carry the value.
    pub(crate) fn lacking<'s>(
        &'s self,
        change: &'s Change<'_>,
    ) -> impl Iterator<Item = usize> + 's {
        let row = change.row().map_or(&[][..], |value| &value.row);
        let columns = self.columns.iter().enumerate();
        columns.filter_map(|(index, column)| match column {
            Source::Row(at, _) => (row.get(*at) == Some(&Datum::Unavailable)).then_some(index),
            _ => None,
        })
    }
}
