//! A member of the group, and what it asks of the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::OwnedMessage;
use tokio::time::Instant;
use tributary_runtime::{Error, Result};

use crate::cluster::{Cluster, Committed, TopicFacts};
use crate::group::member::{Member, PartitionOffset, Reached, Rebalance};
use crate::topics::{Subscription, TopicPartition};

use super::coordinator::{Fetched, Told};
use super::log::{named, place, topic_number};
use super::scene::{Planted, Scene, Server, World};
use super::trace::{Spot, Step};

/// How a poll has ended, for whoever drives the poll loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Polled {
    Something,
    /// Nothing came within this time.
    Nothing(Duration),
}

/// A member.
pub(super) struct SimulatedMember {
    scene: Scene,
    who: usize,
    seat: u32,
    polled: std::sync::Arc<Mutex<Polled>>,
}

/// The cluster, as one member asks it.
#[derive(Clone)]
pub(super) struct SimulatedCluster {
    scene: Scene,
    who: usize,
    seat: u32,
}

impl SimulatedMember {
    pub(super) fn join(scene: &Scene, who: usize, polled: std::sync::Arc<Mutex<Polled>>) -> Self {
        let seat = {
            let mut world = scene.world();
            let seat = world.group.join(who);
            world.step(Step::Joined { who, seat });
            seat
        };
        Self {
            scene: scene.clone(),
            who,
            seat,
            polled,
        }
    }

    pub(super) fn cluster(&self) -> SimulatedCluster {
        SimulatedCluster {
            scene: self.scene.clone(),
            who: self.who,
            seat: self.seat,
        }
    }

    fn pause_all(&self, partitions: &[&TopicPartition], paused: bool) {
        let mut world = self.scene.world();
        for partition in partitions {
            let (seat, at) = (self.seat, place(partition));
            world.step(Step::Paused { seat, at, paused });
            let seat = world.group.seats.get_mut(&seat).unwrap();
            if paused {
                seat.paused.insert(at);
            } else {
                seat.paused.remove(&at);
            }
            let is_fetched = seat.fetched.contains_key(&at);
            world.must(is_fetched, || {
                format!("{partition} is paused and not fetched")
            });
        }
    }

    fn polled(&self, polled: Polled) {
        *self.polled.lock().unwrap() = polled;
    }
}

impl Member for SimulatedMember {
    type Record<'a> = OwnedMessage;

    fn poll(&self, wait: Duration) -> Option<Result<OwnedMessage, KafkaError>> {
        let mut world = self.scene.world();
        world.machines[self.who].polled_at = Instant::now();
        let polled = world.poll(self.who, self.seat);
        self.polled(match polled {
            Some(_) => Polled::Something,
            None => Polled::Nothing(wait),
        });
        polled
    }

    fn rest(&self, time: Duration) {
        self.polled(Polled::Nothing(time));
    }

    fn next_rebalance(&self) -> Option<Rebalance> {
        let mut world = self.scene.world();
        let told = world.group.tell(self.seat)?;
        let named = |world: &World, places: &[Spot]| {
            let places = places.iter();
            places.map(|&at| named(&world.topics, at)).collect()
        };
        Some(match told {
            Told::Assigned(places) => Rebalance::Assigned(named(&world, &places)),
            Told::Revoked { places, lost } => {
                // What is to be let go is not taken any more.
                world.forget_unwritten(self.who, &places);
                let partitions = named(&world, &places);
                Rebalance::Revoked { partitions, lost }
            }
        })
    }

    fn assign(&self, places: &[PartitionOffset<'_>]) -> Result<()> {
        let mut world = self.scene.world();
        let number = self.seat;
        for (partition, offset) in places {
            let (at, offset) = (place(partition), *offset);
            let seat = number;
            world.step(Step::Fetched { seat, at, offset });
            let is_owner = world.group.owners.get(&at) == Some(&seat);
            let is_member = world.group.takes_commits_of(seat);
            world.must(is_owner || !is_member, || {
                format!("{partition} is fetched by a member that does not have it")
            });
            let fetched = Fetched { next: offset };
            let seat = world.group.seats.get_mut(&number).unwrap();
            seat.fetched.insert(at, fetched);
        }
        let seat = world.group.seats.get_mut(&number).unwrap();
        if matches!(seat.unanswered, Some(Told::Assigned(_))) {
            seat.unanswered = None;
        }
        Ok(())
    }

    fn unassign(&self, partitions: &[TopicPartition]) -> Result<()> {
        let mut world = self.scene.world();
        let places: Vec<_> = partitions.iter().map(place).collect();
        world.forget_unwritten(self.who, &places);
        let given = world.group.gives_back(self.seat);
        let seat = self.seat;
        for at in given {
            world.step(Step::LetGo { seat, at });
        }
        let seat = world.group.seats.get_mut(&seat).unwrap();
        seat.fetched.retain(|at, _| !places.contains(at));
        Ok(())
    }

    fn has_lost(&self) -> bool {
        self.scene.world().group.seats[&self.seat].has_lost
    }

    fn pause(&self, partitions: &[&TopicPartition]) -> Result<()> {
        self.pause_all(partitions, true);
        Ok(())
    }

    fn resume(&self, partitions: &[&TopicPartition]) -> Result<()> {
        self.pause_all(partitions, false);
        Ok(())
    }

    fn commit(&self, places: &[Reached<'_>]) -> KafkaResult<()> {
        let mut world = self.scene.world();
        world.commit_or_fail(self.seat, places)
    }

    fn begin_commit(&self, places: &[Reached<'_>]) -> KafkaResult<()> {
        let mut world = self.scene.world();
        if world.commit_or_fail(self.seat, places).is_err() {
            let seat = world.group.seats.get_mut(&self.seat).unwrap();
            seat.commit_failed = true;
        }
        Ok(())
    }

    fn take_commit_failed(&self) -> bool {
        let mut world = self.scene.world();
        let seat = world.group.seats.get_mut(&self.seat).unwrap();
        std::mem::take(&mut seat.commit_failed)
    }

    fn positions(&self) -> Vec<(TopicPartition, i64)> {
        let world = self.scene.world();
        let fetched = world.group.seats[&self.seat].fetched.iter();
        fetched
            .map(|(&at, fetched)| (named(&world.topics, at), fetched.next))
            .collect()
    }

    fn last_reason(&self) -> String {
        "injected".to_owned()
    }

    fn log_of(&self, partition: &TopicPartition) -> Result<(i64, i64)> {
        Ok(self.scene.world().log_of(partition))
    }

    fn close(&self) {
        let mut world = self.scene.world();
        let seat = world.group.seats.get_mut(&self.seat).unwrap();
        seat.is_closing = true;
    }
}

/// A member that is dropped leaves the group; one whose machine dies says nothing.
impl Drop for SimulatedMember {
    fn drop(&mut self) {
        let mut world = self.scene.world();
        if !world.machines[self.who].is_dead {
            let seat = self.seat;
            world.group.leave(seat);
            world.step(Step::Left { seat });
        }
    }
}

impl World {
    fn log_of(&self, partition: &TopicPartition) -> (i64, i64) {
        let (topic, number) = place(partition);
        let log = self.topics[topic].partition(number);
        (log.low(), log.end())
    }

    /// The next record of one of the partitions that are fetched.
    fn poll(&mut self, who: usize, number: u32) -> Option<Result<OwnedMessage, KafkaError>> {
        let are_over = self.faults.are_over;
        if !are_over && self.dice.chance(self.plan.fails / 4) {
            let code = RDKafkaErrorCode::BrokerTransportFailure;
            return Some(Err(KafkaError::MessageConsumption(code)));
        }
        if !are_over && (self.faults.group_away_until > Instant::now() || self.dice.chance(100)) {
            return None;
        }
        let seat = self.group.seats.get_mut(&number)?;
        let mut ready = Vec::new();
        for (&(topic, partition), fetched) in &mut seat.fetched {
            let log = self.topics[topic].partition(partition);
            if !seat.paused.contains(&(topic, partition)) {
                // A marker is passed over.
                fetched.next = log.next_record(fetched.next);
                if fetched.next < log.end() {
                    ready.push((topic, partition));
                }
            }
        }
        if ready.is_empty() {
            return None;
        }
        let at = self.dice.pick(&ready);
        let gives = seat.gives();
        let fetched = seat.fetched.get_mut(&at)?;
        let offset = fetched.next;
        fetched.next += 1;
        let entered = self.topics[at.0].partition(at.1).get(offset)?;
        let (message, bytes) = (entered.message(), entered.bytes());
        let seat = number;
        self.step(Step::Read { seat, at, offset });
        if !gives.contains(&at) {
            let unwritten = self.machines[who].unwritten.entry(at).or_default();
            unwritten.insert(offset, bytes);
        }
        Some(Ok(message))
    }

    fn commit_or_fail(&mut self, seat: u32, places: &[Reached<'_>]) -> KafkaResult<()> {
        let are_over = self.faults.are_over;
        let is_away = self.faults.group_away_until > Instant::now();
        let fails = !are_over && (is_away || self.dice.chance(self.plan.fails / 2));
        let is_lost = fails && self.dice.chance(500);
        if !self.group.takes_commits_of(seat) || (fails && !is_lost) {
            self.step(Step::CommitFailed { seat });
            let code = RDKafkaErrorCode::IllegalGeneration;
            return Err(KafkaError::ConsumerCommit(code));
        }
        for reached in places {
            let (at, mut offset) = (place(reached.partition), reached.offset);
            if self.planted == Some(Planted::EarlyCommit) {
                offset += 1;
            }
            let generation = reached.generation.clone();
            self.commit(seat, at, Committed { offset, generation });
        }
        if is_lost {
            let code = RDKafkaErrorCode::OperationTimedOut;
            return Err(KafkaError::ConsumerCommit(code));
        }
        Ok(())
    }

    /// An offset is committed: everything below must be in the target for good.
    fn commit(&mut self, seat: u32, at: Spot, committed: Committed) {
        let offset = committed.offset;
        self.step(Step::Committed { seat, at, offset });
        let is_owner = self.group.owners.get(&at) == Some(&seat);
        self.must(is_owner, || {
            format!("{at:?} is committed by a member that does not have it")
        });
        let durable = self.durable(at);
        let current = self.stores[at.0].generation();
        let is_current = current.is_some_and(|current| {
            let generation = committed.generation.as_ref();
            generation.is_none_or(|generation| generation == current)
        });
        self.must(offset <= durable || !is_current, || {
            format!("{at:?}: {offset} is committed, and durable is {durable}")
        });
        self.group.committed.insert(at, committed);
    }
}

impl Cluster for SimulatedCluster {
    async fn topic(&self, topic: &str) -> Result<TopicFacts> {
        self.scene.way(self.who, Server::Kafka).await?;
        let world = self.scene.world();
        let number = topic_number(topic);
        Ok(TopicFacts {
            id: Some(format!("id-{number}")),
            partitions: world.plan.topics[number].partitions,
            tombstones_live: Some(Duration::from_millis(world.plan.tombstones_ms)),
        })
    }

    async fn ids(&self, topics: &[String]) -> Result<BTreeMap<String, Option<String>>> {
        self.scene.way(self.who, Server::Kafka).await?;
        let topics = topics.iter();
        Ok(topics
            .map(|topic| {
                let id = format!("id-{}", topic_number(topic));
                (topic.clone(), Some(id))
            })
            .collect())
    }

    async fn unassigned(&self, _subscription: &Subscription) -> Result<BTreeSet<TopicPartition>> {
        self.scene.way(self.who, Server::Kafka).await?;
        let world = self.scene.world();
        let places = world.places().into_iter();
        let unassigned = places.filter(|at| !world.group.owners.contains_key(at));
        Ok(unassigned.map(|at| named(&world.topics, at)).collect())
    }

    async fn log_of(&self, partition: &TopicPartition) -> Result<(i64, i64)> {
        self.scene.way(self.who, Server::Kafka).await?;
        Ok(self.scene.world().log_of(partition))
    }

    async fn ends(&self, partitions: &[TopicPartition]) -> Result<Vec<Option<i64>>> {
        self.scene.way(self.who, Server::Kafka).await?;
        let world = self.scene.world();
        let ends = partitions.iter();
        Ok(ends
            .map(|partition| Some(world.log_of(partition).1))
            .collect())
    }

    async fn committed(&self, partition: &TopicPartition) -> Result<Option<Committed>> {
        self.scene.way(self.who, Server::Kafka).await?;
        let world = self.scene.world();
        Ok(world.group.committed.get(&place(partition)).cloned())
    }

    async fn commit(&self, partition: &TopicPartition, offset: i64) -> Result<()> {
        self.scene.way(self.who, Server::Kafka).await?;
        let mut world = self.scene.world();
        if !world.group.takes_commits_of(self.seat) {
            return Err(Error::retry_msg("injected: it is no member"));
        }
        let generation = None;
        let seat = self.seat;
        world.commit(seat, place(partition), Committed { offset, generation });
        Ok(())
    }
}
