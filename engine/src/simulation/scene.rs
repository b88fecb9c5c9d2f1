//! All that is outside of the instances: Kafka, targets, faults, time; and what was found wrong.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;
use tributary_runtime::{Error, Result};

use crate::outside::given::Flaw;
use crate::write::instance::Lasting;
use crate::write::replay::room;

use super::coordinator::Coordinator;
use super::dice::Dice;
use super::letterbox::Letterbox;
use super::log::TopicLog;
use super::plan::{Plan, RECORD_BYTES};
use super::store::Store;
use super::trace::{Spot, Step, Trace};

/// What is asked for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Server {
    Kafka,
    Registry,
    Target,
}

/// A fault that is planted to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Planted {
    /// Offsets are committed one record too early.
    EarlyCommit,
    /// What was accepted is said to be durable.
    EarlyDurable,
    /// The engine has one.
    Engine(Flaw),
    /// A write leaves out its last record.
    LostRecord,
}

/// An instance, as its machine sees it.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) is_dead: bool,
    pub(super) has_ended: bool,
    pub(super) shutdown: tokio_util::sync::CancellationToken,
    pub(super) lasting: Lasting,
    pub(super) frozen_until: Instant,
    pub(super) held_up_until: Instant,
    /// When its poll thread last polled.
    pub(super) polled_at: Instant,
    /// Bytes of records that it has read and not written.
    pub(super) unwritten: BTreeMap<Spot, BTreeMap<i64, usize>>,
}

/// Faults that are on.
#[derive(Debug)]
pub(super) struct Faults {
    pub(super) are_over: bool,
    pub(super) target_away_until: Instant,
    pub(super) group_away_until: Instant,
    pub(super) registry_away_until: Instant,
}

/// Everything.
#[derive(Debug)]
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) planted: Option<Planted>,
    pub(super) dice: Dice,
    pub(super) trace: Trace,
    pub(super) topics: Vec<TopicLog>,
    pub(super) group: Coordinator,
    pub(super) stores: Vec<Store>,
    pub(super) letterbox: Letterbox,
    pub(super) machines: Vec<Machine>,
    pub(super) faults: Faults,
    pub(super) lanes: usize,
    pub(super) begun: Instant,
    /// What was found wrong first.
    pub(super) found: Option<String>,
}

/// The world, as everybody has it.
#[derive(Debug, Clone)]
pub(super) struct Scene(Arc<Mutex<World>>);

impl World {
    pub(super) fn step(&mut self, step: Step) {
        let at_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap();
        self.trace.push(at_ms, step);
    }

    /// Something is not as it must be.
    pub(super) fn find(&mut self, what: impl FnOnce() -> String) {
        if self.found.is_none() {
            let at_ms = self.begun.elapsed().as_millis();
            self.found = Some(format!("at {at_ms} ms: {}", what()));
        }
    }

    pub(super) fn must(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.find(what);
        }
    }

    /// All records of the place below this offset are in its target for good.
    pub(super) fn durable(&mut self, (topic, partition): Spot) -> i64 {
        let log = self.topics[topic].partition(partition);
        self.stores[topic].durable(partition, log)
    }

    pub(super) fn places(&self) -> Vec<Spot> {
        self.topics.iter().flat_map(TopicLog::places).collect()
    }

    /// Those that were started and are neither dead nor at their end.
    pub(super) fn living(&self) -> Vec<usize> {
        let machines = self.machines.iter().enumerate();
        machines
            .filter(|(_, machine)| !machine.is_dead && !machine.has_ended)
            .map(|(who, _)| who)
            .collect()
    }

    /// What an instance has read of these partitions is no matter any more.
    pub(super) fn forget_unwritten(&mut self, who: usize, places: &[Spot]) {
        for place in places {
            self.machines[who].unwritten.remove(place);
        }
    }

    /// What an instance holds must fit its budget, and one record; a replay has its part besides.
    pub(super) fn check_memory(&mut self, who: usize, held: usize) {
        let batch = self.plan.batch;
        let is_replaying = self.machines[who].lasting.replays.is_under_way();
        let of_replay = if is_replaying { room(batch) } else { 0 };
        let limit = batch.buffer_bytes + RECORD_BYTES + of_replay;
        let unwritten = self.machines[who].unwritten.values();
        let unwritten: usize = unwritten.flat_map(BTreeMap::values).sum();
        let held = held.max(unwritten);
        self.must(held <= limit, || {
            format!("instance {who} holds {held} bytes, {limit} are allowed")
        });
    }
}

impl Scene {
    pub(super) fn new(world: World) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// Returns while the instance's machine runs; never once it is dead.
    pub(super) async fn running(&self, who: usize) {
        loop {
            let frozen_until = {
                let world = self.world();
                let machine = &world.machines[who];
                if machine.is_dead {
                    None
                } else if machine.frozen_until <= Instant::now() {
                    return;
                } else {
                    Some(machine.frozen_until)
                }
            };
            match frozen_until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        }
    }

    /// The way of a request to a server, or of its answer back: takes its time, and may fail.
    ///
    /// # Errors
    /// Retry, now and then; stop, seldom.
    pub(super) async fn way(&self, who: usize, server: Server) -> Result<()> {
        self.running(who).await;
        let (wait, outcome) = self.world().lot(server);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
            self.running(who).await;
        }
        outcome
    }
}

impl World {
    /// How long a part of the way takes.
    pub(super) fn latency(&mut self) -> Duration {
        let longest_ms = if self.faults.are_over {
            self.plan.latency_ms.min(50)
        } else {
            self.plan.latency_ms
        };
        Duration::from_millis(self.dice.below(longest_ms + 1))
    }

    /// How long it takes, and what becomes of it.
    fn lot(&mut self, server: Server) -> (Duration, Result<()>) {
        let now = Instant::now();
        let wait = self.latency();
        if self.faults.are_over {
            return (wait, Ok(()));
        }
        let plan = &self.plan;
        let is_away = match server {
            Server::Kafka => self.faults.group_away_until,
            Server::Registry => self.faults.registry_away_until,
            Server::Target => self.faults.target_away_until,
        } > now;
        let wait = if server == Server::Target && self.dice.chance(plan.hangs) {
            Duration::from_millis(self.dice.between(4_000, 25_000))
        } else {
            wait
        };
        let outcome = if is_away || self.dice.chance(plan.fails) {
            Err(Error::retry_msg("injected: it fails"))
        } else if server == Server::Target && self.dice.chance(plan.stops) {
            Err(Error::stop_msg("injected: it stops"))
        } else {
            Ok(())
        };
        (wait, outcome)
    }
}
