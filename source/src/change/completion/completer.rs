//! Looks rows up, and completes their records.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, SimpleQueryRow};
use tributary_runtime::{Error, ResultExt};
use tributary_schemas::table::{Cell, Column, ColumnType};
use tributary_schemas::{Lsn, header};

use super::incomplete::{Found, Incomplete, Key};
use super::lookups::Lookups;
use super::target::{Target, query};
use super::visibility::ServerSnapshot;
use crate::log::outbox::{MAX_BYTES, Outbox};
use tributary_postgres::database::{Database, is_undefined};

/// How long a commit that is in the WAL may stay invisible (a synchronous standby is awaited) before the
/// session begins again.
const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(2);
/// Looks at the flush position before a flush is forced.
const FLUSH_POLLS: u32 = 5;
const FIRST_MAX_ROWS: usize = 64;
const MAX_ROWS: usize = 1000;
/// Of a size that is estimated, how much more may be read at once than there is room for.
pub(super) const SLACK: usize = 2;

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
    database: Database,
    max_rows: usize,
}

impl Completer {
    pub(crate) const fn new(database: Database) -> Self {
        Self {
            database,
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
    /// The server is away, or a commit stays invisible for too long.
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
        let lookups = Lookups::of(self, client, rows, room).await?;
        completed.rows = lookups.rows();
        for row in &rows[..completed.rows] {
            let (found, insert_lsn) = lookups.found(row);
            if found.and_then(|found| found.xmin) != Some(row.origin.xid) {
                completed.newest = completed.newest.max(insert_lsn);
            }
            fill(outbox, row, found)?;
        }
        self.wait_until_flushed(client, lookups.read_up_to())
            .await?;
        let bytes_per_row = (outbox.bytes.len() - before) / completed.rows + 1;
        self.max_rows = (MAX_BYTES / bytes_per_row).clamp(1, MAX_ROWS);
        metrics::counter!(crate::telemetry::ROWS_COMPLETED).increment(completed.rows as u64);
        Ok(completed)
    }

    /// Reads the missing columns of these rows (all of one table) in a snapshot that sees all their
    /// transactions; of rows larger than `share` their size only.
    pub(super) async fn look_up(
        &self,
        client: &Client,
        rows: &[&Incomplete],
        share: Option<usize>,
    ) -> Result<(HashMap<Key, Found>, Lsn), Error> {
        let deadline = Instant::now() + VISIBILITY_TIMEOUT;
        loop {
            let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
            client
                .batch_execute(begin)
                .await
                .map_err(|e| self.database.explain(e))?;
            let result = self.look_up_once(client, rows, share).await;
            client
                .batch_execute("COMMIT")
                .await
                .map_err(|e| self.database.explain(e))?;
            match result.doing(|| {
                format!(
                    "look up unchanged columns of table {}",
                    rows[0].table.display_name()
                )
            })? {
                Some(found) => return Ok(found),
                None if Instant::now() >= deadline => {
                    return Err(Error::retry_msg(format!(
                        "a committed transaction is still invisible after {} s: is a synchronous standby away?",
                        VISIBILITY_TIMEOUT.as_secs()
                    )));
                }
                None => tokio::time::sleep(POLL).await,
            }
        }
    }

    async fn look_up_once(
        &self,
        client: &Client,
        rows: &[&Incomplete],
        share: Option<usize>,
    ) -> Result<Option<(HashMap<Key, Found>, Lsn)>, Error> {
        let state = "SELECT pg_catalog.pg_current_snapshot()::text, pg_catalog.pg_current_wal_insert_lsn()::text";
        let state = self.query(client, state).await?;
        let text = |row: Option<&SimpleQueryRow>, index| {
            row.and_then(|row| row.get(index).map(str::to_owned))
        };
        let (Some(snapshot), Some(insert_lsn)) = (text(state.first(), 0), text(state.first(), 1))
        else {
            return Err(Error::retry_msg("the server does not tell its snapshot"));
        };
        let (Some(snapshot), Ok(insert_lsn)) =
            (ServerSnapshot::parse(&snapshot), insert_lsn.parse::<Lsn>())
        else {
            return Err(Error::stop_msg("the server's snapshot has an unknown form"));
        };
        if !rows.iter().all(|row| snapshot.sees(row.origin.xid)) {
            return Ok(None);
        }
        let Some(target) = Target::resolve(&self.database, client, rows).await? else {
            return Ok(Some((HashMap::new(), insert_lsn)));
        };
        match target.read(client, rows, share).await {
            Ok(found) => Ok(Some((found, insert_lsn))),
            // The statement has waited for a lock, and behind it the names were others.
            Err(error) if is_undefined(&error) => Ok(None),
            Err(error) => Err(self.database.explain(error)),
        }
    }

    /// With `synchronous_commit = off` a visible row may still be lost in a crash: waits until the WAL up to
    /// here is flushed, and forces it if nobody else does.
    async fn wait_until_flushed(&self, client: &Client, lsn: Lsn) -> Result<(), Error> {
        let flushed = format!("SELECT pg_catalog.pg_current_wal_flush_lsn() >= '{lsn}'::pg_lsn");
        let deadline = Instant::now() + VISIBILITY_TIMEOUT;
        let mut polls = 0;
        loop {
            let rows = self.query(client, &flushed).await?;
            if rows.first().and_then(|row| row.get(0)) == Some("t") {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Error::retry_msg(format!(
                    "the server does not flush its WAL up to {lsn}"
                )));
            }
            polls += 1;
            if polls == FLUSH_POLLS {
                // The commit of a transaction of our own flushes all WAL before it.
                let flush = "BEGIN; SET LOCAL synchronous_commit = local;
                    SELECT pg_catalog.pg_logical_emit_message(true, 'tributary', ''); COMMIT";
                client
                    .batch_execute(flush)
                    .await
                    .map_err(|e| self.database.explain(e))?;
            } else {
                tokio::time::sleep(POLL).await;
            }
        }
    }

    async fn query(&self, client: &Client, sql: &str) -> Result<Vec<SimpleQueryRow>, Error> {
        let rows = query(client, sql).await;
        rows.map_err(|e| self.database.explain(e))
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
