//! What keeps the sink from its work, for `/ready`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tributary_runtime::health::Health;

/// What is in the way now, by who reports it; ready while nothing is.
#[derive(Debug)]
pub(crate) struct Status {
    health: Health,
    obstacles: Mutex<BTreeMap<String, String>>,
}

impl Status {
    /// Not ready until `joining` is cleared.
    pub(crate) fn new(health: Health, joining: &str) -> Self {
        let status = Self {
            health,
            obstacles: Mutex::default(),
        };
        status.obstacle(joining, "waits for its first partitions");
        status
    }

    pub(crate) fn set_phase(&self, phase: String) {
        self.health.set_phase(phase);
    }

    /// `who` cannot go on because of `reason`, and tries again.
    pub(crate) fn obstacle(&self, who: &str, reason: &str) {
        self.update(|obstacles| {
            obstacles.insert(who.to_owned(), reason.to_owned());
        });
    }

    /// `who` goes on.
    pub(crate) fn clear(&self, who: &str) {
        self.update(|obstacles| {
            obstacles.remove(who);
        });
    }

    fn update(&self, change: impl FnOnce(&mut BTreeMap<String, String>)) {
        let mut obstacles = self
            .obstacles
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        change(&mut obstacles);
        match obstacles.iter().next() {
            None => self.health.set_ready(true, ""),
            Some((who, reason)) => {
                let others = match obstacles.len() {
                    1 => String::new(),
                    count => format!(" (and {} more)", count - 1),
                };
                self.health
                    .set_ready(false, format!("{who}: {reason}{others}"));
            }
        }
    }
}
