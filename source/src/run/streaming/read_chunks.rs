//! What the stream makes of the chunks that are read beside it.

use super::Streaming;
use super::chunks::News;
use super::keyless::Keyless;
use crate::change::translate::Merged;
use crate::change::watermark::Watermark;
use crate::log::progress::TableProgress;
use crate::log::progress::TableSnapshot;
use crate::log::table_topic::TableTopic;
use crate::snapshot::beside::{Piece, Progressed, Reader, Task, Verdict};
use crate::telemetry;
use std::sync::Arc;
use tributary_runtime::Error;
use tributary_schemas::Lsn;

/// Why a table's rows cannot be read.
const GONE: &str = "it is gone, dropped or renamed";

impl Streaming {
    /// Begins to read the next table that is not read, if none is being read.
    pub(super) fn drive_snapshots(&mut self) {
        let chunks = &mut self.chunks;
        if chunks.is_reading() || (chunks.idle && !chunks.postponed.is_due()) {
            return;
        }
        let progress = self.progress.get();
        let is_unread = |table: &TableProgress| table.snapshot.is_some();
        chunks
            .postponed
            .keep(|topic| progress.tables.get(topic).is_some_and(is_unread));
        let unread = |(topic, table)| -> Option<(&String, &TableProgress, &TableSnapshot)> {
            let table: &TableProgress = table;
            Some((topic, table, table.snapshot.as_ref()?))
        };
        let waiting = progress.tables.iter().filter_map(unread);
        let count = u32::try_from(waiting.clone().count()).unwrap_or(u32::MAX);
        metrics::gauge!(telemetry::SNAPSHOT_TABLES).set(f64::from(count));
        let may_begin = |topic: &str| !progress.snapshots_paused && chunks.postponed.allows(topic);
        let next = waiting.clone().find(|(topic, ..)| may_begin(topic));
        let Some((topic, known, snapshot)) = next else {
            chunks.idle = true;
            return;
        };
        let (pages, left) = snapshot.pages();
        tracing::info!(
            table = known.table,
            pages,
            left,
            "reading the table's rows beside the stream"
        );
        let task = Task {
            topic: topic.as_str().into(),
            known: known.clone(),
            snapshot: snapshot.clone(),
        };
        let session = &self.session;
        if known.is_keyless() {
            self.gate.begin();
            // A part of a bag cannot be told from the rest: all of it or nothing.
            self.chunks.keyless = Some(Keyless::start(session, task));
            return;
        }
        self.chunks.reader = Some(Reader::start(
            &session.database,
            &session.registrar,
            &session.config.name,
            session.config.snapshot.chunk_pages,
            &session.throttle,
            task,
        ));
    }

    pub(super) fn progressed(&mut self, news: News) -> Result<(), Error> {
        match news {
            News::Progressed(Progressed::Window { low, topic, ready }) => {
                self.chunks.low = Some((low, topic));
                // A reader that is gone has told why, or will.
                let _ = ready.send(());
            }
            News::Progressed(Progressed::Piece(piece)) => self.chunks.piece = Some(piece),
            News::Progressed(Progressed::Gone) => self.gone(),
            News::Progressed(Progressed::Refused(reason)) => self.give_up(&reason),
            News::Done => self.stop_reading(),
            News::Keyless(preparing) => self.keyless_prepared(preparing)?,
        }
        Ok(())
    }

    pub(super) fn stop_reading(&mut self) {
        self.chunks.stop();
        self.translator.close_window();
    }

    /// There is no such table any more. The stream may have changes of it yet, and it may come back: the watch tells when
    /// the stream has passed that.
    pub(super) fn gone(&mut self) {
        let topic = self.chunks.topic();
        let known = topic.and_then(|topic| self.progress.get().tables.get(&**topic));
        if known.is_some_and(|known| known.followed.absent) {
            self.give_up(GONE);
        } else {
            self.postpone(&GONE);
        }
    }

    /// Leaves the table for later; the stream and the other tables go on.
    pub(super) fn postpone(&mut self, reason: &dyn std::fmt::Display) {
        let Some(topic) = self.chunks.topic().cloned() else {
            return;
        };
        let pause = self.chunks.postponed.failed(&topic);
        let known = self.progress.get().tables.get(&*topic);
        tracing::warn!(
            table = known.map(|known| &*known.table),
            %reason,
            pause_seconds = pause.as_secs(),
            "the table cannot be read yet; it is tried again"
        );
        self.stop_reading();
    }

    /// Its rows cannot be read; what the stream has of it is in the log.
    pub(super) fn give_up(&mut self, reason: &str) {
        let Some(topic) = self.chunks.topic().cloned() else {
            return;
        };
        if let Some(table) = self.progress.get_mut().tables.get_mut(&topic) {
            tracing::warn!(
                table = table.table,
                reason,
                "the table's snapshot ends before all its rows are in the log"
            );
            table.snapshot = None;
        }
        self.stop_reading();
    }

    /// A watermark has come through the stream.
    pub(super) fn watermark(&mut self, mark: &Watermark) -> Result<(), Error> {
        if let Some((low, topic)) = &self.chunks.low
            && low == mark
        {
            self.translator.open_window(Arc::clone(topic));
            self.chunks.low = None;
        }
        // A piece is told before its watermark is written, and may still not have been listened to.
        if self.chunks.piece.is_none()
            && let Some(told) = self.chunks.reader.as_mut().and_then(Reader::told)
        {
            self.progressed(News::Progressed(told))?;
        }
        let piece = self.chunks.piece.take_if(|piece| piece.high == *mark);
        match piece {
            Some(piece) => self.merge(*piece),
            // Of another source, or of an earlier session of ours.
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
        let complete = state.is_complete();
        if complete {
            if let Some(below) = state.below {
                let lsn = self.read_lsn();
                self.translator.append_gone_below(table, below, lsn)?;
            }
            tracing::info!(
                table = table.display_name(),
                rows = state.rows,
                "the table's rows are in the log"
            );
        }
        if let Some(known) = self.progress.get_mut().tables.get_mut(&table.topic) {
            known.snapshot = (!complete).then_some(state);
        }
        Ok(())
    }

    /// Where rows that are read between two transactions stand.
    pub(super) fn read_lsn(&self) -> Lsn {
        self.translator.position().confirm()
    }
}
