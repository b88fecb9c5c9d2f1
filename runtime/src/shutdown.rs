//! A gate that counts who is still inside, so that a shutdown can wait for all and name the late ones.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Tasks enter with their name; [`Gate::close`] lets nobody in any more and waits until all have left.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    shared: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<Inside>,
    left: Notify,
}

#[derive(Debug, Default)]
struct Inside {
    closed: bool,
    next: u64,
    inside: BTreeMap<u64, String>,
}

impl Gate {
    /// An open gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Enters until the guard is dropped; `None` once the gate is closed.
    pub fn enter(&self, name: impl Into<String>) -> Option<GateGuard> {
        let mut state = self.shared.lock();
        if state.closed {
            return None;
        }
        let id = state.next;
        state.next += 1;
        state.inside.insert(id, name.into());
        Some(GateGuard {
            shared: Arc::clone(&self.shared),
            id,
        })
    }

    /// Lets nobody in any more, and waits until everybody has left. Safe to cancel; the gate stays closed.
    pub async fn close(&self) {
        self.shared.lock().closed = true;
        loop {
            let left = self.shared.left.notified();
            if self.shared.lock().inside.is_empty() {
                return;
            }
            left.await;
        }
    }

    /// The names of those inside, in the order in which they entered.
    pub fn inside(&self) -> Vec<String> {
        self.shared.lock().inside.values().cloned().collect()
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Holds a place inside a [`Gate`].
#[derive(Debug)]
#[must_use = "dropping the guard leaves the gate"]
pub struct GateGuard {
    shared: Arc<Inner>,
    id: u64,
}

impl Drop for GateGuard {
    fn drop(&mut self) {
        self.shared.lock().inside.remove(&self.id);
        self.shared.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::Gate;

    #[tokio::test]
    async fn close_waits_for_everybody_inside_and_lets_nobody_in() {
        let gate = Gate::new();
        let first = gate.enter("writer").unwrap();
        let second = gate.enter("poller").unwrap();
        assert_eq!(gate.inside(), ["writer", "poller"]);

        let closing = tokio::spawn({
            let gate = gate.clone();
            async move { gate.close().await }
        });
        drop(first);
        tokio::task::yield_now().await;
        assert!(!closing.is_finished());
        assert_eq!(gate.inside(), ["poller"]);
        assert!(gate.enter("late").is_none());

        drop(second);
        closing.await.unwrap();
    }
}
