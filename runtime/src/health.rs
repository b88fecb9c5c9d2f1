//! What `/health` and `/ready` say, and the server that says it.

mod server;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use server::Server;

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
    /// Why it is not ready.
    not_ready: Option<String>,
    /// Why it is not alive.
    not_alive: Option<String>,
    /// The shutdown has begun: nothing that the service says later makes it ready or alive again.
    stopping: bool,
}

impl Health {
    /// Alive, not ready, `starting`.
    pub fn new() -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                phase: "starting".to_owned(),
                not_ready: Some("starting".to_owned()),
                not_alive: None,
                stopping: false,
            })),
        }
    }

    /// Ready: it does its work (it streams, it has partitions). `reason` says why not, and is ignored when ready.
    pub fn set_ready(&self, ready: bool, reason: impl Into<String>) {
        self.lock().not_ready = (!ready).then(|| reason.into());
    }

    /// Alive: it works, or waits for something that it tries again. Not alive: it is stuck and will not
    /// recover by itself. `reason` says why not, and is ignored when alive.
    pub fn set_alive(&self, alive: bool, reason: impl Into<String>) {
        self.lock().not_alive = (!alive).then(|| reason.into());
    }

    /// What it does now, in one or two words: `snapshot`, `streaming`, `waiting for the slot`.
    pub fn set_phase(&self, phase: impl Into<String>) {
        self.lock().phase = phase.into();
    }

    /// The phase set last.
    pub fn phase(&self) -> String {
        self.lock().phase.clone()
    }

    /// Why it is not ready; `None` when it is.
    pub fn not_ready(&self) -> Option<String> {
        let state = self.lock();
        if state.stopping {
            return Some("stopping".to_owned());
        }
        state.not_ready.clone().or_else(|| state.not_alive.clone())
    }

    /// Why it is not alive; `None` when it is.
    pub fn not_alive(&self) -> Option<String> {
        let state = self.lock();
        if state.stopping {
            return Some("stopping".to_owned());
        }
        state.not_alive.clone()
    }

    /// The shutdown has begun: neither alive nor ready from here on.
    pub(crate) fn set_stopping(&self) {
        self.lock().stopping = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}
