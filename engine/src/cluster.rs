//! What the engine asks of Kafka about partitions, beside what a member of the group gets.

use tributary_runtime::Result;

use crate::topics::TopicPartition;

/// Answers about partitions.
pub(crate) trait Cluster: Clone + Send + Sync + 'static {
    /// The first offset that the log still has, and the one that comes next.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses.
    fn log_of(&self, partition: &TopicPartition)
    -> impl Future<Output = Result<(i64, i64)>> + Send;

    /// The group's committed offset; `None` where it has none.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses.
    fn committed(
        &self,
        partition: &TopicPartition,
    ) -> impl Future<Output = Result<Option<i64>>> + Send;
}
