//! The partitions that this instance holds, as the poll loop sees them.

use std::sync::Arc;

use ahash::AHashMap;
use tokio::task::JoinHandle;

use crate::topics::TopicPartition;
use crate::write::assignment::Assignment;

/// A partition from its assignment until it is let go.
#[derive(Debug)]
pub(crate) struct Holding {
    pub(crate) assignment: Arc<Assignment>,
    pub(crate) task: JoinHandle<()>,
    /// librdkafka fetches it: its start was known and given to `incremental_assign`.
    pub(crate) is_fetched: bool,
    /// Fetching is suspended because the inbox is full.
    pub(crate) is_paused: bool,
    /// It is to be let go: what still comes is not taken.
    pub(crate) is_leaving: bool,
    /// The offset after the last record taken. Meaningful once fetched.
    pub(crate) next: i64,
    /// What the group has as committed, as far as known.
    pub(crate) committed: Option<i64>,
}

/// All partitions, by topic and partition number.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    topics: AHashMap<String, AHashMap<i32, Holding>>,
}

impl Holding {
    pub(crate) const fn new(assignment: Arc<Assignment>, task: JoinHandle<()>) -> Self {
        Self {
            assignment,
            task,
            is_fetched: false,
            is_paused: false,
            is_leaving: false,
            next: 0,
            committed: None,
        }
    }

    pub(crate) fn partition(&self) -> &TopicPartition {
        self.assignment.partition()
    }

    /// Tells the writer to finish what it has begun.
    pub(crate) fn leave(&mut self) {
        self.is_leaving = true;
        self.assignment.drain.cancel();
    }

    /// What may be committed: the durable offset, or `position` (which control records may have moved
    /// past the last record) once every record is durable.
    pub(crate) fn committable(&self, position: Option<i64>) -> Option<i64> {
        let durable = self.assignment.position.durable()?;
        if self.is_fetched && durable >= self.next {
            Some(durable.max(position.unwrap_or(durable)))
        } else {
            Some(durable)
        }
    }
}

impl Holdings {
    pub(crate) fn get_mut(&mut self, topic: &str, partition: i32) -> Option<&mut Holding> {
        self.topics.get_mut(topic)?.get_mut(&partition)
    }

    /// Adds a partition, and returns the one that it replaces.
    pub(crate) fn insert(&mut self, holding: Holding) -> Option<Holding> {
        let TopicPartition { topic, partition } = holding.partition().clone();
        self.topics
            .entry(topic)
            .or_default()
            .insert(partition, holding)
    }

    pub(crate) fn remove(&mut self, partition: &TopicPartition) -> Option<Holding> {
        let of_topic = self.topics.get_mut(&partition.topic)?;
        let holding = of_topic.remove(&partition.partition);
        if of_topic.is_empty() {
            self.topics.remove(&partition.topic);
        }
        holding
    }

    pub(crate) fn len(&self) -> usize {
        self.topics.values().map(|of_topic| of_topic.len()).sum()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Holding> {
        self.topics.values().flat_map(|of_topic| of_topic.values())
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Holding> {
        self.topics
            .values_mut()
            .flat_map(|of_topic| of_topic.values_mut())
    }
}
