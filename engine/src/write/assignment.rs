//! One assignment of a partition to this instance.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::config::BatchConfig;
use crate::flow::batch::Source;
use crate::flow::inbox::{Budget, Inbox};
use crate::metrics::RETRIES;
use crate::status::Status;
use crate::topics::TopicPartition;
use crate::topics::table_of;
use crate::write::position::Position;
use tributary_runtime::retry::Backoff;
use tributary_runtime::{Error, Policy, Result};

/// What the poll thread and the task of one assignment share.
#[derive(Debug)]
pub(crate) struct Assignment {
    pub(crate) source: Arc<Source>,
    pub(crate) inbox: Inbox,
    pub(crate) position: Position,
    /// Cancelled when the partition is to be let go: the write under way is finished, no other begins.
    pub(crate) drain: CancellationToken,
}

impl Assignment {
    pub(crate) fn new(
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

    pub(crate) fn partition(&self) -> &TopicPartition {
        &self.source.partition
    }

    /// After an error that passes by itself: says so and waits.
    ///
    /// # Errors
    /// `error` itself if it stops; [`Error::interrupted`] when the partition is to be let go.
    pub(crate) async fn back_off(
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
    pub(crate) async fn unless_drained<T>(&self, wait: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.drain.cancelled() => {
                Err(Error::interrupted(format_args!("write {}", self.partition())))
            }
            value = wait => Ok(value),
        }
    }
}
