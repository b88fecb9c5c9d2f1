//! Which of some incomplete rows one transaction has room for, and what was found of them.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::Client;
use tributary_runtime::Error;
use tributary_schemas::Lsn;

use super::incomplete::{Found, Incomplete, Key};
use super::reader::RowReader;

/// Of a size that is estimated, how much more may be read at once than there is room for.
const SLACK: usize = 2;

/// What was found of rows, as far as a transaction has room for them.
///
/// Small rows come at once. A row that is larger than its share of the room is asked for in a second statement, if it
/// is in this transaction at all: how large a value is, the server tells without reading it.
pub(super) struct Lookups {
    found: HashMap<(usize, Key), (Option<Found>, Lsn)>,
    rows: usize,
}

impl Lookups {
    /// Looks rows up until they fill the room. The first one is among them, however large it is.
    pub(super) async fn of(
        reader: &RowReader,
        client: &Client,
        rows: &[Incomplete],
        room: usize,
    ) -> Result<Self, Error> {
        let mut lookups = Self {
            found: HashMap::new(),
            rows: rows.len(),
        };
        let share = (rows.len() > 1).then(|| SLACK * room / rows.len());
        let all: Vec<&Incomplete> = rows.iter().collect();
        lookups.look_up(reader, client, &all, share).await?;
        lookups.rows = lookups.that_fit(rows, room);
        loop {
            let rows = &rows[..lookups.rows];
            let left: Vec<&Incomplete> = rows.iter().filter(|row| lookups.is_left(row)).collect();
            if left.is_empty() {
                return Ok(lookups);
            }
            lookups.look_up(reader, client, &left, None).await?;
            // The estimate was too low, or a row has grown since: what is still left out comes later, and the first row
            // alone.
            if let Some(first) = rows.iter().position(|row| lookups.is_left(row)) {
                lookups.rows = first.max(1);
            }
        }
    }

    /// How many rows have been found, or are gone.
    pub(super) const fn rows(&self) -> usize {
        self.rows
    }

    /// What is known of a row, and where the server's WAL ended when it was read.
    pub(super) fn found(&self, row: &Incomplete) -> (Option<&Found>, Lsn) {
        match self.found.get(&place(row)) {
            Some((found, lsn)) => (found.as_ref(), *lsn),
            None => (None, Lsn::ZERO),
        }
    }

    /// Where the server's WAL ended behind all that was read.
    pub(super) fn read_up_to(&self) -> Lsn {
        let ends = self.found.values().map(|(_, lsn)| *lsn);
        ends.max().unwrap_or(Lsn::ZERO)
    }

    async fn look_up(
        &mut self,
        reader: &RowReader,
        client: &Client,
        rows: &[&Incomplete],
        share: Option<usize>,
    ) -> Result<(), Error> {
        let mut by_table: HashMap<usize, Vec<&Incomplete>> = HashMap::new();
        for row in rows {
            by_table.entry(table(row)).or_default().push(row);
        }
        let by_table: Vec<_> = by_table.into_values().collect();
        for rows in by_table {
            let (mut found, lsn) = reader.look_up(client, &rows, share).await?;
            for row in &rows {
                self.found.remove(&place(row));
            }
            for row in rows {
                let (table, key) = place(row);
                // Of several rows with one key the first one takes it.
                if let Some(found) = found.remove(&key) {
                    self.found.insert((table, key), (Some(found), lsn));
                } else {
                    self.found.entry((table, key)).or_insert((None, lsn));
                }
            }
        }
        Ok(())
    }

    fn that_fit(&self, rows: &[Incomplete], room: usize) -> usize {
        let mut bytes = 0;
        let fit = rows.iter().take_while(|row| {
            let found = self.found(row).0;
            bytes += row.bytes() + found.map_or(0, |found| found.bytes);
            bytes <= room
        });
        fit.count().max(1)
    }

    fn is_left(&self, row: &Incomplete) -> bool {
        let found = self.found(row).0;
        found.is_some_and(|found| found.columns.is_none())
    }
}

/// By the table's shape, not its OID: it may have changed within the transaction.
fn table(row: &Incomplete) -> usize {
    Arc::as_ptr(&row.table).addr()
}

fn place(row: &Incomplete) -> (usize, Key) {
    (table(row), row.key())
}
