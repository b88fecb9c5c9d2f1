//! How long a transaction may take as a whole, whatever the server does.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tributary_runtime::Error;

use crate::warehouse::failure::Failure;

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

    /// Does what a whole transaction is for, whatever the server does, within the time of a transaction.
    pub(crate) async fn within<T>(
        &self,
        doing: &str,
        what: impl Display,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let done = self.bound(work).await;
        done.unwrap_or_else(|| {
            let overdue = Error::retry_msg(format_args!(
                "{doing} {what}: the warehouse did not answer within {} s",
                self.limit.as_secs()
            ));
            Err(overdue
                .remedy(
                    "look for locks on the target table, or raise [warehouse] statement_timeout_ms",
                )
                .into())
        })
    }

    /// Does the work; `None` where the time is over before. Dropping the work ends it.
    async fn bound<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.restart();
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.passed() => None,
        }
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
