//! Back-off, and the loop that tries again until something works.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::{Error, Policy, Result};

/// Delays that grow exponentially up to a bound, each drawn at random between zero and the step's length
/// ("full jitter"), so that instances that failed together do not come back together.
#[derive(Debug, Clone)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    factor: f64,
    step: Duration,
}

impl Backoff {
    /// Steps of `initial`, `initial × factor`, … up to `max`.
    pub const fn new(initial: Duration, max: Duration, factor: f64) -> Self {
        Self {
            initial,
            max,
            factor,
            step: initial,
        }
    }

    /// The next delay.
    pub fn next_delay(&mut self) -> Duration {
        let step = self.step.min(self.max);
        self.step = Duration::try_from_secs_f64(step.as_secs_f64() * self.factor)
            .map_or(self.max, |next| next.clamp(self.initial, self.max));
        step.mul_f64(rand::random_range(0.0..=1.0))
    }

    /// Starts again with the first step, after a success.
    pub const fn reset(&mut self) {
        self.step = self.initial;
    }
}

impl Default for Backoff {
    /// 100 ms to 10 s, doubling: a server that comes back is found within seconds.
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(10), 2.0)
    }
}

/// Calls `operation` until it succeeds, waiting between attempts while its error's policy is [`Policy::Retry`].
///
/// `what` is in the present tense ("connect to Postgres"). The wait ends at shutdown; a running attempt is not
/// cut off, so it must be bounded by itself.
///
/// # Errors
/// An error with [`Policy::Stop`] at once; [`Error::interrupted`] at shutdown.
pub async fn until_ok<T, F, Fut>(
    shutdown: &CancellationToken,
    mut backoff: Backoff,
    what: &str,
    mut operation: F,
) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    loop {
        if shutdown.is_cancelled() {
            return Err(Error::interrupted(what));
        }
        match operation().await {
            Ok(value) => return Ok(value),
            Err(error) if error.policy() == Policy::Stop => return Err(error),
            Err(_) => {
                let _ = shutdown
                    .run_until_cancelled(tokio::time::sleep(backoff.next_delay()))
                    .await;
            }
        }
    }
}
