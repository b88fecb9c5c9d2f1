//! Back-off, and the loop that tries again until something works.

#[cfg(test)]
mod tests;

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;
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
        self.next_step().mul_f64(rand::random_range(0.0..=1.0))
    }

    /// The longest that the next delay may be, for a caller that draws by itself.
    pub fn next_step(&mut self) -> Duration {
        let step = self.step.min(self.max);
        self.step = Duration::try_from_secs_f64(step.as_secs_f64() * self.factor)
            .map_or(self.max, |next| next.clamp(self.initial, self.max));
        step
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

/// How often a failure that lasts is logged again.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Calls `operation` until it succeeds, waiting between attempts while its error's policy is [`Policy::Retry`].
///
/// `what` is in the present tense ("connect to Postgres"). The first failure is logged with its message, then
/// one every 10 s with the number of attempts and the time passed, and the recovery. The wait ends at shutdown;
/// an attempt under way is not cut off, so it must be bounded by itself.
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
    let mut outage: Option<Outage> = None;
    loop {
        if shutdown.is_cancelled() {
            return Err(Error::interrupted(what.to_owned()));
        }
        match operation().await {
            Ok(value) => {
                if let Some(outage) = outage {
                    outage.ended(what);
                }
                return Ok(value);
            }
            Err(error) => match error.policy() {
                Policy::Stop => return Err(error),
                Policy::Retry => outage
                    .get_or_insert_with(Outage::begin)
                    .failed(what, &error),
            },
        }
        let wait = tokio::time::sleep(backoff.next_delay());
        if shutdown.run_until_cancelled(wait).await.is_none() {
            return Err(Error::interrupted(what.to_owned()));
        }
    }
}

/// The failures since the last success.
struct Outage {
    since: Instant,
    attempts: u64,
    reported: Option<Instant>,
}

impl Outage {
    fn begin() -> Self {
        Self {
            since: Instant::now(),
            attempts: 0,
            reported: None,
        }
    }

    fn failed(&mut self, what: &str, error: &Error) {
        self.attempts += 1;
        let now = Instant::now();
        match self.reported {
            None => tracing::warn!("cannot {what}, trying again: {error}"),
            Some(reported) if now - reported >= REPORT_INTERVAL => tracing::warn!(
                attempts = self.attempts,
                elapsed_seconds = (now - self.since).as_secs(),
                "still cannot {what}: {error}"
            ),
            Some(_) => return,
        }
        self.reported = Some(now);
    }

    fn ended(&self, what: &str) {
        tracing::info!(
            attempts = self.attempts + 1,
            elapsed_seconds = self.since.elapsed().as_secs(),
            "recovered: {what}"
        );
    }
}
