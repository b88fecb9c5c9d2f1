//! One schedule: faults for a while, then none; then everything must be where it belongs.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::outside::given;

use super::coordinator::Coordinator;
use super::dice::Dice;
use super::letterbox::Letterbox;
use super::log::TopicLog;
use super::plan::Plan;
use super::process;
use super::replays;
use super::scene::{Faults, Planted, Scene, World};
use super::store::Store;
use super::trace::{Spot, Step, Trace};
use crate::cluster::Committed;

/// 2027: the time of day at which every simulation begins.
const BEGIN_MS: i64 = 1_800_000_000_000;

/// How many instances there are at most.
const INSTANCES: usize = 3;

/// How long it may take without faults until all is written and committed. Some requests hang, and a back-off lasts.
const CALM: Duration = Duration::from_secs(180);

/// How long an instance may take for its end.
const END: Duration = Duration::from_secs(60);

/// What has come of a schedule.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) seed: u64,
    pub(super) plan: Plan,
    pub(super) trace: Trace,
    /// What was found wrong first.
    pub(super) found: Option<String>,
}

/// Runs the schedule of a seed in this thread.
pub(super) fn run(seed: u64, planted: Option<Planted>) -> Ran {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let scene = runtime.block_on(async {
        let mut dice = Dice::new(seed);
        let mut chance = dice.fork();
        let random = move || u32::try_from(chance.roll() >> 32).unwrap();
        given::begin(BEGIN_MS, Box::new(random));
        given::plant(match planted {
            Some(Planted::Engine(flaw)) => Some(flaw),
            _ => None,
        });
        let scene = Scene::new(world(&mut dice, planted));
        whole(&scene, &mut dice).await;
        scene
    });
    drop(runtime);
    given::end();
    given::plant(None);
    let mut world = scene.world();
    Ran {
        seed,
        plan: world.plan.clone(),
        trace: std::mem::take(&mut world.trace),
        found: world.found.take(),
    }
}

pub(super) fn world(dice: &mut Dice, planted: Option<Planted>) -> World {
    let plan = Plan::draw(dice);
    let now = Instant::now();
    let topics = plan.topics.iter().enumerate();
    World {
        topics: topics
            .map(|(number, topic)| TopicLog::new(number, topic.clone(), dice))
            .collect(),
        stores: plan.topics.iter().map(Store::new).collect(),
        dice: dice.fork(),
        plan,
        planted,
        trace: Trace::default(),
        group: Coordinator::default(),
        letterbox: Letterbox::default(),
        machines: Vec::new(),
        faults: Faults {
            are_over: false,
            target_away_until: now,
            group_away_until: now,
            registry_away_until: now,
        },
        lanes: 0,
        begun: now,
        found: None,
    }
}

async fn whole(scene: &Scene, dice: &mut Dice) {
    tokio::spawn(coordinate(scene.clone(), dice.fork()));
    let producing = tokio::spawn(produce(scene.clone(), dice.fork()));
    let faults_ms = scene.world().plan.faults_ms;
    let until = Instant::now() + Duration::from_millis(faults_ms);
    process::start(scene);
    while Instant::now() < until && scene.world().found.is_none() {
        misfortune(scene, dice);
        tokio::time::sleep(Duration::from_millis(dice.between(10, 3_000))).await;
    }
    heal(scene);
    producing.await.unwrap();
    if settles(scene).await {
        compare(scene);
        let has_replays = scene.world().plan.has_replays;
        if has_replays && !(replays::replay_all(scene).await && settles(scene).await) {
            return;
        }
        compare(scene);
        end(scene).await;
        compare(scene);
    }
}

/// The coordinator's own doings.
async fn coordinate(scene: Scene, mut dice: Dice) {
    loop {
        tokio::time::sleep(Duration::from_millis(dice.between(20, 400))).await;
        let mut world = scene.world();
        let now = Instant::now();
        let machines = world.machines.iter().enumerate();
        let answers: BTreeSet<usize> = machines
            .filter(|(_, machine)| !machine.is_dead && machine.frozen_until <= now)
            .map(|(who, _)| who)
            .collect();
        let places = world.places();
        for step in world.group.work(&places, &answers, &mut dice) {
            world.step(step);
        }
    }
}

/// The source writes, as long as there are faults and a little longer.
async fn produce(scene: Scene, mut dice: Dice) {
    let (records, burst, faults_ms) = {
        let plan = &scene.world().plan;
        (plan.records, plan.burst, plan.faults_ms)
    };
    let pause_ms = faults_ms * burst / records;
    let mut produced = 0;
    while produced < records && scene.world().found.is_none() {
        {
            let mut world = scene.world();
            let count = dice.between(1, burst);
            produced += count;
            let topics = world.plan.topics.len() as u64;
            let has_junk = world.plan.has_letters;
            for _ in 0..count {
                let topic = usize::try_from(dice.below(topics)).unwrap();
                for (at, offset) in world.topics[topic].produce(&mut dice, has_junk) {
                    world.step(Step::Produced { at, offset });
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(dice.between(1, pause_ms.max(1)))).await;
    }
}

/// Something happens to an instance, to a server, or to the group.
fn misfortune(scene: &Scene, dice: &mut Dice) {
    let living = scene.world().living();
    if living.is_empty() || (living.len() < INSTANCES && dice.chance(250)) {
        process::start(scene);
        return;
    }
    let who = dice.pick(&living);
    let mut world = scene.world();
    let now = Instant::now();
    let ms = dice.pick(&[50, 500, 3_000, 8_000, 15_000]);
    let until = now + Duration::from_millis(ms);
    match dice.below(if world.plan.has_replays { 16 } else { 13 }) {
        0 => {
            world.machines[who].is_dead = true;
            world.step(Step::Killed { who });
        }
        1 => {
            world.machines[who].shutdown.cancel();
            world.step(Step::Shutdown { who });
        }
        2 | 3 => {
            world.machines[who].frozen_until = until;
            world.step(Step::Frozen { who, ms });
        }
        4 | 5 => {
            world.machines[who].held_up_until = until;
            world.step(Step::HeldUp { who, ms });
        }
        6 => {
            world.faults.target_away_until = until;
            world.step(Step::TargetAway { ms });
        }
        7 => {
            world.faults.group_away_until = until;
            world.step(Step::GroupAway { ms });
        }
        8 => {
            world.faults.registry_away_until = until;
            world.step(Step::RegistryAway { ms });
        }
        9 | 10 => {
            world.group.turn();
            world.step(Step::Moved);
        }
        11 if world.plan.loses_targets => {
            let topic = dice.below(world.topics.len() as u64);
            let topic = usize::try_from(topic).unwrap();
            world.stores[topic].vanish();
            world.step(Step::Gone { topic });
        }
        12 => {
            let topic = dice.below(world.topics.len() as u64);
            let topic = usize::try_from(topic).unwrap();
            world.group.overlook(topic);
            world.step(Step::Overlooked { topic });
        }
        13 => {
            let topic = dice.below(world.topics.len() as u64);
            let topic = usize::try_from(topic).unwrap();
            world.stores[topic].is_mended = true;
            world.step(Step::Mended { topic });
        }
        14 | 15 => {
            world.ask(who);
        }
        _ => {}
    }
}

/// All faults are over. One instance is there at least.
fn heal(scene: &Scene) {
    let none_is_left = {
        let mut world = scene.world();
        world.step(Step::Healed);
        world.faults.are_over = true;
        let is_mended = world.plan.has_replays;
        for store in &mut world.stores {
            store.is_mended |= is_mended;
        }
        let now = Instant::now();
        for machine in &mut world.machines {
            machine.frozen_until = machine.frozen_until.min(now);
            machine.held_up_until = machine.held_up_until.min(now);
        }
        world.living().is_empty()
    };
    if none_is_left {
        process::start(scene);
    }
}

/// Waits until all that was produced is committed; whether it was in time.
async fn settles(scene: &Scene) -> bool {
    let until = Instant::now() + CALM;
    loop {
        tokio::time::sleep(Duration::from_millis(250)).await;
        {
            let mut world = scene.world();
            if world.found.is_some() {
                return false;
            }
            let open = uncommitted(&world, of_this_target);
            if open.is_empty() {
                return true;
            }
            if Instant::now() >= until {
                world
                    .find(|| format!("(place, committed, end) of what is not committed: {open:?}"));
                return false;
            }
        }
        // The last one may have stopped, of what had happened to it before.
        if scene.world().living().is_empty() {
            process::start(scene);
        }
    }
}

/// The partitions that are not committed to their ends by a commit that `counts`, with what is.
fn uncommitted(
    world: &World,
    counts: impl Fn(&Committed, Option<&String>) -> bool,
) -> Vec<(Spot, Option<i64>, i64)> {
    let places = world.places().into_iter();
    let standing = places.map(|at| {
        let end = world.topics[at.0].partition(at.1).end();
        let committed = world.group.committed.get(&at);
        let current = world.stores[at.0].generation();
        let committed = committed.filter(|committed| counts(committed, current));
        (at, committed.map(|committed| committed.offset), end)
    });
    standing
        .filter(|&(_, committed, end)| committed != Some(end))
        .collect()
}

/// What was committed of another target says nothing of this one.
fn of_this_target(committed: &Committed, current: Option<&String>) -> bool {
    let generation = committed.generation.as_ref();
    generation.is_none() || generation == current
}

/// Each target must hold what its log says.
fn compare(scene: &Scene) {
    let mut world = scene.world();
    let without = world.without_letter();
    world.must(without.is_empty(), || {
        format!("these have no letter: {without:?}")
    });
    let aside = world.letterbox.open();
    for number in 0..world.topics.len() {
        let (mut expected, open) = world.topics[number].fold(&aside);
        let mut rows = world.stores[number].live_rows();
        for id in open {
            expected.remove(&id);
            rows.remove(&id);
        }
        world.must(rows == expected, || {
            format!("topic {number} has {rows:?}, and its log says {expected:?}")
        });
    }
}

/// All instances end, and with them nothing that is committed is lost.
async fn end(scene: &Scene) {
    let living = scene.world().living();
    for who in living {
        let mut world = scene.world();
        world.machines[who].shutdown.cancel();
        world.step(Step::Shutdown { who });
    }
    let until = Instant::now() + END;
    while !scene.world().living().is_empty() {
        if Instant::now() >= until {
            let living = scene.world().living();
            scene
                .world()
                .find(|| format!("instances {living:?} do not end"));
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut world = scene.world();
    // One that was assigned just now may have another target in mind than there is, and not have noticed.
    let mut open = uncommitted(&world, |_, _| true);
    // One that begins at a target's own offset is behind the last record, and has not read over the markers there yet.
    open.retain(|&((topic, partition), committed, end)| {
        let log = world.topics[topic].partition(partition);
        committed.is_none_or(|committed| log.next_record(committed) < end)
    });
    world.must(open.is_empty(), || {
        format!("at the end these are not committed: {open:?}")
    });
}
