//! The topics of a source: created where missing, refused where they contradict.

mod identity;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::error::RDKafkaErrorCode;
use tributary_runtime::kafka;
use tributary_runtime::{Error, ResultExt};

use crate::config::SourceConfig;

const TIMEOUT: Duration = Duration::from_secs(15);
/// The pause before topics that were just created are looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Tombstones stay this long: a sink that was away for less misses no delete.
const DELETE_RETENTION_MS: &str = "604800000";
/// A signal stays this long: a source that was away for longer does not see it.
const SIGNAL_RETENTION_MS: &str = "604800000";

/// Kafka's own `message.max.bytes`.
const DEFAULT_MAX_MESSAGE_BYTES: usize = 1_048_588;
/// A letter is a row as text, and what is too large for its own topic goes there as well.
const MAX_LETTER_BYTES: &str = "16777216";

/// A topic as the source wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicSpec {
    pub(crate) name: String,
    pub(crate) partitions: i32,
    pub(crate) cleanup: Cleanup,
}

/// What the broker does with old records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cleanup {
    /// The newest record of each key stays for ever.
    Compact,
    /// Nothing is removed: there is no key to tell what is superseded.
    KeepAll,
    /// As [`Self::KeepAll`], for larger records: the dead letters.
    KeepLarge,
    /// What is old is removed.
    Expire,
}

impl Cleanup {
    /// As the topic's `cleanup.policy`.
    pub(crate) const fn policy(self) -> &'static str {
        match self {
            Self::Compact => "compact",
            Self::KeepAll | Self::KeepLarge | Self::Expire => "delete",
        }
    }
}

/// Creates and inspects topics.
pub(crate) struct Topics {
    admin: AdminClient<kafka::LogContext>,
    options: AdminOptions,
    replication_factor: Option<i32>,
}

impl Topics {
    pub(crate) fn new(config: &SourceConfig) -> Result<Self, Error> {
        let admin = kafka::admin(&config.kafka_client(), &config.slot_name())?;
        let options = AdminOptions::new()
            .request_timeout(Some(TIMEOUT))
            .operation_timeout(Some(TIMEOUT));
        Ok(Self {
            admin,
            options,
            replication_factor: config.kafka.replication_factor,
        })
    }

    /// What speaks against using these topics, per topic; those that are missing speak for nothing.
    pub(crate) async fn contradictions(&self, specs: &[TopicSpec]) -> Result<Vec<Error>, Error> {
        let mut found = Vec::new();
        for spec in specs {
            if let Some(partitions) = self.partitions(&spec.name).await?
                && let Err(error) = self.agrees(spec, partitions).await
            {
                found.push(error);
            }
        }
        Ok(found)
    }

    /// Creates the topics that are missing, and compares those that exist.
    pub(crate) async fn ensure(&self, specs: &[TopicSpec]) -> Result<(), Error> {
        for spec in specs {
            match self.partitions(&spec.name).await? {
                Some(partitions) => self.agrees(spec, partitions).await?,
                None => self
                    .create(spec)
                    .await
                    .doing(|| format!("create topic '{}'", spec.name))?,
            }
        }
        Ok(())
    }

    /// The ids of these topics; one that was deleted and created again has another one. A broker without ids gives
    /// none. Waits for topics that were just created: not every broker knows them at once.
    ///
    /// # Errors
    /// The brokers do not answer, refuse, or one of the topics does not appear.
    pub(crate) async fn ids(&self, topics: &[String]) -> Result<BTreeMap<String, String>, Error> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let ids = tokio::task::block_in_place(|| {
                identity::topic_ids(self.admin.inner(), topics, TIMEOUT)
            })
            .map_err(|e| kafka::classify(&e).context("look the topics' ids up"))?;
            match topics.iter().find(|topic| !ids.contains_key(*topic)) {
                None => {
                    let ids = ids.into_iter();
                    return Ok(ids.filter_map(|(topic, id)| Some((topic, id?))).collect());
                }
                Some(missing) if Instant::now() >= deadline => {
                    return Err(Error::retry_msg(format!(
                        "topic '{missing}' does not appear"
                    )));
                }
                Some(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// A topic's partition count; `None` if there is no such topic.
    pub(crate) async fn partitions(&self, topic: &str) -> Result<Option<i32>, Error> {
        let metadata =
            tokio::task::block_in_place(|| self.admin.inner().fetch_metadata(Some(topic), TIMEOUT))
                .map_err(|e| kafka::classify(&e).context(format!("look topic '{topic}' up")))?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Ok(None);
        };
        match found.error().map(RDKafkaErrorCode::from) {
            None => Ok(i32::try_from(found.partitions().len()).ok()),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                Ok(None)
            }
            Some(code) => Err(
                kafka::classify(&rdkafka::error::KafkaError::MetadataFetch(code))
                    .context(format!("look topic '{topic}' up")),
            ),
        }
    }

    async fn agrees(&self, spec: &TopicSpec, partitions: i32) -> Result<(), Error> {
        // More are harmless: keys are spread over the count that progress remembers.
        if partitions < spec.partitions {
            return Err(Error::stop_msg(format!(
                "topic '{}' has {partitions} partitions, not {}",
                spec.name, spec.partitions
            ))
            .remedy(
                "set kafka.partitions to what the topic has, or choose another kafka.topic_prefix",
            ));
        }
        let settings = self.settings(&spec.name).await?;
        let setting = |name| value(settings.as_ref()?, name);
        let policy = setting("cleanup.policy");
        // What is kept for ever need not be compacted: a table that had no key when its topic began, say.
        let kept = policy == Some("delete")
            && ["retention.ms", "retention.bytes"].map(setting) == [Some("-1"); 2];
        if policy != Some(spec.cleanup.policy()) && !kept {
            return Err(Error::stop_msg(format!(
                "topic '{}' has cleanup.policy={}, this table needs {}",
                spec.name,
                policy.unwrap_or("(unknown)"),
                spec.cleanup.policy()
            ))
            .remedy(format!(
                "set cleanup.policy={} on the topic, or choose another kafka.topic_prefix",
                spec.cleanup.policy()
            )));
        }
        Ok(())
    }

    /// The largest record batch that a topic takes; Kafka's default for one that does not exist.
    pub(crate) async fn max_record_bytes(&self, topic: &str) -> Result<usize, Error> {
        let settings = self.settings(topic).await?;
        let limit = settings
            .as_ref()
            .and_then(|settings| value(settings, "max.message.bytes"));
        Ok(limit
            .and_then(|limit| limit.parse().ok())
            .unwrap_or(DEFAULT_MAX_MESSAGE_BYTES))
    }

    /// The settings of a topic, the broker's defaults where the topic has none of its own; `None` if there is no
    /// such topic.
    async fn settings(&self, topic: &str) -> Result<Option<ConfigResource>, Error> {
        let resource = ResourceSpecifier::Topic(topic);
        let described = self
            .admin
            .describe_configs([&resource], &self.options)
            .await;
        let explain =
            |e| kafka::classify(&e).context(format!("read the settings of topic '{topic}'"));
        match described.map_err(explain)?.into_iter().next() {
            Some(Ok(settings)) => Ok(Some(settings)),
            Some(Err(
                RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic,
            )) => Ok(None),
            Some(Err(code)) => Err(explain(rdkafka::error::KafkaError::AdminOp(code))),
            None => Err(Error::retry_msg(format!(
                "the broker does not describe topic '{topic}'"
            ))),
        }
    }

    async fn create(&self, spec: &TopicSpec) -> Result<(), Error> {
        let replication = TopicReplication::Fixed(self.replication_factor.unwrap_or(-1));
        let mut topic = NewTopic::new(&spec.name, spec.partitions, replication)
            .set("cleanup.policy", spec.cleanup.policy());
        topic = match spec.cleanup {
            Cleanup::Compact => topic.set("delete.retention.ms", DELETE_RETENTION_MS),
            Cleanup::KeepAll => topic.set("retention.ms", "-1").set("retention.bytes", "-1"),
            Cleanup::KeepLarge => topic
                .set("retention.ms", "-1")
                .set("retention.bytes", "-1")
                .set("max.message.bytes", MAX_LETTER_BYTES),
            Cleanup::Expire => topic.set("retention.ms", SIGNAL_RETENTION_MS),
        };
        let created = self
            .admin
            .create_topics([&topic], &self.options)
            .await
            .map_err(|e| kafka::classify(&e))?;
        match created.into_iter().next() {
            Some(Ok(_)) | Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {
                tracing::info!(
                    topic = spec.name,
                    partitions = spec.partitions,
                    "created the topic"
                );
                Ok(())
            }
            Some(Err((_, code))) => {
                Err(kafka::classify(&rdkafka::error::KafkaError::AdminOp(code)))
            }
            None => Err(Error::retry_msg("the broker did not answer")),
        }
    }
}

fn value<'a>(settings: &'a ConfigResource, name: &str) -> Option<&'a str> {
    settings.get(name)?.value.as_deref()
}
