//! Rows that wait for columns which the WAL lacks: their records have a place in the outbox, and no value yet.

use crate::change::completion::Incomplete;

/// The rows that wait, in the order of their records.
#[derive(Default)]
pub(super) struct WaitingRows {
    pub(super) rows: Vec<Incomplete>,
    /// What the rows hold themselves.
    pub(super) bytes: usize,
}

impl WaitingRows {
    pub(super) fn push(&mut self, row: Incomplete) {
        self.bytes += row.bytes();
        self.rows.push(row);
    }

    pub(super) const fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn truncate(&mut self, len: usize) {
        let cut = self.rows.drain(len.min(self.rows.len())..);
        self.bytes -= cut.map(|row| row.bytes()).sum::<usize>();
    }
}
