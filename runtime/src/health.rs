//! What `/health` and `/ready` say, and the server that says it.

use std::sync::{Arc, Mutex, PoisonError};

/// The service's own view of its state. Cheap to clone; all clones are one.
///
/// It starts alive, not ready, in the phase `starting`.
#[derive(Debug, Clone)]
pub struct Health {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Clone)]
struct State {
    phase: String,
    not_ready: Option<String>,
    not_alive: Option<String>,
}

impl Health {
    /// Alive, not ready, `starting`.
    pub fn new() -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                phase: "starting".to_owned(),
                not_ready: Some("starting".to_owned()),
                not_alive: None,
            })),
        }
    }

    /// Ready: it does its work (it streams, it has partitions). `reason` says why not, and is ignored when ready.
    pub fn set_ready(&self, ready: bool, reason: impl Into<String>) {
        self.update(|state| state.not_ready = (!ready).then(|| reason.into()));
    }

    /// Alive: it works, or waits for something that it tries again. Not alive: it is stuck and will not recover by itself.
    pub fn set_alive(&self, alive: bool, reason: impl Into<String>) {
        self.update(|state| state.not_alive = (!alive).then(|| reason.into()));
    }

    /// What it does now, in one or two words: `snapshot`, `streaming`, `waiting for the slot`.
    pub fn set_phase(&self, phase: impl Into<String>) {
        self.update(|state| state.phase = phase.into());
    }

    /// The phase set last.
    pub fn phase(&self) -> String {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .phase
            .clone()
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}
