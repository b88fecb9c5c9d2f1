use std::cell::Cell;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Backoff, until_ok};
use crate::{Error, Policy, Result};

#[test]
fn steps_grow_to_the_bound_and_delays_stay_below_their_step() {
    let ms = Duration::from_millis;
    let mut backoff = Backoff::new(ms(100), ms(1_000), 2.0);
    for _ in 0..50 {
        let mut sum = Duration::ZERO;
        for step in [100, 200, 400, 800, 1_000, 1_000] {
            let delay = backoff.next_delay();
            assert!(delay <= ms(step), "{delay:?} of {step}");
            sum += delay;
        }
        assert!(sum > Duration::ZERO);
        backoff.reset();
    }
    // Over many draws the jitter uses the whole width of the step.
    let mut flat = Backoff::new(ms(1_000), ms(1_000), 2.0);
    let delays: Vec<Duration> = (0..200).map(|_| flat.next_delay()).collect();
    assert!(delays.iter().any(|delay| *delay < ms(250)));
    assert!(delays.iter().any(|delay| *delay > ms(750)));
}

#[test]
fn an_absurd_factor_does_not_overflow() {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60), f64::MAX);
    for _ in 0..5 {
        assert!(backoff.next_delay() <= Duration::from_secs(60));
    }
}

/// Collects what is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn capture() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn lines(&self) -> Vec<String> {
        let bytes = self.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(|line| line.trim().to_owned()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn tries_until_it_works_and_says_so_now_and_then() {
    let (log, _guard) = Log::capture();
    let start = Instant::now();
    let attempts = Cell::new(0_u32);
    let value = until_ok(
        &CancellationToken::new(),
        Backoff::default(),
        "connect to Kafka",
        || async {
            attempts.set(attempts.get() + 1);
            if start.elapsed() < Duration::from_secs(35) {
                return Err(Error::retry_msg("connection refused"));
            }
            Ok(attempts.get())
        },
    )
    .await
    .unwrap();
    assert_eq!(value, attempts.get());

    let lines = log.lines();
    let (first, rest) = lines.split_first().unwrap();
    assert_eq!(
        first,
        "WARN cannot connect to Kafka, trying again: connection refused"
    );
    let (last, still) = rest.split_last().unwrap();
    assert!(
        last.starts_with("INFO recovered: connect to Kafka"),
        "{last}"
    );
    assert!(last.contains(&format!("attempts={value} ")), "{last}");
    // At most one line in 10 s, at least one in 10 s and the longest wait.
    assert!((1..=4).contains(&still.len()), "{still:?}");
    for line in still {
        assert!(
            line.starts_with("WARN still cannot connect to Kafka: connection refused"),
            "{line}"
        );
        assert!(
            line.contains("attempts=") && line.contains("elapsed_seconds="),
            "{line}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_works_at_once_is_not_mentioned() {
    let (log, _guard) = Log::capture();
    let ok = || async { Ok(1) };
    let value = until_ok(&CancellationToken::new(), Backoff::default(), "try", ok).await;
    assert_eq!(value.unwrap(), 1);
    assert_eq!(log.lines(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_error_that_stops_returns_at_once() {
    let attempts = Cell::new(0);
    let result: Result<()> = until_ok(
        &CancellationToken::new(),
        Backoff::default(),
        "log in",
        || async {
            attempts.set(attempts.get() + 1);
            Err(Error::stop_msg("wrong password"))
        },
    )
    .await;
    let error = result.unwrap_err();
    assert_eq!((attempts.get(), error.policy()), (1, Policy::Stop));
    assert!(!error.is_interrupted());
    assert_eq!(error.to_string(), "wrong password");
}

#[tokio::test(start_paused = true)]
async fn the_shutdown_ends_the_wait() {
    let shutdown = CancellationToken::new();
    let hour = Duration::from_secs(3_600);
    let start = Instant::now();
    let waiting = until_ok(
        &shutdown,
        Backoff::new(hour, hour, 1.0),
        "connect to Kafka",
        || async { Err::<(), _>(Error::retry_msg("connection refused")) },
    );
    let stop = async {
        tokio::task::yield_now().await;
        shutdown.cancel();
    };
    let (result, ()) = tokio::join!(waiting, stop);
    let error = result.unwrap_err();
    assert!(error.is_interrupted());
    assert_eq!(error.to_string(), "connect to Kafka: ended by the shutdown");
    assert!(start.elapsed() < Duration::from_secs(1));

    // Once it has begun, nothing is tried any more.
    let never = || async { Err::<(), _>(Error::stop_msg("tried")) };
    let error = until_ok(&shutdown, Backoff::default(), "connect", never)
        .await
        .unwrap_err();
    assert!(error.is_interrupted());
}
