//! What somebody has asked not to be written for a while.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use serde_json::{Value, json};
use tributary_runtime::{Error, Result};

use crate::lock::lock;

/// The topics that are paused in this process: over rebalances, until they are resumed or the process ends.
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    state: Mutex<Paused>,
    /// Counts the changes.
    version: AtomicU64,
}

#[derive(Debug, Default)]
struct Paused {
    all: bool,
    topics: BTreeSet<String>,
}

impl Pauses {
    /// Pauses a topic, or all.
    pub(crate) fn pause(&self, topic: Option<&str>) {
        self.change(|state| match topic {
            Some(topic) => {
                state.topics.insert(topic.to_owned());
            }
            None => state.all = true,
        });
    }

    /// Ends the pause of a topic, or all of them.
    ///
    /// # Errors
    /// Stop: the topic is paused as one of all.
    pub(crate) fn resume(&self, topic: Option<&str>) -> Result<()> {
        if topic.is_some() && self.state().all {
            return Err(
                Error::stop_msg("the whole sink is paused, not this topic alone")
                    .remedy("resume it without --topic, and pause the topics that shall wait on"),
            );
        }
        self.change(|state| match topic {
            Some(topic) => {
                state.topics.remove(topic);
            }
            None => *state = Paused::default(),
        });
        Ok(())
    }

    /// Whether the topic is not to be written.
    pub(crate) fn has(&self, topic: &str) -> bool {
        let state = self.state();
        state.all || state.topics.contains(topic)
    }

    /// A number that is another one after every change.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// For programs.
    pub(crate) fn report(&self) -> Value {
        let state = self.state();
        json!({ "all": state.all, "topics": state.topics })
    }

    /// What to warn of; `None` where nothing is paused.
    pub(crate) fn warning(&self) -> Option<String> {
        let state = self.state();
        let what = match (state.all, state.topics.len()) {
            (true, _) => "all topics are".to_owned(),
            (false, 0) => return None,
            (false, 1) => format!("topic {} is", state.topics.first()?),
            (false, count) => format!("{count} topics are"),
        };
        Some(format!("{what} paused in this instance: `resume` goes on"))
    }

    fn change(&self, change: impl FnOnce(&mut Paused)) {
        change(&mut self.state());
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    fn state(&self) -> MutexGuard<'_, Paused> {
        lock(&self.state)
    }
}

#[cfg(test)]
mod tests {
    use super::Pauses;

    #[test]
    fn topics_pause_alone_and_together() {
        let pauses = Pauses::default();
        assert_eq!(pauses.warning(), None);
        pauses.pause(Some("a"));
        assert!(pauses.has("a") && !pauses.has("b"));
        let warning = "topic a is paused in this instance: `resume` goes on";
        assert_eq!(pauses.warning().as_deref(), Some(warning));
        let before = pauses.version();
        pauses.resume(Some("a")).unwrap();
        assert!(!pauses.has("a") && pauses.version() > before);

        pauses.pause(Some("a"));
        pauses.pause(None);
        assert!(pauses.has("b"));
        assert!(pauses.resume(Some("b")).is_err());
        pauses.resume(None).unwrap();
        assert!(!pauses.has("a") && !pauses.has("b"));
    }
}
