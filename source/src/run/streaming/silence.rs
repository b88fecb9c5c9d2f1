//! A server that says nothing: at work, or gone?
//!
//! A server process that decodes a large transaction of which nothing is published, or whose row filter takes its time,
//! neither speaks nor listens until it is through, which may take minutes. Given up, it would begin again with the same
//! transaction. So its silence alone means nothing: that its host is there is for TCP to tell, and that the process is,
//! for another connection.

use std::time::{Duration, Instant};

use tributary_runtime::Error;

use crate::run::session::Session;
use tributary_postgres::slot::Slot;

/// After so long it is looked whether the process is there; from a third of that on it is asked to answer.
const MAX_SILENCE: Duration = Duration::from_secs(20);
/// How long another connection may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the log says that the server is silent.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// What is known of the server's silence.
#[derive(Debug)]
pub(super) struct Silence {
    /// The server process of our stream; none where nobody could tell.
    walsender: Option<i32>,
    told: Option<Instant>,
}

impl Silence {
    /// `slot` was read while we held it.
    pub(super) fn of(slot: Option<&Slot>) -> Self {
        Self {
            walsender: slot.and_then(|slot| slot.active_pid),
            told: None,
        }
    }

    /// Whether the server is to be asked for an answer.
    pub(super) fn asks_for_an_answer(silence: Duration) -> bool {
        silence > MAX_SILENCE / 3
    }

    /// Makes sure of a server that has been silent for so long.
    ///
    /// # Errors
    /// The process of our stream is gone, or the server does not answer on another connection either.
    pub(super) async fn endure(
        &mut self,
        silence: Duration,
        session: &Session,
    ) -> Result<(), Error> {
        if silence <= MAX_SILENCE {
            self.told = None;
            return Ok(());
        }
        let (client, database) = (&session.client, &session.database);
        let name = session.config.slot_name();
        let slot = tokio::time::timeout(ANSWER_TIMEOUT, Slot::read(client, database, &name));
        let silent_seconds = silence.as_secs();
        let Ok(slot) = slot.await else {
            return Err(Error::retry_msg(format!(
                "Postgres has been silent for {silent_seconds} s, and does not answer on another connection either"
            )));
        };
        let holder = slot?.and_then(|slot| slot.active_pid);
        if holder.is_none() || holder != self.walsender {
            return Err(Error::retry_msg(format!(
                "the stream has been silent for {silent_seconds} s: its server process is gone"
            )));
        }
        let is_due = |told: Instant| told.elapsed() >= LOG_INTERVAL;
        if self.told.is_none_or(is_due) {
            self.told = Some(Instant::now());
            tracing::info!(
                silent_seconds,
                process = holder,
                "the server decodes, and has nothing to send"
            );
        }
        Ok(())
    }
}
