//! What a command tries again, that no service does in its stead.

use std::time::Duration;

use tributary_runtime::retry::Backoff;
use tributary_runtime::{Policy, Result};

use crate::snapshot;

/// How often a request is tried that meets an engine which is away or busy.
const TRIES: usize = 12;

/// How often something is tried while the engine is away or busy.
#[derive(Debug)]
pub(crate) struct Tries {
    made: usize,
    backoff: Backoff,
}

impl Tries {
    pub(crate) const fn new(backoff: Backoff) -> Self {
        Self { made: 0, backoff }
    }

    /// How long to wait for the next try; `None` where this one has settled it, or was the last.
    pub(crate) fn pause<A>(&mut self, done: &Result<A>) -> Option<Duration> {
        self.made += 1;
        let error = done.as_ref().err()?;
        // That takes minutes: the caller says so.
        let is_long = snapshot::is_awaited(error);
        let is_tried_again = error.policy() == Policy::Retry && !is_long && self.made < TRIES;
        is_tried_again.then(|| self.backoff.next_delay())
    }
}
