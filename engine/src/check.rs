//! What `check` tries for every sink: brokers, topics, group, registry. It changes nothing.

use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::config::SinkConfig;
use crate::topics::Subscription;
use tributary_runtime::registry::Registry;
use tributary_runtime::{Problem, Result, ResultExt, kafka};

const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// Tries all that the loop needs, with a valid configuration, and reports every problem.
pub async fn check(config: &SinkConfig) -> Vec<Problem> {
    let kafka_config = config.clone();
    let kafka = tokio::task::spawn_blocking(move || check_kafka(&kafka_config));
    let mut problems = kafka
        .await
        .unwrap_or_else(|error| vec![Problem::new(format_args!("check Kafka: {error}"))]);
    if let Err(error) = check_registry(config).await {
        problems.push(Problem::from(&error));
    }
    problems
}

async fn check_registry(config: &SinkConfig) -> Result<()> {
    Registry::new(&config.kafka.registry)?.check().await
}

fn check_kafka(config: &SinkConfig) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Err(error) = try_kafka(config, &mut problems) {
        problems.push(Problem::from(&error));
    }
    problems
}

fn try_kafka(config: &SinkConfig, problems: &mut Vec<Problem>) -> Result<()> {
    let brokers = config.kafka.brokers.join(",");
    let client: BaseConsumer<kafka::LogContext> =
        kafka::consumer_config(&config.kafka, &config.name)
            .create_with_context(kafka::LogContext)
            .map_err(|error| kafka::classify(&error))?;
    let metadata = client
        .fetch_metadata(None, QUERY_TIMEOUT)
        .map_err(|error| kafka::classify(&error).remedy("start Kafka, or correct kafka.brokers"))
        .doing(|| format!("ask Kafka at {brokers} for its topics"))?;
    let existing: Vec<_> = metadata.topics().iter().map(|topic| topic.name()).collect();
    let subscription = match Subscription::new(&config.topics) {
        Ok(subscription) => subscription,
        Err(found) => {
            problems.extend(found);
            return Ok(());
        }
    };
    problems.extend(missing_topics(&subscription, &existing));
    try_group(config, &client, existing.first().copied())
}

/// The patterns and names of which Kafka has no topic.
pub(crate) fn missing_topics(subscription: &Subscription, existing: &[&str]) -> Vec<Problem> {
    let missing = subscription.without_topic(existing).into_iter();
    let problem = |missing: &str| {
        Problem::new(format_args!("there is no topic '{missing}' in Kafka"))
            .remedy("start the source, which creates its topics, or correct `topics`")
    };
    missing.map(problem).collect()
}

/// Asks for a committed offset: that finds the coordinator and needs the right to read the group.
fn try_group(
    config: &SinkConfig,
    client: &BaseConsumer<kafka::LogContext>,
    topic: Option<&str>,
) -> Result<()> {
    let Some(topic) = topic else {
        return Ok(());
    };
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, 0);
    client
        .committed_offsets(list, QUERY_TIMEOUT)
        .map(|_| ())
        .map_err(|error| kafka::classify(&error))
        .doing(|| format!("use the consumer group '{}'", config.name))
}
