//! Reads the rows of a range of a relation, in the order of their ctids.

pub mod copy_text;

use std::pin::Pin;

use bytes::Bytes;
use futures::TryStreamExt;
use tokio_postgres::{Client, CopyOutStream};
use tributary_runtime::Error;
use tributary_schemas::table::{Cell, Table};

use crate::ctid::{Tid, TidRange};
use crate::database::Database;
use crate::quote::identifier;
use copy_text::CopyRow;

/// The statement that reads a range. TID range scans exist since PG14.
fn copy_statement(table: &Table, relation: &str, range: TidRange, filter: Option<&str>) -> String {
    let columns: String = table
        .columns
        .iter()
        .flat_map(|column| [", ".to_owned(), identifier(&column.name)])
        .collect();
    let Tid(page, place) = range.after;
    let to = range
        .to
        .map(|Tid(page, place)| format!(" AND ctid <= '({page},{place})'"))
        .unwrap_or_default();
    let filter = filter
        .map(|filter| format!(" AND ({filter}\n)"))
        .unwrap_or_default();
    format!(
        "COPY (SELECT ctid{columns} FROM ONLY {relation} WHERE ctid > '({page},{place})'{to}{filter}) TO STDOUT"
    )
}

/// Ranges are marked as read by the ctid of the last row, so rows must come in the order of their ctids: from the
/// beginning, and by one process. For the transaction that [`Rows`] are read in.
pub const ONE_SCAN: &str =
    "SET LOCAL synchronize_seqscans = off; SET LOCAL max_parallel_workers_per_gather = 0";
/// The same where a condition would let the planner choose an index. The catalog is not to be read behind it.
const NO_INDEX: &str = "SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off;
    SET LOCAL enable_bitmapscan = off";

/// What a condition may do: be part of a SELECT. Postgres would take one that ends the statement early for a part of
/// COPY, which can do more.
fn check_statement(relation: &str, filter: &str) -> String {
    format!("SELECT FROM ONLY {relation} WHERE ({filter}\n)")
}

/// The rows of a range, one after the other; the server waits while nobody asks for the next one.
pub struct Rows {
    lines: Pin<Box<CopyOutStream>>,
    database: Database,
    filtered: bool,
    /// Where the row before is.
    last: Tid,
}

impl Rows {
    /// Begins to read.
    ///
    /// # Errors
    /// Those of the server. With a condition one that stops says why the condition is refused.
    pub async fn read(
        client: &Client,
        database: &Database,
        table: &Table,
        (relation, range): (&str, TidRange),
        filter: Option<&str>,
    ) -> Result<Self, Error> {
        if let Some(filter) = filter {
            let checked = client.prepare(&check_statement(relation, filter)).await;
            checked.map_err(|e| explain(database, true, e))?;
            let no_index = client.batch_execute(NO_INDEX).await;
            no_index.map_err(|e| database.explain(e))?;
        }
        let statement = copy_statement(table, relation, range, filter);
        let lines = client.copy_out(&statement).await;
        Ok(Self {
            lines: Box::pin(lines.map_err(|e| explain(database, filter.is_some(), e))?),
            database: database.clone(),
            filtered: filter.is_some(),
            last: range.after,
        })
    }

    /// The next row: where it is, and its line, as [`Row`] reads it. Cancel safe.
    ///
    /// # Errors
    /// Those of the server. The row does not stand behind the one before: see [`ONE_SCAN`].
    pub async fn next(&mut self) -> Result<Option<(Tid, Bytes)>, Error> {
        let line = self.lines.try_next().await;
        let line = line.map_err(|e| explain(&self.database, self.filtered, e))?;
        let Some(line) = line else {
            return Ok(None);
        };
        let tid = place(&line)?;
        if tid <= self.last {
            return Err(Error::stop_msg(format!(
                "the server gives the row at {tid:?} behind the one at {:?}: what is read could not be told",
                self.last
            )));
        }
        self.last = tid;
        Ok(Some((tid, line)))
    }
}

/// Where the row of a line is.
fn place(line: &[u8]) -> Result<Tid, Error> {
    let end = memchr::memchr2(b'\t', b'\n', line).unwrap_or(line.len());
    Tid::parse(&line[..end]).ok_or_else(|| Error::stop_msg("a row without a ctid"))
}

/// What a condition that fails on a row says may quote that row: its SQLSTATE alone is told.
fn explain(database: &Database, filtered: bool, error: tokio_postgres::Error) -> Error {
    let code = error.code().map(|code| code.code().to_owned());
    match code.filter(|code| filtered && code.starts_with("22")) {
        Some(code) => Error::stop_msg(format!("the condition fails on a row (SQLSTATE {code})")),
        None => database.explain(error),
    }
}

/// Takes one row after the other apart; the buffers are reused.
#[derive(Debug, Default)]
pub struct Row(CopyRow);

impl Row {
    /// Its cells, in the order of the table's columns.
    pub fn parse<'a>(&'a mut self, line: &'a [u8], table: &Table) -> Result<Vec<Cell<'a>>, Error> {
        let mut cells = self.0.parse(line);
        if cells.len() != table.columns.len() + 1 {
            return Err(Error::stop_msg(format!(
                "table {}.{}: a row of {} columns instead of {}",
                table.schema,
                table.name,
                cells.len().saturating_sub(1),
                table.columns.len()
            )));
        }
        // Where it is, [`Rows`] has told.
        cells.remove(0);
        Ok(cells)
    }
}

#[cfg(test)]
mod tests {
    use tributary_schemas::table::{Cell, Column, ColumnType, Table};

    use super::{Row, copy_statement, place};
    use crate::ctid::{Tid, TidRange};

    fn table() -> Table {
        let column = |name: &str, attnum| Column {
            name: name.to_owned(),
            attnum,
            column_type: ColumnType::Text,
            key_position: None,
        };
        Table {
            oid: 1,
            schema: "s".to_owned(),
            name: "t".to_owned(),
            columns: vec![column("a", 1), column("b \"", 2)],
        }
    }

    #[test]
    fn a_range_is_read_by_ctid() {
        let range = TidRange {
            after: Tid(7, 3),
            to: Some(Tid(9, 0)),
        };
        assert_eq!(
            copy_statement(&table(), "\"s\".\"t\"", range, Some("a > 1")),
            "COPY (SELECT ctid, \"a\", \"b \"\"\" FROM ONLY \"s\".\"t\" \
             WHERE ctid > '(7,3)' AND ctid <= '(9,0)' AND (a > 1\n)) TO STDOUT"
        );
    }

    #[test]
    fn a_row_has_its_place_and_its_cells() {
        let mut row = Row::default();
        let line = b"(4,2)\tx\\ty\t\\N\n";
        assert_eq!(place(line).unwrap(), Tid(4, 2));
        assert_eq!(place(b"(4,2)\n").unwrap(), Tid(4, 2), "without a column");
        assert!(place(b"x\t(4,2)\n").is_err());
        let cells = row.parse(line, &table()).unwrap();
        assert_eq!(cells, [Cell::Text(b"x\ty"), Cell::Null]);
        assert!(row.parse(b"(4,2)\tx\n", &table()).is_err());
    }
}
