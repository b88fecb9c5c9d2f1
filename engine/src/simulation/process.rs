//! An instance of the sink: the engine's own poll loop and lanes, step by step, on a machine that freezes and dies.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tributary_runtime::cli::Context;
use tributary_runtime::health::Health;
use tributary_runtime::shutdown::Gate;

use crate::config::{KafkaConfig, OnError, OnUnfitTarget, SinkConfig};
use crate::group::log_ends;
use crate::group::poll::Poll;
use crate::group::topic_watch;
use crate::topics::Subscription;
use crate::write::dead_letter::Letters;
use crate::write::instance::{Instance, Lasting};

use super::log::place;
use super::outskirts::Outskirts;
use super::plan::Plan;
use super::scene::{Machine, Scene};
use super::seat::{Polled, SimulatedCluster, SimulatedMember};
use super::shelf::Shelf;
use super::trace::Step;

type SimulatedPoll = Poll<Shelf, SimulatedMember, SimulatedCluster>;

/// Starts an instance.
pub(super) fn start(scene: &Scene) {
    let who = machine(scene);
    tokio::spawn(live(scene.clone(), who));
}

/// A machine to run an instance on. Returns its number.
pub(super) fn machine(scene: &Scene) -> usize {
    let mut world = scene.world();
    let now = Instant::now();
    world.machines.push(Machine {
        is_dead: false,
        has_ended: false,
        shutdown: CancellationToken::new(),
        lasting: Lasting::default(),
        frozen_until: now,
        held_up_until: now,
        polled_at: now,
        unwritten: std::collections::BTreeMap::new(),
    });
    let who = world.machines.len() - 1;
    world.step(Step::Started { who });
    who
}

/// From the start to the end, or the death.
async fn live(scene: Scene, who: usize) {
    let context = Context {
        shutdown: scene.world().machines[who].shutdown.clone(),
        health: Health::new(),
        gate: Gate::new(),
    };
    let lasting = scene.world().machines[who].lasting.clone();
    loop {
        let instance = instance(&scene, who, lasting.clone(), &context);
        if !membership(&scene, who, &instance).await {
            return;
        }
        if let Some(error) = instance.failure.take() {
            let mut world = scene.world();
            world.step(Step::Failed { who });
            let text = error.to_string();
            world.must(text.contains("injected"), || {
                format!("instance {who} stops: {text}")
            });
            break;
        }
        if !instance.failure.starts_over() || context.shutdown.is_cancelled() {
            break;
        }
    }
    let mut world = scene.world();
    world.step(Step::Ended { who });
    world.machines[who].has_ended = true;
}

fn instance(
    scene: &Scene,
    who: usize,
    lasting: Lasting,
    context: &Context,
) -> Arc<Instance<Shelf>> {
    let config = config(&scene.world().plan);
    let outskirts = Outskirts::new(scene, who);
    let letters = (config.on_error == OnError::DeadLetter)
        .then(|| Box::new(outskirts.clone()) as Box<dyn Letters>);
    let target = Arc::new(Shelf::new(scene, who));
    Arc::new(Instance::with(
        config, target, lasting, context, outskirts, letters,
    ))
}

fn config(plan: &Plan) -> SinkConfig {
    SinkConfig {
        name: "simulated".to_owned(),
        topics: vec!["sim.*".to_owned()],
        kafka: KafkaConfig {
            brokers: Vec::new(),
            registry: String::new(),
        },
        batch: plan.batch,
        on_error: if plan.has_letters {
            OnError::DeadLetter
        } else {
            OnError::Stop
        },
        dead_letter_topic: None,
        on_unfit_target: OnUnfitTarget::Rebuild,
    }
}

/// From joining the group to leaving it; whether the machine is alive still.
async fn membership(scene: &Scene, who: usize, instance: &Arc<Instance<Shelf>>) -> bool {
    let polled = Arc::new(Mutex::new(Polled::Something));
    let member = SimulatedMember::join(scene, who, Arc::clone(&polled));
    let cluster = member.cluster();
    let subscription = Subscription::new(&instance.config.topics).unwrap();
    let watching = topic_watch::watch(Arc::clone(instance), cluster.clone(), subscription);
    let _watching = AbortOnDropHandle::new(tokio::spawn(watching));
    let asking = log_ends::watch(Arc::clone(instance), cluster.clone());
    let _asking = AbortOnDropHandle::new(tokio::spawn(asking));
    let mut poll = Poll::new(Arc::clone(instance), member, cluster, Handle::current());
    loop {
        if !polls(scene, who).await {
            return false;
        }
        let goes_on = poll.step();
        check(scene, who, instance, &poll);
        if !goes_on {
            return true;
        }
        let polled = *polled.lock().unwrap();
        pause(scene, polled).await;
    }
}

/// Waits while the machine is frozen or the poll thread is held up; whether it is alive.
async fn polls(scene: &Scene, who: usize) -> bool {
    loop {
        let until = {
            let world = scene.world();
            let machine = &world.machines[who];
            if machine.is_dead {
                return false;
            }
            machine.frozen_until.max(machine.held_up_until)
        };
        if until <= Instant::now() {
            return true;
        }
        tokio::time::sleep_until(until).await;
    }
}

/// What a thread waits for, and for the machine to give it time again.
async fn pause(scene: &Scene, polled: Polled) {
    let (yields, sleep_ms) = {
        let dice = &mut scene.world().dice;
        match polled {
            Polled::Something => match dice.below(10) {
                0..5 => (0, 0),
                5..9 => (dice.between(1, 4), 0),
                _ => (0, dice.between(1, 5)),
            },
            Polled::Nothing(wait) => {
                let wait_ms = u64::try_from(wait.as_millis()).unwrap();
                let late_ms = dice.pick(&[0, 0, 5, 50, 100, 200]);
                (0, dice.between(1, wait_ms.max(1)) + late_ms)
            }
        }
    };
    for _ in 0..yields {
        tokio::task::yield_now().await;
    }
    if sleep_ms > 0 {
        tokio::time::sleep(Duration::from_millis(sleep_ms)).await;
    }
}

/// What must hold after each step of the poll loop.
fn check(scene: &Scene, who: usize, instance: &Instance<Shelf>, poll: &SimulatedPoll) {
    let mut world = scene.world();
    if instance.failure.stop.is_cancelled() {
        // What waited is dropped.
        world.machines[who].unwritten.clear();
    }
    // Nor is what comes of a partition that is to be let go for a replay taken any more.
    let leaving = poll.holdings().iter().filter(|holding| holding.is_leaving);
    let leaving: Vec<_> = leaving.map(|holding| place(holding.partition())).collect();
    world.forget_unwritten(who, &leaving);
    world.check_memory(who, instance.budget.held());
    for holding in poll.holdings().iter() {
        let (Some(claimed), true) = (holding.hold.durable(), holding.is_fetched) else {
            continue;
        };
        let at = place(holding.partition());
        if holding.hold.generation().as_ref() != world.stores[at.0].generation() {
            // What it says is of a target that is gone.
            continue;
        }
        let durable = world.durable(at);
        world.must(claimed <= durable, || {
            format!(
                "instance {who} takes {at:?} for durable up to {claimed}, and it is to {durable}"
            )
        });
    }
}
