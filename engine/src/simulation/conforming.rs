//! The simulation's own target is one that does what every target must.

use std::collections::BTreeMap;

use crate::conformance::{Subject, check};

use super::dice::Dice;
use super::plan::Keeps;
use super::process;
use super::scene::Scene;
use super::schedule;
use super::shelf::Shelf;

/// The only topic's target, where nothing fails.
struct Calm(Scene);

impl Subject for Calm {
    type Target = Shelf;

    fn instance(&self) -> Shelf {
        Shelf::new(&self.0, process::machine(&self.0))
    }

    async fn rows(&self) -> BTreeMap<i64, i64> {
        self.0.world().stores[0].live_rows()
    }

    fn refused_text(&self) -> Option<String> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn the_simulated_target_conforms() {
    for keeps in [Keeps::Versions, Keeps::Offsets] {
        let is_kept = keeps == Keeps::Offsets;
        for (is_durable, sweeps_apart) in [(true, false), (is_kept, false), (true, !is_kept)] {
            let mut world = schedule::world(&mut Dice::new(1), None);
            world.faults.are_over = true;
            world.stores[0].keeps = keeps;
            world.plan.topics[0].is_durable = is_durable;
            world.plan.topics[0].sweeps_apart = sweeps_apart;
            check(&Calm(Scene::new(world)), "sim.s.t0").await;
        }
    }
}
