//! How large the batches of a topic may be now.

use rdkafka::error::RDKafkaErrorCode;
use tokio::runtime::Handle;
use tributary_runtime::Error;

use super::transaction::Transaction;
use crate::config::SourceConfig;
use crate::log::topics::Topics;

/// Finds out what a refused batch means.
pub(super) struct Limits {
    config: SourceConfig,
    runtime: Handle,
}

impl Limits {
    /// Within the runtime; all else is called on the producer's thread.
    pub(super) fn new(config: &SourceConfig) -> Self {
        Self {
            config: config.clone(),
            runtime: Handle::current(),
        }
    }

    /// A batch that is too large says nothing of its records, if the topic's limit is another one than when the batches
    /// were made: the next session knows the new one, makes batches that fit it, and names a record that does not.
    pub(super) fn changed(
        &self,
        topic: &str,
        code: RDKafkaErrorCode,
        transaction: &Transaction,
    ) -> Option<Error> {
        if code != RDKafkaErrorCode::MessageSizeTooLarge {
            return None;
        }
        let mut records = transaction.outbox.records.iter();
        let known = records
            .find(|record| &*record.topic == topic)?
            .max_batch_bytes;
        let now = match Topics::new(&self.config) {
            Ok(topics) => self.runtime.block_on(topics.max_record_bytes(topic)),
            Err(error) => Err(error),
        };
        match now {
            Ok(now) if now == known => None,
            Ok(now) => Some(Error::retry_msg(format!(
                "topic '{topic}' takes batches of {now} bytes now, it was {known} (max.message.bytes)"
            ))),
            Err(error) => Some(error),
        }
    }
}
