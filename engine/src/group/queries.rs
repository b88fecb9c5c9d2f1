//! Questions about topics and partitions, by the member's connections and an admin client.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use tributary_runtime::kafka::LogContext;
use tributary_runtime::kafka::groups::Members;
use tributary_runtime::{Error, Result, ResultExt, kafka};

use crate::cluster::{Cluster, Committed, TopicFacts};
use crate::config::SinkConfig;
use crate::group::member::Reached;
use crate::group::membership::{self, Consuming, Membership, commits, list_of};
use crate::topics::{Subscription, TopicPartition};

const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// librdkafka takes no longer one.
const LONGEST_REQUEST: Duration = Duration::from_secs(3_600);

/// The ends are asked for all the time: who does not answer so soon is away.
const ENDS_TIMEOUT: Duration = Duration::from_secs(5);

/// Every cluster with a consumer group has it. It need not be there.
const ANY_TOPIC: &str = "__consumer_offsets";

/// What Kafka's brokers do with a topic of which we may not read the settings: compacted, at worst, and with the shortest time for which
/// tombstones are usually kept.
const UNREADABLE: Settings = Settings {
    is_compacted: true,
    tombstones_live: Duration::from_secs(86_400),
};

/// Asks about topics and partitions.
#[derive(Clone)]
pub(crate) struct Queries {
    /// A broker answers one request of a connection after the other, and keeps a fetch that finds nothing for as long as it may: on the
    /// member's connections a question takes half a second (measured). So questions have their own.
    client: Arc<Consuming>,
    /// Who may commit.
    member: Weak<Consuming>,
    admin: Arc<AdminClient<LogContext>>,
    group: String,
}

/// Of a topic.
#[derive(Debug, Clone, Copy)]
struct Settings {
    is_compacted: bool,
    tombstones_live: Duration,
}

impl Queries {
    /// Asks for nobody yet: nothing can be committed.
    ///
    /// # Errors
    /// Stop: librdkafka refuses the settings.
    pub(crate) fn new(config: &SinkConfig) -> Result<Self> {
        Ok(Self {
            client: membership::apart(config)?,
            member: Weak::new(),
            admin: Arc::new(kafka::admin(&config.kafka, &config.name)?),
            group: config.name.clone(),
        })
    }

    /// The same, for which a partition ends behind what transactions under way have written.
    ///
    /// # Errors
    /// As [`Queries::new`].
    pub(crate) fn of_all_written(config: &SinkConfig) -> Result<Self> {
        Ok(Self {
            client: membership::apart_of_all_written(config)?,
            ..Self::new(config)?
        })
    }

    /// Asks for this member, as long as it is there.
    pub(crate) fn of(self, member: &Membership) -> Self {
        let member = member.client();
        Self { member, ..self }
    }

    /// librdkafka's calls block.
    async fn ask<A: Send + 'static>(
        &self,
        question: impl FnOnce(&Consuming) -> Result<A> + Send + 'static,
    ) -> Result<A> {
        let client = Arc::clone(&self.client);
        let asking = tokio::task::spawn_blocking(move || {
            // What librdkafka tells of its connections would pile up.
            while client.poll(Duration::ZERO).is_some() {}
            question(&client)
        });
        asking.await.unwrap_or_else(|error| Err(Error::stop(error)))
    }

    /// The topics that are subscribed and exist, by name, and how many partitions each has.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses.
    pub(crate) async fn topics(
        &self,
        subscription: &Subscription,
    ) -> Result<BTreeMap<String, usize>> {
        let subscription = subscription.clone();
        let asking = self.ask(move |client| {
            let metadata = client
                .fetch_metadata(None, QUERY_TIMEOUT)
                .map_err(|error| classify(&error))?;
            let topics = metadata.topics().iter();
            let read = topics.filter(|topic| subscription.matching(topic.name()).is_some());
            Ok(read
                .map(|topic| (topic.name().to_owned(), topic.partitions().len()))
                .collect())
        });
        asking.await.doing(|| "ask Kafka for its topics")
    }

    /// Who is in a group.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses.
    pub(crate) async fn members(&self, group: &str) -> Result<Members> {
        let group = group.to_owned();
        self.ask(move |client| kafka::groups::members(client.client(), &group, QUERY_TIMEOUT))
            .await
    }

    /// Deletes a group of which nobody is a member, and what it has committed.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses; retry where the group still has a member.
    pub(crate) async fn forget(&self, group: &str) -> Result<()> {
        // librdkafka must not give up first: that can end the process (its issue 4605).
        let options = AdminOptions::new().request_timeout(Some(LONGEST_REQUEST));
        let groups = [group];
        let deleting = self.admin.delete_groups(&groups, &options);
        let answers = match tokio::time::timeout(QUERY_TIMEOUT, deleting).await {
            Ok(answers) => answers.map_err(|error| classify(&error)),
            Err(_) => Err(Error::retry_msg("the group's coordinator does not answer")),
        };
        for answer in answers.doing(|| format!("delete the consumer group '{group}'"))? {
            match answer {
                Ok(_) | Err((_, RDKafkaErrorCode::GroupIdNotFound)) => {}
                Err((_, RDKafkaErrorCode::NonEmptyGroup)) => {
                    return Err(Error::retry_msg(format_args!(
                        "the consumer group '{group}' still has a member"
                    )));
                }
                Err((_, code)) => {
                    let error = classify(&KafkaError::AdminOp(code));
                    return Err(error.context(format!("delete the consumer group '{group}'")));
                }
            }
        }
        Ok(())
    }

    /// Commits offsets of a generation for the group, as nobody's member: Kafka refuses that while the group has some.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses.
    pub(crate) async fn commit_for_service(
        &self,
        generation: &str,
        places: Vec<(TopicPartition, i64)>,
    ) -> Result<()> {
        let generation = generation.to_owned();
        let asking = self.ask(move |client| {
            let reached: Vec<_> = places
                .iter()
                .map(|(partition, offset)| Reached {
                    partition,
                    offset: *offset,
                    generation: Some(generation.clone()),
                })
                .collect();
            commits(&reached)
                .and_then(|list| client.commit(&list, CommitMode::Sync))
                .map_err(|error| classify(&error))
        });
        let group = &self.group;
        asking
            .await
            .doing(|| format!("commit offsets for the group '{group}'"))
    }

    /// What the group has committed of each of these partitions.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses.
    pub(crate) async fn all_committed(
        &self,
        partitions: Vec<TopicPartition>,
    ) -> Result<Vec<Option<Committed>>> {
        self.ask(move |client| {
            let list = client
                .committed_offsets(list_of(&partitions), QUERY_TIMEOUT)
                .map_err(|error| classify(&error))?;
            let found = |of: &TopicPartition| {
                let element = list.find_partition(&of.topic, of.partition);
                let element =
                    element.ok_or_else(|| Error::retry_msg("Kafka answers for no partition"))?;
                element.error().map_err(|error| classify(&error))?;
                let generation = Some(element.metadata()).filter(|text| !text.is_empty());
                Ok(match element.offset() {
                    Offset::Offset(offset) => Some(Committed {
                        offset,
                        generation: generation.map(str::to_owned),
                    }),
                    _ => None,
                })
            };
            partitions.iter().map(found).collect()
        })
        .await
    }

    async fn settings(&self, topic: &str) -> Result<Settings> {
        let options = AdminOptions::new().request_timeout(Some(QUERY_TIMEOUT));
        let resource = ResourceSpecifier::Topic(topic);
        let answers = self.admin.describe_configs([&resource], &options).await;
        let answers = answers.map_err(|error| classify(&error))?;
        match answers.into_iter().next() {
            Some(Ok(resource)) => Ok(read_settings(&resource)),
            Some(Err(
                RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed,
            )) => {
                tracing::warn!(
                    topic,
                    "may not read the topic's settings (DESCRIBE_CONFIGS): takes it for compacted, with tombstones that live a day"
                );
                Ok(UNREADABLE)
            }
            Some(Err(code)) => Err(classify(&KafkaError::AdminOp(code))),
            None => Err(Error::retry_msg("Kafka answers for no topic")),
        }
    }
}

impl Cluster for Queries {
    async fn topic(&self, topic: &str) -> Result<TopicFacts> {
        let topics = [topic.to_owned()];
        let mut described = kafka::topics::describe(&self.admin, &topics).await?;
        let described = described
            .remove(topic)
            .ok_or_else(|| Error::retry_msg(format_args!("Kafka does not know topic '{topic}'")))?;
        let settings = self
            .settings(topic)
            .await
            .doing(|| format!("ask for the settings of topic '{topic}'"))?;
        Ok(TopicFacts {
            id: described.id,
            partitions: described.partitions,
            tombstones_live: settings.is_compacted.then_some(settings.tombstones_live),
        })
    }

    async fn ids(&self, topics: &[String]) -> Result<BTreeMap<String, Option<String>>> {
        let described = kafka::topics::describe(&self.admin, topics).await?;
        Ok(described
            .into_iter()
            .map(|(topic, described)| (topic, described.id))
            .collect())
    }

    async fn unassigned(&self, subscription: &Subscription) -> Result<BTreeSet<TopicPartition>> {
        let Some(assigned) = self.members(&self.group).await?.assigned else {
            return Ok(BTreeSet::new());
        };
        let topics = self.topics(subscription).await?;
        let places = topics.into_iter().flat_map(|(topic, count)| {
            let numbers = 0..i32::try_from(count).unwrap_or(i32::MAX);
            numbers.map(move |number| (topic.clone(), number))
        });
        let unassigned = places.filter(|place| !assigned.contains(place));
        Ok(unassigned
            .map(|(topic, partition)| TopicPartition { topic, partition })
            .collect())
    }

    async fn log_of(&self, partition: &TopicPartition) -> Result<(i64, i64)> {
        let TopicPartition {
            topic,
            partition: number,
        } = partition.clone();
        let asking = self.ask(move |client| {
            let log = client.fetch_watermarks(&topic, number, QUERY_TIMEOUT);
            log.map_err(|error| {
                if kafka::is_unknown_topic(&error) {
                    hear_of_anew(client, &topic);
                }
                classify(&error)
            })
        });
        asking
            .await
            .doing(|| format!("ask for the offsets of {partition}"))
    }

    async fn ends(&self, partitions: &[TopicPartition]) -> Result<Vec<Option<i64>>> {
        let partitions = partitions.to_vec();
        self.ask(move |client| {
            if partitions.is_empty() {
                let asked = client.fetch_metadata(Some(ANY_TOPIC), ENDS_TIMEOUT);
                return asked.map(|_| Vec::new()).map_err(|error| classify(&error));
            }
            let mut list = list_of(&partitions);
            list.set_all_offsets(Offset::End)
                .map_err(|error| classify(&error))?;
            // With this in the place of a time, Kafka answers with the last stable offset.
            let answered = client.offsets_for_times(list, ENDS_TIMEOUT);
            // The list keeps its order.
            let ends: Vec<_> = match &answered {
                Ok(list) => list.elements().iter().map(end_of).collect(),
                Err(error) if kafka::is_unknown_topic(error) => vec![None; partitions.len()],
                Err(error) => return Err(classify(error)),
            };
            let unanswered = partitions
                .iter()
                .zip(&ends)
                .filter(|(_, end)| end.is_none());
            let topics: BTreeSet<_> = unanswered.map(|(partition, _)| &partition.topic).collect();
            for topic in topics {
                hear_of_anew(client, topic);
            }
            answered.map(|_| ends).map_err(|error| classify(&error))
        })
        .await
    }

    async fn committed(&self, partition: &TopicPartition) -> Result<Option<Committed>> {
        let committed = self.all_committed(vec![partition.clone()]).await;
        let committed =
            committed.doing(|| format!("ask for the committed offset of {partition}"))?;
        Ok(committed.into_iter().next().flatten())
    }

    async fn commit(&self, partition: &TopicPartition, offset: i64) -> Result<()> {
        let asked = partition.clone();
        let member = self.member.upgrade();
        let member =
            member.ok_or_else(|| Error::interrupted("commit a partition's first offset"))?;
        let asking = self.ask(move |_| {
            let list = commits(&[Reached {
                partition: &asked,
                offset,
                generation: None,
            }]);
            list.and_then(|list| member.commit(&list, CommitMode::Sync))
                .map_err(|error| classify(&error))
        });
        asking
            .await
            .doing(|| format!("commit the first offset of {partition}"))
    }
}

fn end_of(element: &TopicPartitionListElem<'_>) -> Option<i64> {
    match element.offset() {
        Offset::Offset(end) if element.error().is_ok() => Some(end),
        _ => None,
    }
}

/// A client that has subscribed to nothing goes by what it has heard once of a topic: of its new partitions it hears by this.
fn hear_of_anew(client: &Consuming, topic: &str) {
    if let Err(error) = client.fetch_metadata(Some(topic), ENDS_TIMEOUT) {
        tracing::debug!(%error, topic, "could not ask about the topic");
    }
}

fn read_settings(resource: &ConfigResource) -> Settings {
    let value = |name: &str| {
        let entry = resource.entries.iter().find(|entry| entry.name == name);
        entry.and_then(|entry| entry.value.as_deref())
    };
    let policy = value("cleanup.policy").unwrap_or_default();
    let lives_ms = value("delete.retention.ms").and_then(|value| value.parse().ok());
    Settings {
        is_compacted: policy.split(',').any(|policy| policy.trim() == "compact"),
        tombstones_live: lives_ms.map_or(UNREADABLE.tombstones_live, Duration::from_millis),
    }
}

/// The group has assigned the partition, so it exists: a broker that does not know it will soon. If it was
/// deleted meanwhile, the group takes it away again.
fn classify(error: &KafkaError) -> Error {
    if kafka::is_unknown_topic(error) {
        Error::retry(error.clone())
    } else {
        kafka::classify(error)
    }
}
