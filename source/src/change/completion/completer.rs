//! Looks rows up, and completes their records.

use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use tributary_runtime::Error;
use tributary_schemas::table::{Cell, Column, ColumnType};
use tributary_schemas::{Lsn, header};

use super::incomplete::{Found, Incomplete};
use super::lookups::Lookups;
use super::reader::RowReader;
use crate::log::outbox::{MAX_BYTES, Outbox};
use tributary_postgres::database::Database;

const FIRST_MAX_ROWS: usize = 64;
const MAX_ROWS: usize = 1000;

/// How much was completed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Completed {
    /// What was read is in the server's WAL for good up to here, where other transactions than the rows' own have a part
    /// in it.
    pub(crate) newest: Lsn,
    /// How many rows have their values; those behind are for a later transaction.
    pub(crate) rows: usize,
}

/// Looks rows up and completes their records.
pub(crate) struct Completer {
    reader: RowReader,
    max_rows: usize,
}

impl Completer {
    pub(crate) const fn new(database: Database, shutdown: CancellationToken) -> Self {
        Self {
            reader: RowReader { database, shutdown },
            max_rows: FIRST_MAX_ROWS,
        }
    }

    /// How many incomplete rows one transaction may hold: follows the size of the values that were found last. Where
    /// the next ones are larger, [`complete`](Self::complete) leaves rows for later.
    pub(crate) const fn max_rows(&self) -> usize {
        self.max_rows
    }

    /// Gives incomplete records their values, in order, as long as the outbox stays within its bound; the first one in
    /// any case. What was read is in the server's WAL for good when this returns.
    ///
    /// # Errors
    /// The server is away, a commit stays invisible for too long, or a shutdown ends the wait for a lock.
    pub(crate) async fn complete(
        &mut self,
        client: &Client,
        outbox: &mut Outbox,
        incomplete: &[Incomplete],
    ) -> Result<Completed, Error> {
        let rows = &incomplete[..incomplete.len().min(self.max_rows)];
        let mut completed = Completed {
            newest: Lsn::ZERO,
            rows: rows.len(),
        };
        if rows.is_empty() {
            return Ok(completed);
        }
        let before = outbox.bytes.len();
        let room = MAX_BYTES.saturating_sub(before);
        let lookups = Lookups::of(&self.reader, client, rows, room).await?;
        completed.rows = lookups.rows();
        for row in &rows[..completed.rows] {
            let (found, insert_lsn) = lookups.found(row);
            if found.and_then(|found| found.xmin) != Some(row.origin.xid) {
                completed.newest = completed.newest.max(insert_lsn);
            }
            fill(outbox, row, found)?;
        }
        self.reader
            .wait_until_flushed(client, lookups.read_up_to())
            .await?;
        let bytes_per_row = (outbox.bytes.len() - before) / completed.rows + 1;
        self.max_rows = (MAX_BYTES / bytes_per_row).clamp(1, MAX_ROWS);
        metrics::counter!(crate::telemetry::ROWS_COMPLETED).increment(completed.rows as u64);
        Ok(completed)
    }
}

/// With wal2json each null of such a type is looked up: it may be NaN, and mostly is just null.
const fn may_be_nan(column: &Column) -> bool {
    matches!(
        column.column_type,
        ColumnType::Float4
            | ColumnType::Float8
            | ColumnType::Numeric { .. }
            | ColumnType::VariableNumeric
    )
}

/// Encodes the completed row and puts it in its place.
fn fill(outbox: &mut Outbox, row: &Incomplete, found: Option<&Found>) -> Result<(), Error> {
    let (mut completed, mut absent) = (Vec::new(), Vec::new());
    let mut cells: Vec<Option<&[u8]>> = row.cells.iter().map(Option::as_deref).collect();
    for &index in &row.unchanged {
        let column = &row.table.table.columns[index];
        let name = column.name.as_str();
        match found.and_then(|found| found.columns.as_ref()?.get(&index)) {
            Some(Some(value)) => {
                cells[index] = Some(value);
                completed.push(name);
            }
            Some(None) if may_be_nan(column) => {}
            Some(None) => completed.push(name),
            None => absent.push(name),
        }
    }
    let cells: Vec<Cell<'_>> = cells
        .into_iter()
        .map(|cell| cell.map_or(Cell::Null, Cell::Text))
        .collect();
    let change = row.origin.change(row.op, None, Some(&cells));
    let record = &mut outbox.records[row.record];
    for (name, columns) in [(header::COMPLETED, completed), (header::INCOMPLETE, absent)] {
        if !columns.is_empty() {
            record.headers.push((name, columns.join(",").into_bytes()));
        }
    }
    row.table.complete(outbox, row.record, &change)
}
