//! One assignment of a partition to this instance: opened, written, let go.

use std::sync::{Arc, Weak};

use tokio_util::sync::CancellationToken;

use crate::retry::Backoff;
use crate::sink::batch::Source;
use crate::sink::inbox::{Budget, Inbox};
use crate::sink::instance::Instance;
use crate::sink::membership::GroupClient;
use crate::sink::metrics::RETRIES;
use crate::sink::position::Position;
use crate::sink::start;
use crate::sink::status::Status;
use crate::sink::topics::table_of;
use crate::sink::writer::Writer;
use crate::sink::{BatchConfig, Destination, Start, TopicPartition};
use crate::{Error, Policy, Result, ResultExt};

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

    /// The assignment's whole life. An error stops the instance.
    pub(super) async fn run<D: Destination>(
        self: Arc<Self>,
        instance: Arc<Instance<D>>,
        client: Weak<GroupClient>,
    ) {
        let who = self.partition().to_string();
        if let Err(error) = self.work(&instance, &client).await {
            instance.failure.stop_with(error);
        }
        instance.status.clear(&who);
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

    async fn work<D: Destination>(
        self: &Arc<Self>,
        instance: &Arc<Instance<D>>,
        client: &Weak<GroupClient>,
    ) -> Result<()> {
        let (writer, start) = self.open(instance).await?;
        let start = self.find_start(instance, client, start).await?;
        tracing::info!(partition = %self.partition(), offset = start, "begins");
        self.position.open_at(start);
        Writer::new(Arc::clone(self), Arc::clone(instance), writer, start)
            .run()
            .await
    }

    async fn open<D: Destination>(&self, instance: &Instance<D>) -> Result<(D::Writer, Start)> {
        let mut backoff = Backoff::default();
        loop {
            let opening = instance
                .destination
                .open(self.partition(), &self.source.table);
            let opened = self.unless_drained(opening).await?;
            match opened.doing(|| format!("open the target of {}", self.partition())) {
                Ok(opened) => return Ok(opened),
                Err(error) => self.back_off(error, &instance.status, &mut backoff).await?,
            }
        }
    }

    async fn find_start<D: Destination>(
        &self,
        instance: &Instance<D>,
        client: &Weak<GroupClient>,
        start: Start,
    ) -> Result<i64> {
        let mut backoff = Backoff::default();
        loop {
            let finding = start::find(client, self.partition(), start);
            match self.unless_drained(finding).await? {
                Ok(offset) => {
                    instance.status.clear(&self.partition().to_string());
                    return Ok(offset);
                }
                Err(error) => self.back_off(error, &instance.status, &mut backoff).await?,
            }
        }
    }
}
