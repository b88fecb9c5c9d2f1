//! Whether this instance may still believe that its partitions are its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use tributary_runtime::kafka::SESSION_TIMEOUT_MS;

/// A group gives a silent member's partitions away after the session time-out; a writer stops before that,
/// by a margin for the request that it is about to send.
const LEASE: Duration = Duration::from_millis(SESSION_TIMEOUT_MS as u64 * 2 / 3);

/// The time of the last poll, and the writers that wait for the next one.
///
/// A process that was frozen, or whose poll thread was held up, may have lost its partitions without knowing.
/// Its writers check the lease right before each write.
#[derive(Debug)]
pub(crate) struct Lease {
    origin: Instant,
    length: Duration,
    /// Milliseconds since `origin`.
    renewed: AtomicU64,
    renewal: Notify,
}

impl Lease {
    pub(crate) fn new() -> Self {
        Self::with_length(LEASE)
    }

    fn with_length(length: Duration) -> Self {
        Self {
            origin: Instant::now(),
            length,
            renewed: AtomicU64::new(0),
            renewal: Notify::new(),
        }
    }

    /// Whether a write may begin now.
    pub(crate) fn is_held(&self) -> bool {
        self.now()
            .saturating_sub(self.renewed.load(Ordering::Acquire))
            < self.length_ms()
    }

    /// After a poll.
    pub(crate) fn renew(&self) {
        self.renewed.store(self.now(), Ordering::Release);
    }

    /// After a poll that came late, once the group has confirmed the membership.
    pub(crate) fn renew_late(&self) {
        self.renew();
        self.renewal.notify_waiters();
    }

    /// Waits until a write may begin.
    pub(crate) async fn held(&self) {
        loop {
            let renewal = self.renewal.notified();
            if self.is_held() {
                return;
            }
            renewal.await;
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn length_ms(&self) -> u64 {
        u64::try_from(self.length.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Lease;

    #[tokio::test]
    async fn a_lapsed_lease_holds_writes_back_until_it_is_confirmed() {
        let lease = Lease::with_length(Duration::ZERO);
        assert!(!lease.is_held());
        let lease = Lease::with_length(Duration::from_secs(3_600));
        assert!(lease.is_held());
        lease.held().await;
    }

    #[tokio::test]
    async fn waiting_writes_go_on_after_a_confirmation() {
        let mut lease = Lease::with_length(Duration::ZERO);
        {
            let mut held = std::pin::pin!(lease.held());
            let waiting = tokio::time::timeout(Duration::from_millis(5), &mut held).await;
            assert!(waiting.is_err());
        }
        lease.length = Duration::from_secs(3_600);
        lease.renew_late();
        lease.held().await;
    }
}
