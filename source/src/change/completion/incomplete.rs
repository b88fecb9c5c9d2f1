//! Rows of which the WAL lacks columns.

use std::collections::HashMap;
use std::sync::Arc;

use tributary_schemas::record::Op;
use tributary_schemas::table::Cell;

use crate::change::origin::Origin;
use crate::log::table_topic::TableTopic;

/// A row whose record has its place in the outbox, and whose value is not known yet.
#[derive(Debug)]
pub(crate) struct Incomplete {
    pub(super) record: usize,
    pub(super) table: Arc<TableTopic>,
    pub(super) op: Op,
    pub(super) cells: Vec<Option<Box<[u8]>>>,
    pub(super) unchanged: Vec<usize>,
    pub(super) origin: Origin,
}

impl Incomplete {
    pub(crate) fn new(
        record: usize,
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
            table: Arc::clone(table),
            op,
            cells: cells.iter().map(own).collect(),
            unchanged: unchanged.to_vec(),
            origin,
        }
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
    /// By their index in the table.
    pub(super) columns: HashMap<usize, Option<Box<[u8]>>>,
}
