//! Rows that were read beside the stream, on their way into it.

use std::sync::Arc;

use bytes::Bytes;
use tributary_runtime::Error;
use tributary_schemas::Lsn;
use tributary_schemas::encode::{Change, Snapshot};
use tributary_schemas::record::Op;
use tributary_schemas::table::Cell;

use super::rows::contradiction;
use super::translator::Translator;
use super::window::Window;
use crate::change::completion::ServerSnapshot;
use crate::log::table_topic::TableTopic;
use tributary_postgres::rows::Row;

/// Rows of a table that were read between two watermarks.
pub(crate) struct ReadRows {
    pub(crate) table: Arc<TableTopic>,
    /// What these rows were read under.
    pub(crate) snapshot: ServerSnapshot,
    /// As [`Row`] reads them.
    pub(crate) rows: Vec<Bytes>,
}

/// What became of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Merged {
    /// Its rows are in the outbox.
    Whole,
    /// Its rows are in the outbox; the window holds so many keys that it should be closed.
    WindowFull,
    /// It cannot be used: the table was changed as such, or its snapshot does not see all that was streamed.
    Unusable,
}

impl Translator {
    /// A low watermark has come: from here on the keys of a table's changes are kept.
    pub(crate) fn open_window(&mut self, topic: Arc<str>) {
        self.window = Some(Window::open(topic, self.streamed.count()));
    }

    /// Nobody reads beside the stream any more.
    pub(crate) fn close_window(&mut self) {
        self.window = None;
    }

    /// A high watermark has come: takes the rows over that the stream has not had since the low one.
    ///
    /// # Errors
    /// A value does not fit its column's form.
    pub(crate) fn merge(&mut self, read: &ReadRows) -> Result<Merged, Error> {
        let Some(window) = self.window.take() else {
            return Ok(Merged::Unusable);
        };
        let seen = |xid| read.snapshot.sees(xid);
        if window.is_spoiled() || !self.streamed.all_seen(window.streamed_before, seen) {
            return Ok(Merged::Unusable);
        }
        let lsn = self.watermark_lsn()?;
        let mut row = Row::default();
        for line in &read.rows {
            let cells = row.parse(line, &read.table.table)?;
            let key = read.table.key_bytes(&cells)?;
            if !key.as_ref().is_some_and(|key| window.has(key)) {
                self.append_read(&read.table, key.as_deref(), &cells, lsn)?;
            }
        }
        let full = window.is_full();
        self.window = Some(window);
        Ok(if full {
            Merged::WindowFull
        } else {
            Merged::Whole
        })
    }

    /// Appends a row that was read, with the next `seq`.
    pub(crate) fn append_read(
        &mut self,
        table: &TableTopic,
        key: Option<&[u8]>,
        cells: &[Cell<'_>],
        lsn: Lsn,
    ) -> Result<(), Error> {
        let change = self.read_change(Op::Read, Some(cells), lsn);
        let seq = self.position.next_seq(Lsn::ZERO);
        table.append(&mut self.outbox, key, Some(&change), seq, Vec::new())
    }

    /// Appends "rows below are gone" to every partition of a table's topic.
    pub(crate) fn append_gone_below(
        &mut self,
        table: &TableTopic,
        below: u64,
        lsn: Lsn,
    ) -> Result<(), Error> {
        let change = self.read_change(Op::Truncate, None, lsn);
        let position = &mut self.position;
        table.append_gone_below(&mut self.outbox, &change, below, || {
            position.next_seq(Lsn::ZERO)
        })
    }

    /// What a record that does not come from a change says.
    fn read_change<'a>(&self, op: Op, after: Option<&'a [Cell<'a>]>, lsn: Lsn) -> Change<'a> {
        Change {
            op,
            before: None,
            after,
            commit_time_us: self.now_ns / 1000,
            snapshot: Snapshot::Incremental,
            sequence: (self.previous_commit, lsn),
            tx_id: None,
            lsn: Some(lsn),
            transaction: None,
            handled_at_ns: self.now_ns,
        }
    }

    /// Where the transaction of a watermark is committed. Its records carry at least that as `seq`.
    fn watermark_lsn(&mut self) -> Result<Lsn, Error> {
        let Some(open) = &self.open else {
            return Err(contradiction("a watermark outside a transaction"));
        };
        let lsn = open.begin.final_lsn;
        self.position.reach_seq(lsn);
        Ok(lsn)
    }
}
