//! What the stream does about signals, and how it ends.

use super::Streaming;
use crate::config::SnapshotMode;
use crate::run::signals::obey;
use std::sync::Arc;
use tributary_postgres::slot::drop_free;
use tributary_runtime::Error;

impl Streaming {
    /// Applies the signal that waits. What it changes is committed with the next transaction, together with the
    /// offset behind it.
    pub(super) fn obey(&mut self) {
        let Some(received) = self.commands.waiting.take() else {
            return;
        };
        let position = self.translator.position();
        let progress = self.progress.get_mut();
        progress.position = position;
        let Some(applied) = obey(&received, &self.session.config.name, progress) else {
            return;
        };
        for topic in &applied.abandoned {
            self.abandon(topic);
        }
        self.chunks.wake();
        self.session.monitor.observe(self.progress.get());
    }

    /// The orderly end: what came in is committed and confirmed. A slot that nobody needs any more goes.
    pub(super) async fn end(self) -> Result<(), Error> {
        let done = self.is_done();
        let (config, database) = (
            Arc::clone(&self.session.config),
            self.session.database.clone(),
        );
        self.close().await?;
        if done {
            let (slot, client) = (config.slot_name(), database.connect().await?);
            drop_free(&client, &database, &slot).await?;
            tracing::info!(
                slot,
                "all rows are in the log; the slot is dropped, since snapshot.mode is \"only\""
            );
        }
        Ok(())
    }

    /// Whether there is nothing left to do: `snapshot.mode` is "only", and all rows are in the log.
    pub(super) fn is_done(&self) -> bool {
        let progress = self.progress.get();
        self.session.config.snapshot.mode == SnapshotMode::Only
            && progress.is_read()
            && self.in_flight.is_none()
            && !self.progress.has_changed()
    }
}
