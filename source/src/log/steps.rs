//! The long steps of a start, told while they are under way: `/ready` and `/status` at once, the log now and then.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tributary_runtime::health::Health;

/// How often `/ready` and `/status` are told.
const SHOW_INTERVAL: Duration = Duration::from_millis(500);
/// How often the log is. A step that is shorter is not worth a line.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// How much of a step is done. All clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counter(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    done: AtomicUsize,
    all: AtomicUsize,
}

impl Counter {
    /// There are so many to do.
    pub(crate) fn expect(&self, all: usize) {
        self.0.all.store(all, Ordering::Relaxed);
    }

    /// So many more are done.
    pub(crate) fn add(&self, done: usize) {
        self.0.done.fetch_add(done, Ordering::Relaxed);
    }
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        write!(f, "{} of {}", count(&self.0.done), count(&self.0.all))
    }
}

/// Does a step and tells how far it is; behind it, what was told before holds again. `name` says what is done to what:
/// `registering the schemas of tables`.
pub(crate) async fn during<F: Future>(
    health: &Health,
    name: &str,
    step: impl FnOnce(Counter) -> F,
) -> F::Output {
    let (counter, began) = (Counter::default(), Instant::now());
    let before = (health.phase(), health.not_ready());
    let mut work = std::pin::pin!(step(counter.clone()));
    let mut show = tokio::time::interval(SHOW_INTERVAL);
    let mut logged = began;
    loop {
        tokio::select! {
            biased;
            done = &mut work => {
                tracing::debug!(ms = began.elapsed().as_millis(), "{name}: {counter}, done");
                health.set_phase(before.0);
                health.set_ready(before.1.is_none(), before.1.unwrap_or_default());
                return done;
            }
            _ = show.tick() => {
                let now = format!("{name}: {counter}");
                health.set_phase(&*now);
                health.set_ready(false, &*now);
                if logged.elapsed() >= LOG_INTERVAL {
                    logged = Instant::now();
                    tracing::info!(seconds = began.elapsed().as_secs(), "{now}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tributary_runtime::health::Health;

    use super::during;

    #[tokio::test]
    async fn a_step_is_told_while_it_lasts() {
        let health = Health::new();
        let told = during(&health, "counting sheep", async |counter| {
            counter.expect(3);
            counter.add(2);
            while health.phase() == "starting" {
                tokio::task::yield_now().await;
            }
            (health.phase(), health.not_ready())
        });
        let (phase, reason) = told.await;
        assert_eq!(phase, "counting sheep: 2 of 3");
        assert_eq!(reason, Some(phase));
        assert_eq!(health.phase(), "starting");
        assert_eq!(health.not_ready().as_deref(), Some("starting"));
    }
}
