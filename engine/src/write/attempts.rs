//! Trying again, until it works or nobody wants it any more.

use tokio_util::sync::CancellationToken;
use tributary_runtime::retry::Backoff;
use tributary_runtime::{Error, Policy, Result};

use crate::metrics::RETRIES;
use crate::outside;
use crate::status::{On, Status};

/// The attempts of one thing to do, with back-off; what is in the way shows in `/ready`.
pub(crate) struct Attempts<'a> {
    who: &'a str,
    status: &'a Status,
    cancel: &'a CancellationToken,
    backoff: Backoff,
    has_failed: bool,
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(who: &'a str, status: &'a Status, cancel: &'a CancellationToken) -> Self {
        Self {
            who,
            status,
            cancel,
            backoff: Backoff::default(),
            has_failed: false,
        }
    }

    /// After an error that passes by itself, of whoever is waited for: says so and waits.
    ///
    /// # Errors
    /// `error` itself if it stops; [`Error::interrupted`] once it is cancelled.
    pub(crate) async fn wait_after(&mut self, on: On, error: Error) -> Result<()> {
        if error.policy() == Policy::Stop {
            return Err(error);
        }
        let delay = outside::delay(&mut self.backoff);
        tracing::warn!(who = self.who, %error, ?delay, "tries again");
        metrics::counter!(RETRIES).increment(1);
        self.status.obstacle(self.who, on, &error.to_string());
        self.has_failed = true;
        self.unless_cancelled(tokio::time::sleep(delay)).await
    }

    /// It worked: nothing is in the way any more.
    pub(crate) fn succeeded(&mut self) {
        if std::mem::take(&mut self.has_failed) {
            self.status.clear(self.who);
        }
        self.backoff.reset();
    }

    /// Waits for something that may take long.
    ///
    /// # Errors
    /// [`Error::interrupted`] once it is cancelled.
    pub(crate) async fn unless_cancelled<T>(&self, wait: impl Future<Output = T>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(Error::interrupted(format!("write {}", self.who))),
            value = wait => Ok(value),
        }
    }
}

/// What was in the way of something that nobody wants any more is not in the way of the service.
impl Drop for Attempts<'_> {
    fn drop(&mut self) {
        if self.has_failed && self.cancel.is_cancelled() {
            self.status.clear(self.who);
        }
    }
}
