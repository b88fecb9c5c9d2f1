//! What the engine takes from the machine that it runs on: the time of day, and chance. A simulation gives both.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tributary_runtime::retry::Backoff;

/// Now, in microseconds since 1970.
pub(crate) fn now_us() -> i64 {
    #[cfg(test)]
    if let Some(now_us) = given::now_us() {
        return now_us;
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(i64::MAX)
}

/// Now, in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    now_us() / 1_000
}

/// A number that nobody has had before.
pub(crate) fn random() -> u32 {
    #[cfg(test)]
    if let Some(random) = given::random() {
        return random;
    }
    rand::random()
}

/// The next delay, of any length up to the back-off's step.
pub(crate) fn delay(backoff: &mut Backoff) -> Duration {
    backoff
        .next_step()
        .mul_f64(f64::from(random()) / f64::from(u32::MAX))
}

/// What a simulation gives to the thread that it runs in.
#[cfg(test)]
pub(crate) mod given {
    use std::cell::RefCell;

    type Random = Box<dyn FnMut() -> u32>;

    /// A fault of the engine's own, planted to be found.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Flaw {
        /// A lane has two writes of a partition under way.
        Reorder,
        /// The budget admits everything.
        NoBudget,
        /// What is still to be swept counts as durable.
        Unswept,
        /// A replay writes what the letter had, were there anything newer.
        OldLetter,
        /// Letters are done with before they are written.
        EarlyReplayed,
    }

    thread_local! {
        static FLAW: std::cell::Cell<Option<Flaw>> = const { std::cell::Cell::new(None) };
        static GIVEN: RefCell<Option<(i64, tokio::time::Instant, Random)>> = const { RefCell::new(None) };
    }

    /// From here on, this thread's time of day goes with tokio's clock, and begins with `now_ms`.
    pub(crate) fn begin(now_ms: i64, random: Random) {
        GIVEN.set(Some((now_ms, tokio::time::Instant::now(), random)));
    }

    /// The machine's own are back.
    pub(crate) fn end() {
        GIVEN.set(None);
    }

    /// The engine has this fault in this thread.
    pub(crate) fn plant(flaw: Option<Flaw>) {
        FLAW.set(flaw);
    }

    pub(crate) fn has(flaw: Flaw) -> bool {
        FLAW.get() == Some(flaw)
    }

    pub(super) fn now_us() -> Option<i64> {
        GIVEN.with_borrow(|given| {
            let (begin_ms, begin, _) = given.as_ref()?;
            Some(begin_ms * 1_000 + i64::try_from(begin.elapsed().as_micros()).ok()?)
        })
    }

    pub(super) fn random() -> Option<u32> {
        GIVEN.with_borrow_mut(|given| Some((given.as_mut()?.2)()))
    }
}
