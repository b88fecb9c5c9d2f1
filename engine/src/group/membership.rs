//! A member of the group by way of librdkafka.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tributary_runtime::{Result, ResultExt, kafka};

use crate::config::SinkConfig;
use crate::group::member::{Member, PartitionOffset, Reached, Rebalance};
use crate::lock::lock;
use crate::topics::{BLACKLIST, Subscription, TopicPartition};

const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) type Consuming = BaseConsumer<Notes>;

/// The member. The group learns at once that it has left when this is dropped.
pub(crate) struct Membership(Arc<Consuming>);

/// How often librdkafka does what costs it time for each partition of the cluster, with nothing to read.
struct Pace {
    /// It asks for all topics, and matches each with the patterns: so soon a new one is found.
    metadata_ms: usize,
    /// A fetch that finds nothing ends, and names all partitions anew. A partition that comes to be fetched waits for that.
    fetch_ms: usize,
}

impl Pace {
    /// With 4,000 partitions an idle sink would take 6 % of a core at the pace that is right for a hundred; so it takes less than 3
    /// (measured).
    fn of(partitions: usize) -> Self {
        Self {
            metadata_ms: partitions.clamp(1_000, 4_000),
            fetch_ms: (partitions * 3 / 8).clamp(500, 1_500),
        }
    }
}

/// How librdkafka tells that a commit in the background has failed: rdkafka 0.39 sets no callback, and so nobody else is told. It is a
/// warning, which our clients' log level lets through, whatever the service logs.
const COMMIT_FAILED: &str = "COMMITFAIL";

/// What librdkafka's callbacks tell, kept until the poll thread asks. They run in that thread and only take notes, so that a
/// partition can be drained while the others go on.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    rebalances: Mutex<VecDeque<Rebalance>>,
    last_reason: Mutex<String>,
    commit_failed: AtomicBool,
    /// The client is being closed: nobody asks for the notes any more.
    closing: AtomicBool,
}

impl Membership {
    /// A member of the group that has subscribed, to topics that have so many partitions by now.
    ///
    /// # Errors
    /// Stop: librdkafka refuses the settings.
    pub(crate) fn join(
        config: &SinkConfig,
        subscription: &Subscription,
        partitions: usize,
    ) -> Result<Self> {
        let pace = Pace::of(partitions);
        let mut settings = settings(config);
        settings
            .set("topic.blacklist", BLACKLIST)
            .set(
                "topic.metadata.refresh.interval.ms",
                pace.metadata_ms.to_string(),
            )
            .set("fetch.wait.max.ms", pace.fetch_ms.to_string());
        let client = connect(&settings)?;
        let expressions = subscription.expressions();
        let expressions: Vec<_> = expressions.iter().map(String::as_str).collect();
        let subscribed = client.subscribe(&expressions);
        subscribed.map_err(|error| kafka::classify(&error))?;
        Ok(Self(client))
    }

    /// The client, as long as this member is there.
    pub(crate) fn client(&self) -> Weak<Consuming> {
        Arc::downgrade(&self.0)
    }

    fn notes(&self) -> &Notes {
        self.0.context()
    }
}

impl Member for Membership {
    type Record<'a> = BorrowedMessage<'a>;

    fn poll(&self, wait: Duration) -> Option<Result<BorrowedMessage<'_>, KafkaError>> {
        self.0.poll(wait)
    }

    fn rest(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn next_rebalance(&self) -> Option<Rebalance> {
        lock(&self.notes().rebalances).pop_front()
    }

    fn assign(&self, places: &[PartitionOffset<'_>]) -> Result<()> {
        let assigned = offsets(places).and_then(|list| self.0.incremental_assign(&list));
        assigned.map_err(|error| kafka::classify(&error))
    }

    fn unassign(&self, partitions: &[TopicPartition]) -> Result<()> {
        self.0
            .incremental_unassign(&list_of(partitions))
            .or_else(|error| {
                // librdkafka has let go of them by itself; it still waits for an answer.
                tracing::debug!(%error, "could not unassign");
                self.0.incremental_unassign(&TopicPartitionList::new())
            })
            .map_err(|error| kafka::classify(&error))
    }

    fn has_lost(&self) -> bool {
        self.0.assignment_lost()
    }

    fn pause(&self, partitions: &[&TopicPartition]) -> Result<()> {
        let paused = self.0.pause(&list_of(partitions.iter().copied()));
        paused.map_err(|error| kafka::classify(&error))
    }

    fn resume(&self, partitions: &[&TopicPartition]) -> Result<()> {
        let resumed = self.0.resume(&list_of(partitions.iter().copied()));
        resumed.map_err(|error| kafka::classify(&error))
    }

    fn commit(&self, places: &[Reached<'_>]) -> KafkaResult<()> {
        self.0.commit(&commits(places)?, CommitMode::Sync)
    }

    fn begin_commit(&self, places: &[Reached<'_>]) -> KafkaResult<()> {
        self.0.commit(&commits(places)?, CommitMode::Async)
    }

    fn take_commit_failed(&self) -> bool {
        self.notes().commit_failed.swap(false, Ordering::AcqRel)
    }

    fn positions(&self) -> Vec<(TopicPartition, i64)> {
        let Ok(list) = self.0.position() else {
            return Vec::new();
        };
        let elements = list.elements();
        let known = elements.iter().filter_map(|element| {
            let topic = element.topic().to_owned();
            let partition = element.partition();
            match element.offset() {
                Offset::Offset(offset) => Some((TopicPartition { topic, partition }, offset)),
                _ => None,
            }
        });
        known.collect()
    }

    fn last_reason(&self) -> String {
        lock(&self.notes().last_reason).clone()
    }

    fn log_of(&self, partition: &TopicPartition) -> Result<(i64, i64)> {
        self.0
            .fetch_watermarks(&partition.topic, partition.partition, QUERY_TIMEOUT)
            .map_err(|error| kafka::classify(&error))
            .doing(|| format!("ask for the offsets of {partition}"))
    }

    fn close(&self) {
        self.notes().closing.store(true, Ordering::Release);
        // When closed, a cooperative member without partitions says nothing to the group, which then waits for its session to end.
        self.0.unsubscribe();
    }
}

impl ClientContext for Notes {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == COMMIT_FAILED {
            self.commit_failed.store(true, Ordering::Release);
            // Rebalances bring many, and each is committed again.
            return tracing::debug!(target: "librdkafka", facility, "{message}");
        }
        kafka::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        kafka::log_error(&error, reason);
        reason.clone_into(&mut lock(&self.last_reason));
    }
}

impl ConsumerContext for Notes {
    fn rebalance(&self, client: &Consuming, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let is_assign = kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Acquire) {
            // While closing, librdkafka takes any answer as "let go of everything".
            let _ = client.incremental_unassign(list);
            return;
        }
        let partitions = partitions_of(list);
        lock(&self.rebalances).push_back(if is_assign {
            Rebalance::Assigned(partitions)
        } else {
            Rebalance::Revoked {
                partitions,
                lost: client.assignment_lost(),
            }
        });
    }
}

/// Who asks about the group and its topics, and joins nothing.
///
/// # Errors
/// Stop: librdkafka refuses the settings.
pub(crate) fn apart(config: &SinkConfig) -> Result<Arc<Consuming>> {
    connect(&settings(config))
}

/// The same, for which a partition ends behind what transactions under way have written.
///
/// # Errors
/// As [`apart`].
pub(crate) fn apart_of_all_written(config: &SinkConfig) -> Result<Arc<Consuming>> {
    connect(settings(config).set("isolation.level", "read_uncommitted"))
}

fn settings(config: &SinkConfig) -> ClientConfig {
    kafka::consumer_config(&config.kafka, &config.name)
}

fn connect(settings: &ClientConfig) -> Result<Arc<Consuming>> {
    let client: Consuming = settings
        .create_with_context(Notes::default())
        .map_err(|error| kafka::classify(&error))?;
    Ok(Arc::new(client))
}

fn partitions_of(list: &TopicPartitionList) -> Vec<TopicPartition> {
    let elements = list.elements();
    let partitions = elements.iter().map(|element| TopicPartition {
        topic: element.topic().to_owned(),
        partition: element.partition(),
    });
    partitions.collect()
}

pub(crate) fn list_of<'a>(
    partitions: impl IntoIterator<Item = &'a TopicPartition>,
) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(&partition.topic, partition.partition);
    }
    list
}

fn offsets(places: &[PartitionOffset<'_>]) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (TopicPartition { topic, partition }, offset) in places {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    Ok(list)
}

/// The group keeps the generation beside the offset, as its metadata.
pub(crate) fn commits(places: &[Reached<'_>]) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for place in places {
        let TopicPartition { topic, partition } = place.partition;
        let mut element = list.add_partition(topic, *partition);
        element.set_offset(Offset::Offset(place.offset))?;
        if let Some(generation) = &place.generation {
            element.set_metadata(generation);
        }
    }
    Ok(list)
}
