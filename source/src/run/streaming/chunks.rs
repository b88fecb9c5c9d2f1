//! The snapshots that run beside the stream: one table at a time, its chunks merged at their watermarks.

use std::sync::Arc;

use tributary_runtime::Error;

use super::gate::Stage;
use super::keyless::{Keyless, Preparing};
use super::postponed::Postponed;
use crate::change::watermark::Watermark;
use crate::snapshot::beside::{Piece, Progressed, Reader};

/// What is being read.
#[derive(Default)]
pub(super) struct Chunks {
    /// There is no table to read.
    pub(super) idle: bool,
    pub(super) reader: Option<Reader>,
    /// The low watermark that is awaited, and the topic whose window it opens.
    pub(super) low: Option<(Watermark, Arc<str>)>,
    /// Rows that wait for their high watermark.
    pub(super) piece: Option<Box<Piece>>,
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

    /// How far the preparation of a table without a key is, if one is to be read.
    pub(super) fn stage(&self) -> Option<Stage> {
        self.keyless.as_ref().map(Keyless::stage)
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
    pub(super) fn stop(&mut self) {
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
    pub(super) fn topic(&self) -> Option<&Arc<str>> {
        let reader = self.reader.as_ref().map(|reader| &reader.topic);
        reader.or(self.keyless.as_ref().map(|keyless| &keyless.topic))
    }

    pub(super) const fn is_reading(&self) -> bool {
        self.reader.is_some() || self.keyless.is_some()
    }
}
