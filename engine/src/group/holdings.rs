//! The partitions that this instance holds, as the poll thread sees them, by topic: a topic's partitions are one lane's.

use std::collections::BTreeMap;
use std::sync::Arc;

use ahash::{AHashMap, RandomState};
use metrics::Gauge;

use crate::metrics::LAG;
use crate::topics::TopicPartition;
use crate::write::hold::Hold;
use crate::write::lane::LaneHandle;

/// A topic of which partitions are held, and its lane.
#[derive(Debug)]
pub(crate) struct TopicHeld {
    pub(crate) lane: LaneHandle,
    /// Fetching is suspended because the lane holds all that it may.
    pub(crate) is_paused: bool,
    pub(crate) partitions: BTreeMap<i32, Holding>,
}

/// A partition from its assignment until it is let go.
#[derive(Debug)]
pub(crate) struct Holding {
    pub(crate) hold: Arc<Hold>,
    /// It is fetched: its start was known and given to the group's client.
    pub(crate) is_fetched: bool,
    /// It is to be let go: what still comes is not taken.
    pub(crate) is_leaving: bool,
    /// The offset after the last record taken. Meaningful once fetched.
    pub(crate) next: i64,
    /// What the group has as committed, as far as known.
    pub(crate) committed: Option<i64>,
    /// Where control records have moved reading beyond `next`.
    pub(crate) position: i64,
    lag: Gauge,
}

/// All partitions. What is done for each of them has the same order in every process.
#[derive(Debug)]
pub(crate) struct Holdings {
    topics: AHashMap<String, TopicHeld>,
}

impl Default for Holdings {
    fn default() -> Self {
        let hasher = RandomState::with_seeds(1, 2, 3, 4);
        Self {
            topics: AHashMap::with_hasher(hasher),
        }
    }
}

impl TopicHeld {
    pub(crate) const fn new(lane: LaneHandle) -> Self {
        Self {
            lane,
            is_paused: false,
            partitions: BTreeMap::new(),
        }
    }

    /// Those that are fetched.
    pub(crate) fn fetched(&self) -> Vec<&TopicPartition> {
        self.partitions
            .values()
            .filter(|holding| holding.is_fetched)
            .map(Holding::partition)
            .collect()
    }
}

impl Holding {
    pub(crate) fn new(hold: Arc<Hold>) -> Self {
        let TopicPartition { topic, partition } = hold.partition();
        let lag =
            metrics::gauge!(LAG, "topic" => topic.clone(), "partition" => partition.to_string());
        lag.set(f64::NAN);
        Self {
            hold,
            is_fetched: false,
            is_leaving: false,
            next: 0,
            committed: None,
            position: 0,
            lag,
        }
    }

    pub(crate) fn partition(&self) -> &TopicPartition {
        self.hold.partition()
    }

    /// What may be committed: the durable offset, or where control records have moved reading past the last record, once
    /// every record is durable.
    pub(crate) fn committable(&self) -> Option<i64> {
        let durable = self.hold.durable()?;
        if self.is_fetched && durable >= self.next {
            Some(durable.max(self.position))
        } else {
            Some(durable)
        }
    }

    /// Tells the metrics how far behind it is.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a lag of 2^53 records is out of reach"
    )]
    pub(crate) fn show_lag(&self) {
        // 0 would say that all is well.
        let lag = self.hold.behind().map_or(f64::NAN, |behind| behind as f64);
        self.lag.set(lag);
    }

    /// It is no longer this instance's.
    pub(crate) fn forget_lag(&self) {
        self.lag.set(0.0);
    }

    /// What is to be committed.
    pub(crate) fn uncommitted(&self) -> Option<i64> {
        self.committable()
            .filter(|&offset| self.is_fetched && self.committed.is_none_or(|had| offset > had))
    }
}

impl Holdings {
    pub(crate) fn topic_mut(&mut self, topic: &str) -> Option<&mut TopicHeld> {
        self.topics.get_mut(topic)
    }

    pub(crate) fn get_mut(&mut self, partition: &TopicPartition) -> Option<&mut Holding> {
        let held = self.topics.get_mut(&partition.topic)?;
        held.partitions.get_mut(&partition.partition)
    }

    pub(crate) fn get(&self, partition: &TopicPartition) -> Option<&Holding> {
        let held = self.topics.get(&partition.topic)?;
        held.partitions.get(&partition.partition)
    }

    /// The topic; with a new lane where none of its partitions is held.
    pub(crate) fn topic_or_insert(
        &mut self,
        topic: &str,
        lane: impl FnOnce() -> LaneHandle,
    ) -> &mut TopicHeld {
        self.topics
            .entry(topic.to_owned())
            .or_insert_with(|| TopicHeld::new(lane()))
    }

    /// Forgets a partition, and the topic's lane with the last one.
    pub(crate) fn remove(&mut self, partition: &TopicPartition) -> Option<Holding> {
        let held = self.topics.get_mut(&partition.topic)?;
        let holding = held.partitions.remove(&partition.partition);
        if held.partitions.is_empty() {
            self.topics.remove(&partition.topic);
        }
        holding
    }

    pub(crate) fn topics(&self) -> impl Iterator<Item = (&String, &TopicHeld)> {
        self.topics.iter()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Holding> {
        self.topics
            .values()
            .flat_map(|held| held.partitions.values())
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Holding> {
        let topics = self.topics.values_mut();
        topics.flat_map(|held| held.partitions.values_mut())
    }
}
