//! One assignment of a partition to this instance.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::retry::Backoff;
use crate::sink::batch::Source;
use crate::sink::inbox::{Budget, Inbox};
use crate::sink::metrics::RETRIES;
use crate::sink::position::Position;
use crate::sink::status::Status;
use crate::sink::topics::table_of;
use crate::sink::{BatchConfig, TopicPartition};
use crate::{Error, Policy, Result};

/// What the poll thread and the task of one assignment share.
#[derive(Debug)]
pub(super) struct Assignment {
    pub(super) source: Arc<Source>,
    pub(super) inbox: Inbox,
    pub(super) position: Position,
    /// Cancelled when the partition is to be let go: the write under way is finished, no other begins.
    pub(super) drain: CancellationToken,
}

impl Assignment {
    pub(super) fn new(
        partition: TopicPartition,
        config: BatchConfig,
        budget: &Arc<Budget>,
    ) -> Self {
        let table = table_of(&partition.topic);
        Self {
            source: Arc::new(Source { partition, table }),
            inbox: Inbox::new(config, Arc::clone(budget)),
            position: Position::new(),
            drain: CancellationToken::new(),
        }
    }

    pub(super) fn partition(&self) -> &TopicPartition {
        &self.source.partition
    }

    /// After an error that passes by itself: says so and waits.
    ///
    /// # Errors
    /// `error` itself if it stops; [`Error::interrupted`] when the partition is to be let go.
    pub(super) async fn back_off(
        &self,
        error: Error,
        status: &Status,
        backoff: &mut Backoff,
    ) -> Result<()> {
        if error.policy() == Policy::Stop {
            return Err(error);
        }
        let delay = backoff.next_delay();
        tracing::warn!(partition = %self.partition(), %error, ?delay, "tries again");
        metrics::counter!(RETRIES).increment(1);
        status.obstacle(&self.partition().to_string(), &error.to_string());
        self.unless_drained(tokio::time::sleep(delay)).await
    }

    /// Waits for something that may take long.
    ///
    /// # Errors
    /// [`Error::interrupted`] when the partition is to be let go.
    pub(super) async fn unless_drained<T>(&self, wait: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.drain.cancelled() => {
                Err(Error::interrupted(format_args!("write {}", self.partition())))
            }
            value = wait => Ok(value),
        }
    }
}
