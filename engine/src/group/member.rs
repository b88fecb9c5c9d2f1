//! What the poll thread needs of its membership in a consumer group.

use std::time::Duration;

use rdkafka::error::{KafkaError, KafkaResult};
use tributary_runtime::Result;
use tributary_runtime::kafka::Headed;

use crate::topics::TopicPartition;

/// A change of the assignment. The group waits until the poll thread has answered it with [`Member::assign`] or
/// [`Member::unassign`].
#[derive(Debug)]
pub(crate) enum Rebalance {
    Assigned(Vec<TopicPartition>),
    Revoked {
        partitions: Vec<TopicPartition>,
        /// The group has given them to others already.
        lost: bool,
    },
}

/// A partition and an offset in it.
pub(crate) type PartitionOffset<'a> = (&'a TopicPartition, i64);

/// What is committed of a partition.
#[derive(Debug, Clone)]
pub(crate) struct Reached<'a> {
    pub(crate) partition: &'a TopicPartition,
    pub(crate) offset: i64,
    /// Which generation of the target holds everything below: an offset says nothing of another one.
    pub(crate) generation: Option<String>,
}

/// A member of a consumer group. All calls are the poll thread's.
pub(crate) trait Member: Send + 'static {
    /// A record.
    type Record<'a>: Headed
    where
        Self: 'a;

    /// The next record or error, if one comes in time. Takes notes of rebalances.
    fn poll(&self, wait: Duration) -> Option<Result<Self::Record<'_>, KafkaError>>;

    /// Waits without polling.
    fn rest(&self, time: Duration);

    /// The oldest rebalance that is not answered yet.
    fn next_rebalance(&self) -> Option<Rebalance>;

    /// Fetches these partitions, too, from their offsets on; the answer to an assignment.
    fn assign(&self, places: &[PartitionOffset<'_>]) -> Result<()>;

    /// Fetches these no more; the answer to a revocation.
    fn unassign(&self, partitions: &[TopicPartition]) -> Result<()>;

    /// Whether the group has given the partitions away and the poll thread does not know yet.
    fn has_lost(&self) -> bool;

    /// Suspends fetching. What has come ahead is fetched again later.
    fn pause(&self, partitions: &[&TopicPartition]) -> Result<()>;

    /// Goes on fetching.
    fn resume(&self, partitions: &[&TopicPartition]) -> Result<()>;

    /// Commits offsets, and waits for the answer.
    fn commit(&self, places: &[Reached<'_>]) -> KafkaResult<()>;

    /// Commits offsets in the background.
    fn begin_commit(&self, places: &[Reached<'_>]) -> KafkaResult<()>;

    /// Whether a commit in the background has failed since the last call.
    fn take_commit_failed(&self) -> bool;

    /// Where reading stands in each partition that is fetched: control records may have moved it past the last record.
    fn positions(&self) -> Vec<(TopicPartition, i64)>;

    /// What was said with the last error: it names the partition and the offset.
    fn last_reason(&self) -> String;

    /// The first offset that the log still has, and the one that comes next.
    fn log_of(&self, partition: &TopicPartition) -> Result<(i64, i64)>;

    /// The member leaves: rebalances are answered at once from now on.
    fn close(&self);
}
