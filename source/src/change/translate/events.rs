//! What is published beside the rows: where transactions begin and end, and logical messages.

use std::sync::Arc;

use tributary_runtime::Error;
use tributary_schemas::Lsn;
use tributary_schemas::encode::TransactionId;
use tributary_schemas::record::Op;

use super::rows::contradiction;
use super::translator::{OpenTransaction, Translator};
use crate::change::origin::Origin;
use crate::change::watermark::WATERMARK_PREFIX;
use crate::log::metadata::{MessageTopic, MetadataTopics};
use tributary_postgres::pgoutput::LogicalMessage;

impl Translator {
    /// Publishes transaction metadata and logical messages too, as far as they have topics.
    pub(crate) fn with_metadata(self, metadata: Arc<MetadataTopics>) -> Self {
        Self { metadata, ..self }
    }

    /// Counts an event of a table, behind the transaction's BEGIN. Called before its `seq` is given.
    pub(super) fn event(&mut self, table: impl FnOnce() -> String, origin: Origin) -> Origin {
        let Some(topic) = &self.metadata.transactions else {
            return origin;
        };
        let id = TransactionId {
            xid: origin.xid,
            commit_lsn: origin.commit_lsn,
        };
        if self.tally.is_empty() {
            let (seq, time_us) = (
                self.position.next_seq(origin.commit_lsn),
                origin.commit_time_us,
            );
            topic.append_begin(&mut self.outbox, seq, id, time_us);
        }
        Origin {
            place: Some(self.tally.count(&table(), id)),
            ..origin
        }
    }

    /// Appends the transaction's END, if it had any event.
    pub(super) fn end(&mut self, open: &OpenTransaction) {
        let Some(topic) = &self.metadata.transactions else {
            return;
        };
        if self.tally.is_empty() {
            return;
        }
        let id = TransactionId {
            xid: open.begin.xid,
            commit_lsn: open.begin.final_lsn,
        };
        let seq = self.position.next_seq(id.commit_lsn);
        topic.append_end(
            &mut self.outbox,
            seq,
            id,
            open.begin.commit_time_us,
            self.tally.tables(),
        );
    }

    /// Counts the events of a change that the log has already: it is applied once more, and what that brought
    /// is thrown away.
    pub(super) fn recount(
        &mut self,
        origin: Origin,
        apply: impl FnOnce(&mut Self, Origin) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.metadata.transactions.is_none() {
            return Ok(());
        }
        let position = self.position;
        let (bytes, records) = (self.outbox.bytes.len(), self.outbox.records.len());
        let waiting = self.waiting.len();
        apply(self, origin)?;
        self.position = position;
        self.outbox.bytes.truncate(bytes);
        self.outbox.records.truncate(records);
        self.waiting.truncate(waiting);
        Ok(())
    }

    /// A message of a transaction is one of its changes, published or not. Any other one is a transaction of its
    /// own: it stands in the WAL before or behind every commit, and the server sends it in that order.
    pub(super) fn logical(&mut self, message: &LogicalMessage<'_>, lsn: Lsn) -> Result<(), Error> {
        let wanted = self.metadata.messages.is_some() && message.prefix != WATERMARK_PREFIX;
        if message.transactional {
            if !wanted {
                return self.count().map(drop);
            }
            return self.change(lsn, |this, origin| {
                this.publish_message(message, origin);
                Ok(())
            });
        }
        if self.open.is_some() {
            return Err(contradiction("a message of its own inside a transaction"));
        }
        let place = message.place();
        if !wanted || self.position.published_of(place).is_none() {
            return Ok(());
        }
        let origin = Origin {
            commit_lsn: message.lsn,
            // It has no commit: the time at which it was handled.
            commit_time_us: self.now_ns / 1000,
            previous_commit: self.previous_commit,
            lsn: message.lsn,
            xid: 0,
            handled_at_ns: self.now_ns,
            place: None,
        };
        self.publish_message(message, origin);
        self.position.advance(place, 1)?;
        self.position.commit(place, 1, Lsn::ZERO);
        Ok(())
    }

    fn publish_message(&mut self, message: &LogicalMessage<'_>, origin: Origin) {
        let origin = if message.transactional {
            self.event(|| MessageTopic::DATA_COLLECTION.to_owned(), origin)
        } else {
            origin
        };
        let mut change = origin.change(Op::Message, None, None);
        if !message.transactional {
            change.tx_id = None;
        }
        let seq = self.position.next_seq(origin.commit_lsn);
        if let Some(topic) = &self.metadata.messages {
            topic.append(
                &mut self.outbox,
                seq,
                &change,
                message.prefix,
                message.content,
            );
        }
    }
}
