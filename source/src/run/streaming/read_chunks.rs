//! What the stream makes of the chunks that are read beside it.

use super::Streaming;
use super::chunks::{Ended, Reached};
use super::table_reader::{News, TableReader};
use crate::change::translate::Merged;
use crate::change::watermark::Watermark;
use crate::log::progress::{SnapshotRequest, TableSnapshot};
use crate::log::table_topic::TableTopic;
use crate::snapshot::beside::{Piece, Progressed, Verdict};
use crate::telemetry;
use std::time::Instant;
use tributary_runtime::Error;
use tributary_schemas::Lsn;

impl Streaming {
    /// Begins to read the next table that is not read, if none is being read.
    pub(super) fn drive_snapshots(&mut self) {
        let now = Instant::now();
        if !self.chunks.is_to_look(now) {
            return;
        }
        let progress = self.progress.get();
        let unread = progress
            .tables
            .values()
            .filter(|one| one.snapshot.is_some());
        let unread = u32::try_from(unread.count()).unwrap_or(u32::MAX);
        metrics::gauge!(telemetry::SNAPSHOT_TABLES).set(f64::from(unread));
        let Some(task) = self.chunks.begin(progress, now) else {
            return;
        };
        let (pages, left) = task.snapshot.pages();
        tracing::info!(
            table = task.known.table,
            pages,
            left,
            "reading the table's rows beside the stream"
        );
        self.gate.begin();
        self.reader = TableReader::start(&self.session, task);
    }

    /// Asks for rows of a topic's table, beside the stream; a snapshot of it that is under way begins again.
    pub(super) fn request_snapshot(&mut self, topic: &str, request: SnapshotRequest) {
        self.abandon(topic);
        let progress = self.progress.get_mut();
        progress.position = self.translator.position();
        progress.request_snapshot(topic, request);
    }

    pub(super) fn progressed(&mut self, news: News) -> Result<(), Error> {
        let ended = match news {
            News::Progressed(Progressed::Window { low, ready }) => {
                self.chunks.window(low);
                // A reader that is gone has told why, or will.
                let _ = ready.send(());
                None
            }
            News::Progressed(Progressed::Piece(piece)) => {
                self.chunks.piece(piece);
                None
            }
            News::Progressed(Progressed::Gone) => self.gone(),
            News::Progressed(Progressed::Refused(reason)) => self.chunks.give_up(&reason),
            News::Done => self.chunks.done(),
            News::Keyless(preparing) => self.keyless_prepared(preparing)?,
        };
        self.end_reading(ended);
        Ok(())
    }

    pub(super) fn gone(&mut self) -> Option<Ended> {
        let known = &self.progress.get().tables;
        self.chunks.gone(known, Instant::now())
    }

    /// Leaves the table that is being read for later.
    pub(super) fn postpone(&mut self, reason: &str) {
        let ended = self.chunks.postpone(reason, Instant::now());
        self.end_reading(ended);
    }

    /// Ends the reading of a topic's table, if it is being read: it is read anew, or not any more.
    pub(super) fn abandon(&mut self, topic: &str) {
        let ended = self.chunks.abandon(topic);
        self.end_reading(ended);
    }

    /// Lets the reader go, if the reading has ended.
    pub(super) fn end_reading(&mut self, ended: Option<Ended>) {
        let Some(ended) = ended else { return };
        match ended {
            Ended::Done => {}
            Ended::Postponed(topic, pause, reason) => tracing::warn!(
                table = self.name_of(&topic),
                %reason,
                pause_seconds = pause.as_secs(),
                "the table cannot be read yet; it is tried again"
            ),
            Ended::GivenUp(topic, reason) => {
                if let Some(table) = self.progress.get_mut().tables.get_mut(&topic) {
                    tracing::warn!(
                        table = table.table,
                        reason,
                        "the table's snapshot ends before all its rows are in the log"
                    );
                    table.snapshot = None;
                }
            }
        }
        self.reader = TableReader::None;
        self.translator.close_window();
    }

    /// A watermark has come through the stream.
    pub(super) fn watermark(&mut self, mark: &Watermark) -> Result<(), Error> {
        // A piece is told before its watermark is written, and may still not have been listened to.
        if self.chunks.listens()
            && let Some(told) = self.reader.told()
        {
            self.progressed(told)?;
        }
        match self.chunks.watermark(mark) {
            Some(Reached::OpenWindow(topic)) => {
                self.translator.open_window(topic);
                Ok(())
            }
            Some(Reached::Merge(piece)) => self.merge(*piece),
            None => Ok(()),
        }
    }

    fn merge(&mut self, piece: Piece) -> Result<(), Error> {
        let verdict = match self.translator.merge(&piece.read)? {
            Merged::Unusable => Verdict::Again,
            Merged::WindowFull => Verdict::TakenRenew,
            Merged::Whole => Verdict::Taken,
        };
        if verdict != Verdict::Again {
            let rows = piece.read.rows.len() as u64;
            self.rows_are_read(&piece.read.table, piece.state, rows)?;
        }
        let _ = piece.verdict.send(verdict);
        Ok(())
    }

    /// Remembers how far a table is; when all its rows are read, those that were there before and are not any
    /// more are gone.
    pub(super) fn rows_are_read(
        &mut self,
        table: &TableTopic,
        state: TableSnapshot,
        rows: u64,
    ) -> Result<(), Error> {
        let (topic, name) = (&table.topic, table.display_name());
        self.session.monitor.rows_read(topic, &name, rows);
        let Some(known) = self.progress.get_mut().tables.get_mut(topic) else {
            return Ok(());
        };
        known.snapshot = Some(state);
        let Some(read) = known.take_complete() else {
            return Ok(());
        };
        if let Some(below) = read.below {
            let lsn = self.read_lsn();
            self.translator.append_gone_below(table, below, lsn)?;
        }
        tracing::info!(
            table = name,
            rows = read.rows,
            "the table's rows are in the log"
        );
        Ok(())
    }

    /// Where rows that are read between two transactions stand.
    pub(super) fn read_lsn(&self) -> Lsn {
        self.translator.position().confirm()
    }
}
