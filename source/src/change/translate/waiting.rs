//! Rows that wait for columns which the WAL lacks: their records have a place in the outbox, and no value yet.

use super::translator::Translator;
use crate::change::completion::{Cut, Incomplete};
use crate::log::outbox::{MAX_BYTES, Outbox};
use crate::log::progress::Position;

/// The rows that wait, in the order of their records.
#[derive(Default)]
pub(super) struct Waiting {
    rows: Vec<Incomplete>,
    /// What the rows hold themselves.
    bytes: usize,
}

impl Waiting {
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

impl Translator {
    /// Whether rows wait for their columns. Until they have them, nothing joins the outbox but the stream's changes: a
    /// transaction may end before any of the rows, and its progress record tells everything but the position as it is
    /// then.
    pub(crate) const fn has_incomplete(&self) -> bool {
        self.waiting.len() > 0
    }

    /// Whether what came in should be published before more is read.
    pub(crate) fn is_full(&self, max_incomplete: usize) -> bool {
        self.outbox.is_full()
            || self.waiting.len() >= max_incomplete
            || self.outbox.bytes.len() + self.waiting.bytes >= MAX_BYTES
    }

    /// Takes out what came in; `empty` is used next.
    pub(crate) fn take(&mut self, empty: Outbox) -> (Outbox, Vec<Incomplete>) {
        (
            std::mem::replace(&mut self.outbox, empty),
            std::mem::take(&mut self.waiting).rows,
        )
    }

    /// Takes back what was taken out, from the change of the first of these rows on: it is the beginning of the next
    /// outbox. Nothing may have come in meanwhile. Returns the position behind what stays in `outbox`.
    pub(crate) fn give_back(&mut self, outbox: &mut Outbox, rows: Vec<Incomplete>) -> Position {
        let Some(Cut { records, position }) = rows.first().map(Incomplete::cut) else {
            return self.position;
        };
        outbox.move_tail(records, &mut self.outbox);
        for mut row in rows {
            row.move_forward(records);
            self.waiting.push(row);
        }
        Position {
            looked_up: self.position.looked_up,
            ..position
        }
    }
}
