//! How long a transaction may take as a whole, whatever the server does.

use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// The clock of one connection's work. What has a limit of its own is allowed its time.
#[derive(Debug)]
pub(crate) struct Deadline {
    limit: Duration,
    due: watch::Sender<Instant>,
}

impl Deadline {
    /// A clock that gives each piece of work this long.
    pub(crate) fn new(limit: Duration) -> Self {
        Self {
            limit,
            due: watch::Sender::new(Instant::now()),
        }
    }

    /// Does the work; `None` where the time is over before. Dropping the work ends it.
    pub(crate) async fn bound<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.restart();
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.passed() => None,
        }
    }

    /// The longest that a piece of work may take.
    pub(crate) const fn limit(&self) -> Duration {
        self.limit
    }

    /// The clock begins anew: a step is done, and the next one has its own time.
    pub(crate) fn restart(&self) {
        self.allow(Duration::ZERO);
    }

    /// The clock begins anew, with this much time beyond the limit.
    pub(crate) fn allow(&self, more: Duration) {
        self.due.send_replace(Instant::now() + self.limit + more);
    }

    async fn passed(&self) {
        let mut changes = self.due.subscribe();
        loop {
            let due = *changes.borrow_and_update();
            tokio::select! {
                () = sleep_until(due) => return,
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, sleep};

    use super::Deadline;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn work_is_cut_at_the_limit() {
        let begun = Instant::now();
        let deadline = Deadline::new(LIMIT);
        assert_eq!(deadline.bound(async { 1 }).await, Some(1));
        assert_eq!(deadline.bound(sleep(LIMIT * 2)).await, None);
        assert_eq!(begun.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_its_own_limit_is_not_counted() {
        let deadline = Deadline::new(LIMIT);
        let work = async {
            sleep(LIMIT / 2).await;
            deadline.allow(LIMIT * 9);
            sleep(LIMIT * 5).await;
            deadline.restart();
            sleep(LIMIT / 2).await;
        };
        assert_eq!(deadline.bound(work).await, Some(()));
        let late = async {
            deadline.allow(LIMIT * 9);
            sleep(LIMIT * 5).await;
            deadline.restart();
            sleep(LIMIT * 2).await;
        };
        assert_eq!(deadline.bound(late).await, None);
    }
}
