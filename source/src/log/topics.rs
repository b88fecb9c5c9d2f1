//! The topics of a source: created where missing, refused where they contradict.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt, TryStreamExt};
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tributary_runtime::kafka;
use tributary_runtime::{Error, ResultExt};

use crate::config::SourceConfig;
use crate::log::steps::Counter;

pub(crate) use tributary_runtime::kafka::topics::DescribedTopic;

/// The settings of so many are: a broker tells some thirty of each.
const SETTINGS_AT_ONCE: usize = 100;
/// So many are created in one request, with so many partitions in all. Kafka's controller takes 10,000 records for one
/// request, and a topic is one for itself, one for each partition and one for each setting.
const CREATED_AT_ONCE: usize = 100;
const PARTITIONS_AT_ONCE: i32 = 2_000;
/// While the brokers make the partitions of one request, others are on their way.
const REQUESTS_AT_ONCE: usize = 4;

const TIMEOUT: Duration = Duration::from_secs(15);
/// The pause before topics that were just created are looked for again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Tombstones stay this long: a sink that was away for less misses no delete.
const DELETE_RETENTION_MS: &str = "604800000";
/// The progress topic gets a record for each transaction, of which the last one counts: it is compacted in small pieces,
/// and nothing of what is superseded stays, so that reading all of it is quick.
const PROGRESS_SEGMENT_BYTES: &str = "16777216";
const PROGRESS_RETENTION_MS: &str = "60000";
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
    /// The same, soon: the progress records.
    CompactSoon,
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
            Self::Compact | Self::CompactSoon => "compact",
            Self::KeepAll | Self::KeepLarge | Self::Expire => "delete",
        }
    }
}

/// What is needed to know of a topic that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicFacts {
    /// A topic that was deleted and created again has another one. A broker without ids gives none.
    pub(crate) id: Option<String>,
    /// The largest record batch that it takes; none if the broker that was asked does not know the topic yet.
    pub(crate) max_record_bytes: Option<usize>,
}

/// By topic; none for one that does not exist.
type Settings = BTreeMap<String, Option<ConfigResource>>;

/// Creates and inspects topics.
pub(crate) struct Topics {
    admin: Arc<AdminClient<kafka::LogContext>>,
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
            admin: Arc::new(admin),
            options,
            replication_factor: config.kafka.replication_factor,
        })
    }

    /// What speaks against using these topics, per topic; those that are missing speak for nothing.
    pub(crate) async fn contradictions(&self, specs: &[TopicSpec]) -> Result<Vec<Error>, Error> {
        let described = self.described(&names(specs)).await?;
        let existing = specs.iter().map(|spec| spec.name.as_str());
        let existing: Vec<_> = existing
            .filter(|name| described.contains_key(*name))
            .collect();
        let mut settings = BTreeMap::new();
        for some in existing.chunks(SETTINGS_AT_ONCE) {
            settings.extend(self.settings(some).await?);
        }
        let existing = specs
            .iter()
            .filter_map(|spec| Some((spec, described.get(&spec.name)?)));
        let found = existing.filter_map(|(spec, topic)| {
            let settings = settings.get(&spec.name).and_then(Option::as_ref);
            agrees(spec, topic.partitions, settings).err()
        });
        Ok(found.collect())
    }

    /// Creates the topics that are missing, and compares those that exist. Returns what is to be known of each.
    ///
    /// # Errors
    /// The brokers do not answer, refuse, or a topic contradicts its spec.
    pub(crate) async fn ensure(
        &self,
        specs: &[TopicSpec],
        counter: &Counter,
    ) -> Result<BTreeMap<String, TopicFacts>, Error> {
        counter.expect(specs.len());
        let described = self.described(&names(specs)).await?;
        let (existing, missing): (Vec<_>, Vec<_>) = specs
            .iter()
            .partition(|spec| described.contains_key(&spec.name));
        let mut facts = BTreeMap::new();
        for some in existing.chunks(SETTINGS_AT_ONCE) {
            let settings = self.settings(&topics(some)).await?;
            for spec in some {
                let settings = settings.get(&spec.name).and_then(Option::as_ref);
                let partitions = described
                    .get(&spec.name)
                    .map_or(0, |topic| topic.partitions);
                agrees(spec, partitions, settings)?;
            }
            facts.extend(together(&described, &settings));
            counter.add(some.len());
        }
        let batches = batches(&missing);
        let created = (0..batches.len()).map(|at| self.created(batches[at]));
        let mut created = stream::iter(created).buffer_unordered(REQUESTS_AT_ONCE);
        while let Some(some) = created.try_next().await? {
            counter.add(some.len());
            facts.extend(some);
        }
        Ok(facts)
    }

    /// Creates topics. Returns what is to be known of each.
    async fn created(&self, specs: &[&TopicSpec]) -> Result<BTreeMap<String, TopicFacts>, Error> {
        self.create(specs).await?;
        let described = self.appeared(specs).await?;
        let settings = self.settings(&topics(specs)).await?;
        Ok(together(&described, &settings).collect())
    }

    /// Those of these topics that exist.
    ///
    /// # Errors
    /// The brokers do not answer, or refuse.
    pub(crate) async fn described(
        &self,
        topics: &[String],
    ) -> Result<BTreeMap<String, DescribedTopic>, Error> {
        kafka::topics::describe(&self.admin, topics).await
    }

    /// Topics that were just created: not every broker knows them at once.
    async fn appeared(
        &self,
        specs: &[&TopicSpec],
    ) -> Result<BTreeMap<String, DescribedTopic>, Error> {
        let names: Vec<String> = specs.iter().map(|spec| spec.name.clone()).collect();
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let described = self.described(&names).await?;
            match names.iter().find(|topic| !described.contains_key(*topic)) {
                None => return Ok(described),
                Some(missing) if Instant::now() >= deadline => {
                    return Err(Error::retry_msg(format!(
                        "topic '{missing}' does not appear"
                    )));
                }
                Some(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// The largest record batch that a topic takes; Kafka's default for one that does not exist.
    pub(crate) async fn max_record_bytes(&self, topic: &str) -> Result<usize, Error> {
        let settings = self.settings(&[topic]).await?;
        let settings = settings.get(topic).and_then(Option::as_ref);
        Ok(settings.map_or(DEFAULT_MAX_MESSAGE_BYTES, max_record_bytes))
    }

    /// The settings of topics, the broker's defaults where a topic has none of its own; `None` for one that does not
    /// exist.
    async fn settings(&self, topics: &[&str]) -> Result<Settings, Error> {
        if topics.is_empty() {
            return Ok(BTreeMap::new());
        }
        let resources = topics.iter().copied().map(ResourceSpecifier::Topic);
        let resources: Vec<_> = resources.collect();
        let explain = |e, topic: &str| {
            kafka::classify(&e).context(format!("read the settings of topic '{topic}'"))
        };
        let described = self.admin.describe_configs(&resources, &self.options);
        let described = described.await.map_err(|e| explain(e, topics[0]))?;
        // In the order of what was asked.
        let mut answers = described.into_iter();
        let mut settings = BTreeMap::new();
        for topic in topics {
            let found = match answers.next() {
                Some(Ok(found)) => Some(found),
                Some(Err(
                    RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic,
                )) => None,
                Some(Err(code)) => return Err(explain(KafkaError::AdminOp(code), topic)),
                None => {
                    return Err(Error::retry_msg(format!(
                        "the broker does not describe topic '{topic}'"
                    )));
                }
            };
            settings.insert((*topic).to_owned(), found);
        }
        Ok(settings)
    }

    /// Creates topics, in one request.
    async fn create(&self, specs: &[&TopicSpec]) -> Result<(), Error> {
        let topics: Vec<NewTopic<'_>> = specs
            .iter()
            .map(|spec| new_topic(spec, self.replication_factor))
            .collect();
        let doing = |name: &str| format!("create topic '{name}'");
        let created = self.admin.create_topics(&topics, &self.options).await;
        let created = created
            .map_err(|e| kafka::classify(&e))
            .doing(|| doing(&specs[0].name))?;
        // In the order of what was asked.
        let mut answers = created.into_iter();
        for spec in specs {
            match answers.next() {
                Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {
                    tracing::info!(
                        topic = spec.name,
                        partitions = spec.partitions,
                        "created the topic"
                    );
                }
                Some(Err((_, code))) => {
                    let refused = kafka::classify(&KafkaError::AdminOp(code));
                    return Err(refused.context(doing(&spec.name)));
                }
                None => return Err(Error::retry_msg("the broker did not answer")),
            }
        }
        Ok(())
    }
}

fn names(specs: &[TopicSpec]) -> Vec<String> {
    specs.iter().map(|spec| spec.name.clone()).collect()
}

fn topics<'a>(specs: &[&'a TopicSpec]) -> Vec<&'a str> {
    specs.iter().map(|spec| spec.name.as_str()).collect()
}

/// What is to be known of the topics whose settings were read.
fn together<'a>(
    described: &'a BTreeMap<String, DescribedTopic>,
    settings: &'a Settings,
) -> impl Iterator<Item = (String, TopicFacts)> + 'a {
    settings.iter().filter_map(|(topic, settings)| {
        let facts = TopicFacts {
            id: described.get(topic)?.id.clone(),
            max_record_bytes: settings.as_ref().map(max_record_bytes),
        };
        Some((topic.clone(), facts))
    })
}

/// Topics in the batches in which they are created.
fn batches<'a, 'b>(mut specs: &'a [&'b TopicSpec]) -> Vec<&'a [&'b TopicSpec]> {
    let mut batches = Vec::new();
    while !specs.is_empty() {
        let mut partitions = 0;
        let fit = specs.iter().take(CREATED_AT_ONCE).take_while(|spec| {
            partitions += spec.partitions;
            partitions <= PARTITIONS_AT_ONCE
        });
        // One that is larger goes alone.
        let (batch, rest) = specs.split_at(fit.count().max(1));
        batches.push(batch);
        specs = rest;
    }
    batches
}

fn new_topic(spec: &TopicSpec, replication_factor: Option<i32>) -> NewTopic<'_> {
    let replication = TopicReplication::Fixed(replication_factor.unwrap_or(-1));
    let topic = NewTopic::new(&spec.name, spec.partitions, replication)
        .set("cleanup.policy", spec.cleanup.policy());
    match spec.cleanup {
        Cleanup::Compact => topic.set("delete.retention.ms", DELETE_RETENTION_MS),
        Cleanup::CompactSoon => topic
            .set("delete.retention.ms", PROGRESS_RETENTION_MS)
            .set("segment.bytes", PROGRESS_SEGMENT_BYTES),
        Cleanup::KeepAll => topic.set("retention.ms", "-1").set("retention.bytes", "-1"),
        Cleanup::KeepLarge => topic
            .set("retention.ms", "-1")
            .set("retention.bytes", "-1")
            .set("max.message.bytes", MAX_LETTER_BYTES),
        Cleanup::Expire => topic.set("retention.ms", SIGNAL_RETENTION_MS),
    }
}

/// Compares a topic with what is wanted.
fn agrees(
    spec: &TopicSpec,
    partitions: i32,
    settings: Option<&ConfigResource>,
) -> Result<(), Error> {
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
    let setting = |name| value(settings?, name);
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

fn max_record_bytes(settings: &ConfigResource) -> usize {
    value(settings, "max.message.bytes")
        .and_then(|limit| limit.parse().ok())
        .unwrap_or(DEFAULT_MAX_MESSAGE_BYTES)
}

fn value<'a>(settings: &'a ConfigResource, name: &str) -> Option<&'a str> {
    settings.get(name)?.value.as_deref()
}

#[cfg(test)]
mod tests {
    use super::{CREATED_AT_ONCE, Cleanup, TopicSpec, batches};

    #[test]
    fn a_request_creates_no_more_than_the_controller_takes() {
        let spec = |partitions| TopicSpec {
            name: "p.s.t".to_owned(),
            partitions,
            cleanup: Cleanup::Compact,
        };
        for (topics, wanted, why) in [
            (vec![], vec![], "nothing to create"),
            (vec![6; 250], vec![100, 100, 50], "many topics"),
            (vec![900, 900, 900], vec![2, 1], "many partitions"),
            (vec![1, 5_000, 1], vec![1, 1, 1], "one topic is too large"),
        ] {
            let topics: Vec<TopicSpec> = topics.into_iter().map(spec).collect();
            let topics: Vec<&TopicSpec> = topics.iter().collect();
            let sizes: Vec<usize> = batches(&topics).iter().map(|batch| batch.len()).collect();
            assert_eq!(sizes, wanted, "{why}");
            assert!(sizes.iter().all(|size| *size <= CREATED_AT_ONCE));
        }
    }
}
