//! Rows as the stream sends them.

use tributary_runtime::Error;
use tributary_schemas::table::Cell;

use crate::log::table_topic::TableTopic;
use tributary_postgres::pgoutput;
use tributary_postgres::pgoutput::{OldRow, TupleData};

/// The row after a change.
pub(super) struct NewRow<'a> {
    pub(super) cells: Vec<Cell<'a>>,
    /// In the wire format; `None` without a key.
    pub(super) key: Option<Vec<u8>>,
    /// Columns that the WAL lacks: TOASTed, untouched, and not in the old row either.
    pub(super) unchanged: Vec<usize>,
}

impl<'a> NewRow<'a> {
    /// `old` holds the old row and whether it is the whole one or the key only.
    pub(super) fn read(
        tuple: TupleData<'a>,
        old: Option<(&[Cell<'a>], bool)>,
        table: &TableTopic,
    ) -> Result<Self, Error> {
        same_width(&tuple, table)?;
        let mut unchanged = Vec::new();
        let mut cells = Vec::with_capacity(tuple.len());
        for (index, cell) in tuple.into_iter().enumerate() {
            cells.push(match cell {
                pgoutput::Cell::Null => Cell::Null,
                pgoutput::Cell::Text(text) => Cell::Text(text),
                pgoutput::Cell::Unchanged => match old {
                    // A TOASTed value is never null: a partition with another identity than its table's logs the
                    // key only, which the table's FULL makes look like a whole row.
                    Some((old, full))
                        if full && old[index] != Cell::Null
                            || table.key_columns.contains(&index) =>
                    {
                        old[index]
                    }
                    _ => {
                        unchanged.push(index);
                        Cell::Null
                    }
                },
                pgoutput::Cell::Binary(_) => {
                    return Err(contradiction("a binary value, which was not asked for"));
                }
            });
        }
        let key = table.key_bytes(&cells)?;
        Ok(Self {
            cells,
            key,
            unchanged,
        })
    }
}

/// The old row, in full or its key only.
pub(super) fn old_cells<'a>(old: OldRow<'a>, table: &TableTopic) -> Result<Vec<Cell<'a>>, Error> {
    let (OldRow::Key(tuple) | OldRow::Full(tuple)) = old;
    same_width(&tuple, table)?;
    tuple
        .into_iter()
        .map(|cell| match cell {
            // The old row is logged with its TOASTed values fetched: an absent one is a column outside the key.
            pgoutput::Cell::Null | pgoutput::Cell::Unchanged => Ok(Cell::Null),
            pgoutput::Cell::Text(text) => Ok(Cell::Text(text)),
            pgoutput::Cell::Binary(_) => {
                Err(contradiction("a binary value, which was not asked for"))
            }
        })
        .collect()
}

fn same_width(tuple: &TupleData<'_>, table: &TableTopic) -> Result<(), Error> {
    if tuple.len() == table.table.columns.len() {
        return Ok(());
    }
    Err(contradiction(&format!(
        "a row of {} columns for table {}, which was announced with {}",
        tuple.len(),
        table.display_name(),
        table.table.columns.len()
    )))
}

pub(super) fn contradiction(what: &str) -> Error {
    Error::stop_msg(format!("the replication stream contradicts itself: {what}"))
        .remedy("report it, with the server's version; the slot keeps the changes")
}
