//! How many partitions a topic has: asked each time that it matters, for they may become more.

use std::sync::Arc;

use rdkafka::admin::AdminClient;
use tokio::sync::OnceCell;

use crate::config::SinkConfig;
use tributary_runtime::config::KafkaConfig;
use tributary_runtime::kafka::{self, LogContext, topics};
use tributary_runtime::{Error, Result, ResultExt};

/// Asks Kafka. Connects with the first question.
pub(crate) struct PartitionCounts {
    kafka: KafkaConfig,
    service: String,
    admin: OnceCell<Arc<AdminClient<LogContext>>>,
}

impl PartitionCounts {
    pub(crate) fn new(config: &SinkConfig) -> Self {
        Self {
            kafka: config.kafka.clone(),
            service: config.name.clone(),
            admin: OnceCell::new(),
        }
    }

    /// How many it has now.
    ///
    /// # Errors
    /// Kafka's, by policy.
    pub(crate) async fn of(&self, topic: &str) -> Result<i32> {
        let connect = async || kafka::admin(&self.kafka, &self.service).map(Arc::new);
        let admin = self.admin.get_or_try_init(connect).await?;
        let described = topics::describe(admin, &[topic.to_owned()]).await;
        described
            .and_then(|described| {
                let topic = described.get(topic);
                topic
                    .map(|topic| topic.partitions)
                    .ok_or_else(|| Error::retry_msg("Kafka does not know the topic"))
            })
            .doing(|| format!("ask for the partitions of topic {topic}"))
    }
}

impl std::fmt::Debug for PartitionCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartitionCounts").finish_non_exhaustive()
    }
}
