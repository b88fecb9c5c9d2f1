//! What the stream does about signals, and how it ends.

use super::Streaming;
use super::chunks::Chunks;
use super::table_reader::TableReader;
use crate::config::SnapshotMode;
use crate::run::selection::OtherSelection;
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
    ///
    /// # Errors
    /// [`OtherSelection`], where only the rest of a transaction was to come in.
    pub(super) async fn end(mut self) -> Result<(), Error> {
        if self.rest_is_in() {
            // It is in the log that the transaction is, too, if its last change was there before.
            self.progress.get_mut().selection = None;
            self.close().await?;
            return Err(Error::retry(OtherSelection(None)));
        }
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

    /// Commits what came in, confirms it, and gives the slot back.
    async fn close(mut self) -> Result<(), Error> {
        self.chunks = Chunks::default();
        self.reader = TableReader::None;
        loop {
            if self.in_flight.is_some() {
                let committed = self.publisher.committed().await?;
                self.committed(committed);
            }
            if self.translator.is_empty() && !self.progress.has_changed() {
                break;
            }
            self.hand_over().await?;
        }
        self.report().await?;
        tracing::info!(confirmed = %self.durable.confirm(), "flushed, confirmed and stopped");
        self.stream
            .close()
            .await
            .map_err(|e| self.session.database.explain_replication(e))
    }

    /// Whether all is in of which nothing but the rest was to come in.
    pub(super) fn rest_is_in(&self) -> bool {
        let is_amid = self.translator.position().is_amid_transaction();
        self.gate.is_for_a_rest() && !is_amid && self.translator.is_between_transactions()
    }

    /// Whether there is nothing left to do: `snapshot.mode` is "only", and all rows are in the log.
    pub(super) fn is_done(&self) -> bool {
        let progress = self.progress.get();
        !self.gate.is_for_a_rest()
            && self.session.config.snapshot.mode == SnapshotMode::Only
            && progress.is_read()
            && self.in_flight.is_none()
            && !self.progress.has_changed()
    }
}
