//! Replays of letters, as somebody asks for them, and what must hold of them.

use std::time::Duration;

use tokio::time::Instant;

use crate::flow::batch::Batch;
use crate::sample::Deed;
use crate::write::replay::Order;
use crate::write::scan::Ranges;

use super::log::{named, place, topic_number};
use super::process;
use super::scene::{Scene, World};
use super::shelf;
use super::trace::{Spot, Step};

/// How long it may take without faults until all letters are replayed.
const CALM: Duration = Duration::from_secs(240);

/// What a replay may say that had to be given up without faults: the buffers of some schedules are that small.
const NO_ROOM: &str = "more records without a key than have room";

impl World {
    /// What is asked for to have all open letters replayed.
    fn orders(&self) -> Vec<Order> {
        let ranges = self.letterbox.ranges().into_iter();
        let orders = ranges.map(|(at, range)| {
            let of = named(&self.topics, at);
            Order {
                topic: of.topic,
                partition: of.partition,
                letters: Ranges::from([(0, range)]),
                keyless: true,
            }
        });
        orders.collect()
    }

    /// Somebody has an instance replay the letters that are open; whether it begins with that.
    pub(super) fn ask(&mut self, who: usize) -> bool {
        let orders = self.orders();
        if orders.is_empty() {
            return false;
        }
        let replays = &self.machines[who].lasting.replays;
        let is_taken = replays.ask(orders).is_ok();
        self.step(Step::Asked { who, is_taken });
        is_taken
    }

    /// What a replay writes is the newest of what the log has from the letters on, up to where the target stands.
    pub(super) fn check_replay(&mut self, who: usize, batch: &Batch) {
        let at = place(batch.partition());
        let Some((from, until)) = self.letterbox.pass(who, at) else {
            return self.find(|| format!("{at:?} is replayed, and no letter of it was read"));
        };
        for change in batch.changes() {
            let id = shelf::id(&change);
            let log = self.topics[at.0].partition(at.1);
            let newer = (from..until).find(|&offset| {
                let entered = log.get(offset).filter(|entered| entered.seq > change.seq);
                entered.is_some_and(|entered| entered.deed.id() == Some(id))
            });
            let offset = change.offset;
            self.must(newer.is_none(), || {
                format!("a replay writes row {id} of {at:?} as of {offset}, and there is {newer:?}")
            });
        }
    }

    /// Records that nothing mends, of tables that were not emptied since, and that have no letter.
    pub(super) fn without_letter(&self) -> Vec<(Spot, i64)> {
        let open = self.letterbox.open();
        let mut without = Vec::new();
        for at in self.places() {
            let log = self.topics[at.0].partition(at.1);
            let below = log.below();
            let junk = (log.low()..log.end()).filter(|&offset| {
                let entered = log.get(offset);
                entered.is_some_and(|entered| entered.deed == Deed::Junk && entered.seq >= below)
            });
            let junk = junk.map(|offset| (at, offset));
            without.extend(junk.filter(|junk| !open.contains(junk)));
        }
        without
    }

    /// Open letters that a replay must be able to end.
    fn unreplayed(&self) -> Vec<(Spot, i64)> {
        let open = self.letterbox.open().into_iter();
        let wanted = open.filter(|&((topic, partition), offset)| {
            let entered = self.topics[topic].partition(partition).get(offset);
            let is_junk = entered.is_none_or(|entered| entered.deed == Deed::Junk);
            !is_junk && !self.letterbox.too_many.contains(&(topic, partition))
        });
        wanted.collect()
    }
}

/// Has all letters replayed, by whoever has their partitions; whether that was in time.
pub(super) async fn replay_all(scene: &Scene) -> bool {
    let until = Instant::now() + CALM;
    let mut is_asked_for = true;
    loop {
        let living = scene.world().living();
        if living.is_empty() {
            process::start(scene);
        }
        // One that is still busy with a replay that was asked for amid faults may say that it met some.
        let mut asked = living.clone();
        asked.retain(|&who| is_asked_for && scene.world().ask(who));
        while living.iter().any(|&who| is_replaying(scene, who)) && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        for &who in &asked {
            hear(scene, who);
        }
        {
            let mut world = scene.world();
            // A letter of what the target does not know to be behind it yet is done with, and comes again with the record.
            let (left, without) = (world.unreplayed(), world.without_letter());
            if (left.is_empty() && without.is_empty()) || world.found.is_some() {
                return world.found.is_none();
            }
            if Instant::now() >= until {
                world.find(|| {
                    format!("these letters are not replayed: {left:?}; these have no letter: {without:?}")
                });
                return false;
            }
            is_asked_for = !left.is_empty();
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn is_replaying(scene: &Scene, who: usize) -> bool {
    let world = scene.world();
    world.living().contains(&who) && world.machines[who].lasting.replays.is_under_way()
}

/// What an instance says of the replay that has ended.
fn hear(scene: &Scene, who: usize) {
    let said = scene.world().machines[who].lasting.replays.report();
    for verdict in said["partitions"].as_array().into_iter().flatten() {
        let Some(reason) = verdict["reason"].as_str() else {
            continue;
        };
        let mut world = scene.world();
        let topic = topic_number(verdict["topic"].as_str().unwrap());
        let partition = i32::try_from(verdict["partition"].as_i64().unwrap()).unwrap();
        world.letterbox.too_many.insert((topic, partition));
        world.must(reason.contains(NO_ROOM), || {
            format!("instance {who} does not replay: {reason}")
        });
    }
}
