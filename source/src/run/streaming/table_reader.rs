//! What reads the rows of a table beside the stream.

use tributary_runtime::Error;

use super::gate::Stage;
use super::keyless::{Keyless, Preparing};
use crate::run::session::Session;
use crate::snapshot::beside::{Progressed, Reader, Task};

/// Reads one table; dropping it ends that.
#[derive(Default)]
pub(super) enum TableReader {
    /// No table is being read.
    #[default]
    None,
    /// In chunks.
    Keyed(Reader),
    /// A part of a bag cannot be told from the rest: all of it or nothing.
    Keyless(Box<Keyless>),
}

/// What a reader told.
pub(super) enum News {
    Progressed(Progressed),
    /// The table is read.
    Done,
    /// The preparation of a table without a key has got further.
    Keyless(Preparing),
}

impl TableReader {
    pub(super) fn start(session: &Session, task: Task) -> Self {
        if task.known.is_keyless() {
            return Self::Keyless(Box::new(Keyless::start(session, task)));
        }
        Self::Keyed(Reader::start(
            &session.database,
            &session.registrar,
            &session.config.name,
            session.config.snapshot.chunk_pages,
            &session.throttle,
            task,
        ))
    }

    /// What the reader has to tell; never ready while there is nothing. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<News, Error> {
        match self {
            Self::None => std::future::pending().await,
            Self::Keyed(reader) => {
                let event = reader.next().await?;
                Ok(event.map_or(News::Done, News::Progressed))
            }
            Self::Keyless(keyless) => Ok(News::Keyless(keyless.next().await)),
        }
    }

    /// What was told already.
    pub(super) fn told(&mut self) -> Option<News> {
        match self {
            Self::Keyed(reader) => reader.told().map(News::Progressed),
            Self::None | Self::Keyless(_) => None,
        }
    }

    /// How far the preparation of a table without a key is, if one is to be read.
    pub(super) fn stage(&self) -> Option<Stage> {
        self.keyless().map(Keyless::stage)
    }

    pub(super) fn keyless(&self) -> Option<&Keyless> {
        match self {
            Self::Keyless(keyless) => Some(keyless),
            Self::None | Self::Keyed(_) => None,
        }
    }
}
