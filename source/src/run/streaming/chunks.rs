//! The snapshots that run beside the stream, one table at a time: which one is read next, which window opens, which rows
//! enter the log, and how the reading ends. Nothing is read here: what the reader, the stream and the tables tell comes in,
//! and what is to be done is given back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::postponed::Postponed;
use crate::change::watermark::Watermark;
use crate::log::progress::{Progress, TableProgress, Tables};
use crate::snapshot::beside::{Piece, Task};

/// Why a table's rows cannot be read.
const GONE: &str = "it is gone, dropped or renamed";

/// What is being read.
#[derive(Default)]
pub(super) struct Chunks {
    /// There is no table to read.
    idle: bool,
    /// The topic whose table is being read.
    topic: Option<Arc<str>>,
    /// The low watermark that is awaited.
    low: Option<Watermark>,
    /// Rows that wait for their high watermark.
    piece: Option<Box<Piece>>,
    postponed: Postponed,
}

/// What is to be done at a watermark.
pub(super) enum Reached {
    /// From here on the keys that the stream changes are kept.
    OpenWindow(Arc<str>),
    /// Rows enter the log, but for those that the stream has had meanwhile.
    Merge(Box<Piece>),
}

/// The reading of a table has ended: its reader and its window are not needed any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It is read, or not to be read any more.
    Done,
    /// For this reason it cannot be read yet. It is tried again behind this pause; the stream and the other tables go on.
    Postponed(Arc<str>, Duration, String),
    /// For this reason its rows cannot be read; what the stream has of it is in the log.
    GivenUp(Arc<str>, String),
}

impl Chunks {
    /// Whether the next table is to be looked for.
    pub(super) fn is_to_look(&self, now: Instant) -> bool {
        self.topic.is_none() && (!self.idle || self.postponed.is_due(now))
    }

    /// Begins with the next table that is not read and may be tried, if there is one. Tables without a key come last: they
    /// may have to wait for the stream, and the others not for them.
    pub(super) fn begin(&mut self, progress: &Progress, now: Instant) -> Option<Task> {
        let is_unread = |table: &TableProgress| table.snapshot.is_some();
        self.postponed
            .keep(|topic| progress.tables.get(topic).is_some_and(is_unread));
        let may_begin = progress.tables.iter().filter_map(|(topic, table)| {
            let snapshot = table.snapshot.as_ref()?;
            let may_begin = !progress.snapshots_paused && self.postponed.allows(topic, now);
            may_begin.then_some((topic, table, snapshot))
        });
        // The first of those that are equal.
        let next = may_begin.min_by_key(|(_, table, _)| table.is_keyless());
        let next = next.map(|(topic, table, snapshot)| Task {
            topic: topic.as_str().into(),
            known: table.clone(),
            snapshot: snapshot.clone(),
        });
        self.idle = next.is_none();
        self.topic = next.as_ref().map(|task| Arc::clone(&task.topic));
        next
    }

    /// Whether the reader may have told of rows: not while some wait for their watermark. Then it can tell only its end.
    pub(super) const fn listens(&self) -> bool {
        self.piece.is_none()
    }

    /// A low watermark is about to be written.
    pub(super) fn window(&mut self, low: Watermark) {
        self.low = Some(low);
    }

    /// A high watermark is about to be written.
    pub(super) fn piece(&mut self, piece: Box<Piece>) {
        self.piece = Some(piece);
    }

    /// A watermark has come through the stream: of ours, of another source, or of an earlier session.
    pub(super) fn watermark(&mut self, mark: &Watermark) -> Option<Reached> {
        if self.low.take_if(|low| low == mark).is_some() {
            return self.topic.clone().map(Reached::OpenWindow);
        }
        let piece = self.piece.take_if(|piece| piece.high == *mark);
        piece.map(Reached::Merge)
    }

    /// The reader has found no such table any more. The stream may have changes of it yet, and it may come back: the
    /// catalog's watch tells when the stream has passed that.
    pub(super) fn gone(&mut self, known: &Tables, now: Instant) -> Option<Ended> {
        let known = self.topic.as_deref().and_then(|topic| known.get(topic));
        if known.is_some_and(|known| known.followed.absent) {
            self.give_up(GONE)
        } else {
            self.postpone(GONE, now)
        }
    }

    /// Leaves the table for later.
    pub(super) fn postpone(&mut self, reason: &str, now: Instant) -> Option<Ended> {
        let topic = self.stop()?;
        let pause = self.postponed.failed(&topic, now);
        Some(Ended::Postponed(topic, pause, reason.to_owned()))
    }

    /// Leaves the table for later, and with it all others without a key: the stream is too far behind for any of them.
    pub(super) fn behind(&mut self, known: &Tables, reason: &str, now: Instant) -> Option<Ended> {
        let ended = self.postpone(reason, now)?;
        let keyless = known
            .iter()
            .filter(|(_, table)| table.snapshot.is_some() && table.is_keyless());
        for (topic, _) in keyless {
            if self.postponed.allows(topic, now) {
                self.postponed.failed(topic, now);
            }
        }
        Some(ended)
    }

    /// Its rows cannot be read.
    pub(super) fn give_up(&mut self, reason: &str) -> Option<Ended> {
        let topic = self.stop()?;
        Some(Ended::GivenUp(topic, reason.to_owned()))
    }

    /// The table is read.
    pub(super) fn done(&mut self) -> Option<Ended> {
        self.stop().map(|_| Ended::Done)
    }

    /// A table is to be read anew, or not any more.
    pub(super) fn abandon(&mut self, topic: &str) -> Option<Ended> {
        self.wake();
        self.postponed.forget(topic);
        if self.topic.as_deref() == Some(topic) {
            self.done()
        } else {
            None
        }
    }

    /// Looks for tables to read again.
    pub(super) const fn wake(&mut self) {
        self.idle = false;
    }

    /// Ends the reading, and looks for tables to read again. Returns the topic of the one that was being read.
    fn stop(&mut self) -> Option<Arc<str>> {
        self.wake();
        self.low = None;
        self.piece = None;
        self.topic.take()
    }
}

#[cfg(test)]
mod tests;
