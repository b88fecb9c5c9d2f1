//! The snapshots that run beside the stream: one table at a time, its chunks merged at their watermarks.

use std::sync::Arc;

use tributary_runtime::Error;
use tributary_schemas::Lsn;

use super::Streaming;
use super::keyless::{Keyless, Preparing};
use super::postponed::Postponed;
use crate::change::translate::Merged;
use crate::change::watermark::Watermark;
use crate::log::progress::TableProgress;
use crate::log::progress::TableSnapshot;
use crate::log::table_topic::TableTopic;
use crate::snapshot::beside::{Piece, Progressed, Reader, Task, Verdict};
use crate::telemetry;
use tributary_postgres::pgoutput::Begin;

/// Why a table's rows cannot be read.
const GONE: &str = "it is gone, dropped or renamed";

/// What is being read.
#[derive(Default)]
pub(super) struct Chunks {
    /// There is no table to read.
    idle: bool,
    reader: Option<Reader>,
    /// The low watermark that is awaited, and the topic whose window it opens.
    low: Option<(Watermark, Arc<str>)>,
    /// Rows that wait for their high watermark.
    piece: Option<Box<Piece>>,
    pub(super) keyless: Option<Keyless>,
    pub(super) postponed: Postponed,
}

/// What a reader told.
pub(super) enum News {
    Progressed(Progressed),
    /// The table is read.
    Done,
    /// The preparation of a table without a key has got further.
    Keyless(Preparing),
}

impl Chunks {
    /// What the readers have to tell; never ready while there is nothing. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<News, Error> {
        match (&mut self.reader, &mut self.keyless) {
            (Some(reader), _) if self.piece.is_none() => {
                let event = reader.next().await?;
                Ok(event.map_or(News::Done, News::Progressed))
            }
            (None, Some(keyless)) => Ok(News::Keyless(keyless.next().await)),
            _ => std::future::pending().await,
        }
    }

    /// Whether the rows of a table without a key come before this transaction, or may have to.
    pub(super) fn keyless_before(&self, begin: &Begin) -> bool {
        self.keyless
            .as_ref()
            .and_then(Keyless::stands_at)
            .is_some_and(|point| begin.final_lsn >= point)
    }

    /// Looks for tables to read again. Ends the reading of this topic's, if it is the one that is being read.
    pub(super) fn abandon(&mut self, topic: &str) {
        self.idle = false;
        self.postponed.forget(topic);
        if self.topic().is_some_and(|reading| **reading == *topic) {
            self.stop();
        }
    }

    /// Ends the reading, and looks for tables to read again.
    fn stop(&mut self) {
        let postponed = std::mem::take(&mut self.postponed);
        *self = Self {
            postponed,
            ..Self::default()
        };
    }

    /// Looks for tables to read again.
    pub(super) const fn wake(&mut self) {
        self.idle = false;
    }

    /// The topic whose table is being read.
    fn topic(&self) -> Option<&Arc<str>> {
        let reader = self.reader.as_ref().map(|reader| &reader.topic);
        reader.or(self.keyless.as_ref().map(|keyless| &keyless.topic))
    }

    pub(super) const fn is_reading(&self) -> bool {
        self.reader.is_some() || self.keyless.is_some()
    }
}

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
        if known.key_schema_id.is_none() {
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
        if let Some(table) = self.progress.get_mut().tables.get_mut(&*topic) {
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
        let verdict = match self.translator.merge(&piece)? {
            Merged::Unusable => Verdict::Again,
            Merged::WindowFull => Verdict::TakenRenew,
            Merged::Whole => Verdict::Taken,
        };
        if verdict != Verdict::Again {
            let rows = piece.rows.len() as u64;
            self.rows_are_read(&piece.table, piece.state, rows)?;
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
        if let Some(known) = self.progress.get_mut().tables.get_mut(&*table.topic) {
            known.snapshot = (!complete).then_some(state);
        }
        Ok(())
    }

    /// Where rows that are read between two transactions stand.
    pub(super) fn read_lsn(&self) -> Lsn {
        self.translator.position().confirm
    }
}
