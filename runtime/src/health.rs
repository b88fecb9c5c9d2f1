//! What `/health`, `/ready` and `/status` say, and the server that says it.

pub mod server;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::{Error, Result};

/// The service's own view of its state. Cheap to clone; all clones are one.
///
/// It starts alive, not ready, in the phase `starting`.
#[derive(Debug, Clone)]
pub struct Health {
    state: Arc<Mutex<State>>,
}

/// Makes the service's own part of `/status`.
type Details = Arc<dyn Fn() -> Value + Send + Sync>;

/// Does what somebody asks of the running service, by name and with arguments.
type Control = Arc<dyn Fn(&str, &Value) -> Result<Value> + Send + Sync>;

/// Makes the notes.
type Notes = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

struct State {
    phase: String,
    /// Why it is not ready.
    not_ready: Option<String>,
    /// The shutdown has begun: nothing that the service says later makes it ready or alive again.
    stopping: bool,
    /// What somebody should look at although the work goes on, by subject.
    warnings: BTreeMap<&'static str, String>,
    details: Option<Details>,
    notes: Option<Notes>,
    control: Option<Control>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("phase", &self.phase)
            .field("not_ready", &self.not_ready)
            .field("stopping", &self.stopping)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

impl Health {
    /// Alive, not ready, `starting`.
    pub fn new() -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                phase: "starting".to_owned(),
                not_ready: Some("starting".to_owned()),
                stopping: false,
                warnings: BTreeMap::new(),
                details: None,
                notes: None,
                control: None,
            })),
        }
    }

    /// Ready: it does its work (it streams, it has partitions). `reason` says why not, and is ignored when ready.
    pub fn set_ready(&self, ready: bool, reason: impl Into<String>) {
        self.lock().not_ready = (!ready).then(|| reason.into());
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
        state.not_ready.clone()
    }

    /// Why it is not alive; `None` when it is: while it works, or waits for something that it tries again.
    pub fn not_alive(&self) -> Option<String> {
        self.lock().stopping.then(|| "stopping".to_owned())
    }

    /// What somebody should look at although the work goes on: a lag, a slot that holds much WAL. One per
    /// `subject`; `None` when it is over. Returns whether it begins or ends now.
    pub fn set_warning(&self, subject: &'static str, warning: Option<String>) -> bool {
        let warnings = &mut self.lock().warnings;
        match warning {
            Some(warning) => warnings.insert(subject, warning).is_none(),
            None => warnings.remove(subject).is_some(),
        }
    }

    /// The warnings that are in force.
    pub fn warnings(&self) -> Vec<String> {
        self.lock().warnings.values().cloned().collect()
    }

    /// Says how to make the service's own part of `/status`; called for each request, so it must not wait.
    pub fn set_details(&self, details: impl Fn() -> Value + Send + Sync + 'static) {
        self.lock().details = Some(Arc::new(details));
    }

    /// The service's own part of `/status`; null where it has none.
    pub fn details(&self) -> Value {
        // Called without the lock: it may look at this state itself.
        let details = self.lock().details.clone();
        details.map_or(Value::Null, |details| details())
    }

    /// Says how to make the notes: what somebody should know although nothing is wrong, as long as the service is set up
    /// as it is. Called for each request, so it must not wait.
    pub fn set_notes(&self, notes: impl Fn() -> Vec<String> + Send + Sync + 'static) {
        self.lock().notes = Some(Arc::new(notes));
    }

    /// The notes; none where the service has none.
    pub fn notes(&self) -> Vec<String> {
        let notes = self.lock().notes.clone();
        notes.map_or_else(Vec::new, |notes| notes())
    }

    /// Says how to do what somebody asks of the service while it runs: the name of the request and its arguments, and what to
    /// answer. It must not wait. A request of another name is an error.
    pub fn set_control(
        &self,
        control: impl Fn(&str, &Value) -> Result<Value> + Send + Sync + 'static,
    ) {
        self.lock().control = Some(Arc::new(control));
    }

    /// Does what somebody asks.
    ///
    /// # Errors
    /// Stop: the service takes no such request, or not now.
    pub fn control(&self, name: &str, arguments: &Value) -> Result<Value> {
        let control = self.lock().control.clone();
        match control {
            Some(control) => control(name, arguments),
            None => Err(Error::stop_msg("the service takes no requests now")
                .remedy("ask again once it is at work")),
        }
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
