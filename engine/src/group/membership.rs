//! What librdkafka tells a member of the consumer group, kept until the poll loop asks.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ahash::AHashMap;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};

use crate::topics::TopicPartition;
use crate::topics::{BLACKLIST, Subscription};
use tributary_runtime::{Result, kafka};

use crate::config::SinkConfig;

pub(crate) type GroupClient = BaseConsumer<Membership>;

/// How often librdkafka reports the partitions' ends.
const STATISTICS_INTERVAL_MS: &str = "2000";

/// A change of the assignment. librdkafka waits until the poll loop has answered it with
/// `incremental_assign` or `incremental_unassign`.
#[derive(Debug)]
pub(crate) enum Rebalance {
    Assigned(Vec<TopicPartition>),
    Revoked {
        partitions: Vec<TopicPartition>,
        /// The group has given them to others already.
        lost: bool,
    },
}

/// The callbacks of the group's client. They run in the poll thread and only take notes, so that a
/// partition can be drained while the others go on.
#[derive(Debug, Default)]
pub(crate) struct Membership {
    rebalances: Mutex<VecDeque<Rebalance>>,
    /// The last stable offset of each partition, as far as known.
    ends: Mutex<AHashMap<TopicPartition, i64>>,
    last_reason: Mutex<String>,
    commit_failed: AtomicBool,
    /// The client is being closed: nobody asks for the notes any more.
    closing: AtomicBool,
}

/// A member of the group, not yet subscribed.
///
/// # Errors
/// Stop: librdkafka refuses the settings.
pub(crate) fn join(config: &SinkConfig, subscription: &Subscription) -> Result<GroupClient> {
    let client: GroupClient = kafka::consumer_config(&config.kafka, &config.name)
        .set("topic.blacklist", BLACKLIST)
        // A new topic that a pattern matches is found within this time.
        .set("topic.metadata.refresh.interval.ms", "1000")
        .set("statistics.interval.ms", STATISTICS_INTERVAL_MS)
        .create_with_context(Membership::default())
        .map_err(|error| kafka::classify(&error))?;
    let expressions = subscription.expressions();
    let expressions: Vec<_> = expressions.iter().map(String::as_str).collect();
    client
        .subscribe(&expressions)
        .map_err(|error| kafka::classify(&error))?;
    Ok(client)
}

impl Membership {
    pub(crate) fn next_rebalance(&self) -> Option<Rebalance> {
        lock(&self.rebalances).pop_front()
    }

    /// Where the partition ends, as last reported.
    pub(crate) fn end(&self, partition: &TopicPartition) -> Option<i64> {
        lock(&self.ends).get(partition).copied()
    }

    /// What librdkafka said about its last error: it names the partition and the offset.
    pub(crate) fn last_reason(&self) -> String {
        lock(&self.last_reason).clone()
    }

    /// Whether an asynchronous commit has failed since the last call.
    pub(crate) fn take_commit_failed(&self) -> bool {
        self.commit_failed.swap(false, Ordering::AcqRel)
    }

    /// From now on, rebalances are answered at once: the client is being closed.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }
}

impl ClientContext for Membership {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        kafka::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        kafka::log_error(&error, reason);
        reason.clone_into(&mut lock(&self.last_reason));
    }

    fn stats(&self, statistics: Statistics) {
        let mut ends = lock(&self.ends);
        ends.clear();
        for (topic, statistics) in statistics.topics {
            for (partition, statistics) in statistics.partitions {
                if partition >= 0 && statistics.ls_offset >= 0 {
                    let topic = topic.clone();
                    ends.insert(TopicPartition { topic, partition }, statistics.ls_offset);
                }
            }
        }
    }
}

impl ConsumerContext for Membership {
    fn rebalance(&self, client: &GroupClient, kind: RDKafkaRespErr, list: &mut TopicPartitionList) {
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

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::info!(%error, "could not commit offsets; commits them again");
            self.commit_failed.store(true, Ordering::Release);
        }
    }
}

fn partitions_of(list: &TopicPartitionList) -> Vec<TopicPartition> {
    let elements = list.elements();
    let partitions = elements.iter().map(|element| TopicPartition {
        topic: element.topic().to_owned(),
        partition: element.partition(),
    });
    partitions.collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
