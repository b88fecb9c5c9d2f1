//! Rows of which the WAL lacks columns.

use std::collections::HashMap;
use std::sync::Arc;

use tributary_schemas::record::Op;
use tributary_schemas::table::Cell;

use crate::change::origin::Origin;
use crate::log::progress::Position;
use crate::log::table_topic::TableTopic;

/// A place between two changes in an outbox: a transaction may end there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    /// How many records are before it.
    pub(crate) records: usize,
    /// The position behind them.
    pub(crate) position: Position,
}

/// A row whose record has its place in the outbox, and whose value is not known yet.
#[derive(Debug)]
pub(crate) struct Incomplete {
    pub(super) record: usize,
    /// Before the row's change.
    cut: Cut,
    pub(super) table: Arc<TableTopic>,
    pub(super) op: Op,
    pub(super) cells: Vec<Option<Box<[u8]>>>,
    pub(super) unchanged: Vec<usize>,
    pub(super) origin: Origin,
}

impl Incomplete {
    /// The first argument is the index of its record, and where its change begins.
    pub(crate) fn new(
        (record, cut): (usize, Cut),
        table: &Arc<TableTopic>,
        op: Op,
        cells: &[Cell<'_>],
        unchanged: &[usize],
        origin: Origin,
    ) -> Self {
        let own = |cell: &Cell<'_>| match cell {
            Cell::Null => None,
            Cell::Text(text) => Some(Box::from(*text)),
        };
        Self {
            record,
            cut,
            table: Arc::clone(table),
            op,
            cells: cells.iter().map(own).collect(),
            unchanged: unchanged.to_vec(),
            origin,
        }
    }

    /// Where a transaction may end before it.
    pub(crate) const fn cut(&self) -> Cut {
        self.cut
    }

    /// So many records before it have left the outbox.
    pub(crate) const fn move_forward(&mut self, records: usize) {
        self.record -= records;
        self.cut.records -= records;
    }

    /// The bytes of the values that it has.
    pub(crate) fn bytes(&self) -> usize {
        self.cells.iter().flatten().map(|cell| cell.len()).sum()
    }

    /// The key's columns, in key order.
    pub(super) fn key(&self) -> Key {
        self.table
            .key_columns
            .iter()
            .map(|&index| self.cells[index].clone())
            .collect()
    }
}

pub(super) type Key = Vec<Option<Box<[u8]>>>;

/// A row as it was found.
pub(super) struct Found {
    /// The transaction, or the savepoint in it, that wrote it last.
    pub(super) xmin: Option<u32>,
    /// By their index in the table; nothing of a row that was too large to be read with the others.
    pub(super) columns: Option<HashMap<usize, Option<Box<[u8]>>>>,
    /// The bytes of the columns; an estimate, if they were not read.
    pub(super) bytes: usize,
}
