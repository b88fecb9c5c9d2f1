//! What the engine asks of Kafka about topics and partitions, beside what a member of the group gets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tributary_runtime::Result;

use crate::topics::{Subscription, TopicPartition};

/// A topic, as its brokers describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicFacts {
    /// As Kafka prints it; `None` where the brokers know no ids.
    pub(crate) id: Option<String>,
    pub(crate) partitions: i32,
    /// How long a compacted topic keeps tombstones; `None` for one that is not compacted.
    pub(crate) tombstones_live: Option<Duration>,
}

/// What a group has committed of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    /// Of which generation of the target; `None` where nobody has said that.
    pub(crate) generation: Option<String>,
}

impl Committed {
    /// The offset, as far as it may be one of this generation: what another target of the group holds says nothing of this one.
    pub(crate) fn of(self, generation: &str) -> Option<i64> {
        let is_it = self.generation.is_none_or(|of| of == generation);
        is_it.then_some(self.offset)
    }
}

/// Answers about topics and partitions.
pub(crate) trait Cluster: Clone + Send + Sync + 'static {
    /// The topic, as it is now.
    ///
    /// # Errors
    /// Kafka does not know it (retry), does not answer, or refuses.
    fn topic(&self, topic: &str) -> impl Future<Output = Result<TopicFacts>> + Send;

    /// The ids of those of these topics that exist.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses.
    fn ids(
        &self,
        topics: &[String],
    ) -> impl Future<Output = Result<BTreeMap<String, Option<String>>>> + Send;

    /// The partitions of the topics that are subscribed which no member of the group has; none while the group divides them anew.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses.
    fn unassigned(
        &self,
        subscription: &Subscription,
    ) -> impl Future<Output = Result<BTreeSet<TopicPartition>>> + Send;

    /// The first offset that the log still has, and the one that comes next.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses.
    fn log_of(&self, partition: &TopicPartition)
    -> impl Future<Output = Result<(i64, i64)>> + Send;

    /// Where each of these partitions ends for whoever reads committed records, in their order; `None` of one that cannot be read
    /// now. Of no partitions it tells whether Kafka answers.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses.
    fn ends(
        &self,
        partitions: &[TopicPartition],
    ) -> impl Future<Output = Result<Vec<Option<i64>>>> + Send;

    /// What the group has committed; `None` where it has nothing.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses.
    fn committed(
        &self,
        partition: &TopicPartition,
    ) -> impl Future<Output = Result<Option<Committed>>> + Send;

    /// Commits an offset, whatever the group had; of no generation.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses.
    fn commit(
        &self,
        partition: &TopicPartition,
        offset: i64,
    ) -> impl Future<Output = Result<()>> + Send;
}
