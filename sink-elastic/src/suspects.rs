//! Operations that the engine fails at again and again: whether it is them or the engine.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How often an operation fails at least before it is suspected.
const LEAST_FAILURES: u32 = 3;
/// How much longer an operation fails before it is suspected while the index takes no document at all: where it is the
/// only one that was sent, and where all that were sent fail, which looks more like a fault of the index.
const ALONE: u32 = 20;
const ALL: u32 = 240;
/// How many documents are refused in a row before it looks like a fault of the index. Fewer may well be rows that do not fit: they are
/// put aside, if that is configured, and can be written again from there.
const MANY: u64 = 1_000;
/// An operation that was not seen for so long is not sent any more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// How many are remembered.
const CAPACITY: usize = 10_000;

/// The operations of an index that have failed with a 5xx and were not confirmed since.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    /// How many documents the index has taken.
    confirmed: AtomicU64,
    /// The same with those that it had before: they have passed through its ingest pipelines as well.
    passed: AtomicU64,
    /// How many documents in a row it has refused for what an ingest pipeline may have done.
    refused: AtomicU64,
    seen: Mutex<HashMap<Box<[u8]>, Seen>>,
}

#[derive(Debug)]
struct Seen {
    failures: u32,
    first: Instant,
    last: Instant,
    /// [`Suspects::confirmed`] when it failed first.
    confirmed: u64,
    /// [`Suspects::passed`] when it failed last.
    passed: u64,
    /// How often other documents had passed between two of its failures.
    beside: u32,
}

impl Suspects {
    /// The index has taken so many documents.
    pub(crate) fn confirm(&self, documents: u64) {
        self.confirmed.fetch_add(documents, Ordering::Relaxed);
    }

    /// So many documents have passed through the index' pipelines, and reached a shard that works.
    pub(crate) fn pass(&self, documents: u64) {
        self.passed.fetch_add(documents, Ordering::Relaxed);
    }

    /// How many documents the index has taken by now.
    pub(crate) fn confirmed(&self) -> u64 {
        self.confirmed.load(Ordering::Relaxed)
    }

    /// Of one request the index has, or had, so many documents, and has refused so many for what an ingest pipeline may have done;
    /// how many in a row, where that are too many.
    pub(crate) fn refused(&self, passed: u64, refused: u64) -> Option<u64> {
        if passed > 0 {
            self.refused.store(0, Ordering::Relaxed);
            return None;
        }
        let in_a_row = self.refused.fetch_add(refused, Ordering::Relaxed) + refused;
        (refused > 0 && in_a_row >= MANY).then_some(in_a_row)
    }

    /// It is no pipeline.
    pub(crate) fn refused_rightly(&self) {
        self.refused.store(0, Ordering::Relaxed);
    }

    /// An operation has failed; `action` tells it from all others.
    pub(crate) fn failed(&self, action: &[u8], confirmed_before: u64) {
        let now = Instant::now();
        let passed = self.passed.load(Ordering::Relaxed);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = seen.get_mut(action) {
            known.failures += 1;
            known.last = now;
            known.beside += u32::from(passed > known.passed);
            known.passed = passed;
            return;
        }
        if seen.len() >= CAPACITY {
            seen.retain(|_, seen| now - seen.last < FORGOTTEN_AFTER);
        }
        if seen.len() < CAPACITY {
            let first = Seen {
                failures: 1,
                first: now,
                last: now,
                confirmed: confirmed_before,
                passed,
                beside: 0,
            };
            seen.insert(action.into(), first);
        }
    }

    /// An operation is settled.
    pub(crate) fn forget(&self, action: &[u8]) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.remove(action);
    }

    /// Whether an operation has failed for so long that it is worth a proof: often, for about `patience` while other
    /// documents are taken, or for much longer while nothing is there to compare it with. Where documents pass through pipelines
    /// (`is_piped`) a proof says nothing of those, which may be what is away for a while: others must pass again and again.
    pub(crate) fn is_suspect(
        &self,
        action: &[u8],
        (is_alone, is_piped): (bool, bool),
        patience: Duration,
    ) -> bool {
        let times = if is_alone { ALONE } else { ALL };
        let now = Instant::now();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(action).is_some_and(|seen| {
            let failing = now - seen.first;
            let others_pass = if is_piped {
                seen.beside >= LEAST_FAILURES
            } else {
                self.confirmed() > seen.confirmed
            };
            seen.failures >= LEAST_FAILURES
                && (failing >= patience * times || (others_pass && failing >= patience / 2))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(15);

    #[tokio::test(start_paused = true)]
    async fn who_fails_while_others_pass_is_suspected_soon_and_who_fails_alone_late() {
        let suspects = Suspects::default();
        let fail = async || {
            suspects.failed(b"a", suspects.confirmed());
            tokio::time::advance(Duration::from_secs(4)).await;
            suspects.is_suspect(b"a", (true, false), PATIENCE)
        };
        assert!(!fail().await);
        assert!(!fail().await);
        assert!(!fail().await);
        suspects.confirm(1);
        assert!(suspects.is_suspect(b"a", (true, false), PATIENCE));
        assert!(!suspects.is_suspect(b"b", (true, false), PATIENCE));

        suspects.forget(b"a");
        for _ in 0..74 {
            assert!(!fail().await);
        }
        assert!(fail().await);
        assert!(!suspects.is_suspect(b"a", (false, false), PATIENCE));
        tokio::time::advance(PATIENCE * (ALL - ALONE)).await;
        assert!(suspects.is_suspect(b"a", (false, false), PATIENCE));
    }

    #[tokio::test(start_paused = true)]
    async fn behind_a_pipeline_others_must_pass_again_and_again() {
        let suspects = Suspects::default();
        let fail = async || {
            suspects.failed(b"a", suspects.confirmed());
            tokio::time::advance(Duration::from_secs(4)).await;
            suspects.is_suspect(b"a", (false, true), PATIENCE)
        };
        // Those that passed when all of them began to fail.
        assert!(!fail().await);
        suspects.confirm(9);
        suspects.pass(9);
        for _ in 0..20 {
            assert!(!fail().await);
        }
        suspects.pass(1);
        assert!(!fail().await);
        suspects.pass(1);
        assert!(fail().await);
    }
}
