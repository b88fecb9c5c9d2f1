//! How many requests to an index are under way together, and how large they are: as much as the engine bears.
//!
//! Each index has its own: one whose shards are away must not take the places of others, and where the engine as a whole is
//! overloaded, each index hears of it by itself (docs/adr/0010-adaptive-bulk.md).

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::Gauge;
use tokio::sync::Notify;

use crate::metric;

/// What a request is not made smaller than.
const LEAST_BYTES: usize = 64 * 1024;
/// How often its size is halved at most.
const MOST_HALVINGS: u32 = 7;
/// How many requests pass before larger ones are tried; twice as many each time that these are too large.
const BEFORE_LARGER: u32 = 8;
const LONGEST_BEFORE_LARGER: u32 = 1_024;

/// What the answer to a request says of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// The engine bears it.
    Fine,
    /// It is more than the engine bears: 429, a time-out.
    Busy,
    /// The engine is away: fewer requests, but not smaller ones.
    Away,
    /// The request is larger than anyone on the way takes.
    TooLarge,
    /// The connection was cut off, which may be for the request's size.
    Cut,
}

/// How much is asked of an engine: less by half when it says that it is too much, more by one when it bears as much as is allowed for
/// as many requests. No clock, no chance.
#[derive(Debug)]
struct Pace {
    most: u32,
    /// Requests under way together: 1 to `most`.
    limit: f64,
    /// How often the requests' size is halved.
    halvings: u32,
    /// Requests that have passed at this size, and how many are to.
    passed: u32,
    before_larger: u32,
    /// The present size was tried again after a smaller one.
    is_trial: bool,
    /// Counts how often less was asked. What was under way then says nothing new.
    era: u64,
}

/// What a request is begun with.
#[derive(Debug, Clone, Copy)]
struct Begun {
    era: u64,
    /// No further one may be under way.
    is_last: bool,
}

impl Pace {
    /// All is asked until the engine says that it is too much.
    fn new(most: u32) -> Self {
        let most = most.max(1);
        Self {
            most,
            limit: f64::from(most),
            halvings: 0,
            passed: 0,
            before_larger: BEFORE_LARGER,
            is_trial: false,
            era: 0,
        }
    }

    /// How many requests may be under way together.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is 1 to the most, which is a u32"
    )]
    fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// Begins a request beside so many others, if it may.
    fn begin(&self, others: u32) -> Option<Begun> {
        let limit = self.limit();
        (others < limit).then_some(Begun {
            era: self.era,
            is_last: others + 1 == limit,
        })
    }

    fn ended(&mut self, begun: Begun, signal: Signal) {
        if begun.era != self.era {
            return;
        }
        match signal {
            Signal::Fine => self.raise(begun.is_last),
            Signal::TooLarge | Signal::Cut => self.shrink(),
            Signal::Busy if self.limit < 2.0 => self.shrink(),
            Signal::Busy | Signal::Away => {
                let half = (self.limit / 2.0).floor().max(1.0);
                if half < self.limit {
                    self.limit = half;
                    self.era += 1;
                }
            }
        }
    }

    fn raise(&mut self, is_last: bool) {
        if self.halvings > 0 {
            self.passed += 1;
            if self.passed >= self.before_larger {
                self.halvings -= 1;
                self.passed = 0;
                self.is_trial = true;
            }
        } else {
            self.is_trial = false;
            self.before_larger = BEFORE_LARGER;
        }
        // What was not asked for was not borne.
        if is_last {
            self.limit = (self.limit + 1.0 / self.limit).min(f64::from(self.most));
        }
    }

    fn shrink(&mut self) {
        self.era += 1;
        self.limit = self.limit.floor();
        if std::mem::take(&mut self.is_trial) {
            self.before_larger = (self.before_larger * 2).min(LONGEST_BEFORE_LARGER);
        }
        self.passed = 0;
        self.halvings = (self.halvings + 1).min(MOST_HALVINGS);
    }

    fn is_full(&self) -> bool {
        self.limit() == self.most && self.halvings == 0
    }
}

/// What keeps the requests of an index within its pace.
pub(crate) struct Throttle {
    state: Mutex<Paced>,
    freed: Notify,
    bytes: usize,
    gauge: Gauge,
}

#[derive(Debug)]
struct Paced {
    pace: Pace,
    under_way: u32,
}

/// A request's place among those under way. Held while it is, and not while it waits to be sent again.
#[derive(Debug)]
pub(crate) struct Place<'t> {
    throttle: &'t Throttle,
    begun: Begun,
}

impl Throttle {
    /// For an index: so many requests at most, each of about so many bytes.
    pub(crate) fn new(alias: &str, most: u32, bytes: usize) -> Self {
        let pace = Pace::new(most);
        let gauge = metrics::gauge!(metric::IN_FLIGHT_LIMIT, "index" => Arc::<str>::from(alias));
        gauge.set(f64::from(pace.limit()));
        Self {
            state: Mutex::new(Paced { pace, under_way: 0 }),
            freed: Notify::new(),
            bytes,
            gauge,
        }
    }

    /// Waits for a place.
    pub(crate) async fn place(&self) -> Place<'_> {
        loop {
            if let Some(place) = self.free_place() {
                return place;
            }
            self.freed.notified().await;
        }
    }

    /// About how large a request is to be.
    pub(crate) fn bytes(&self) -> usize {
        let halved = self.bytes >> self.state().pace.halvings;
        halved.max(self.bytes.min(LEAST_BYTES))
    }

    /// What the engine does not bear, if so: for `status`.
    pub(crate) fn held_back(&self) -> Option<String> {
        let (limit, most) = {
            let pace = &self.state().pace;
            if pace.is_full() {
                return None;
            }
            (pace.limit(), pace.most)
        };
        Some(format!(
            "the engine is busy: {limit} of {most} requests to _bulk at a time, of {} KiB each",
            self.bytes() / 1024
        ))
    }

    fn free_place(&self) -> Option<Place<'_>> {
        let mut state = self.state();
        let begun = state.pace.begin(state.under_way)?;
        state.under_way += 1;
        if !begun.is_last {
            // There may be room for more of those that wait.
            self.freed.notify_one();
        }
        drop(state);
        Some(Place {
            throttle: self,
            begun,
        })
    }

    fn state(&self) -> MutexGuard<'_, Paced> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle")
            .field("state", &self.state)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Place<'_> {
    /// The request was answered, or not in time.
    pub(crate) fn ended(self, signal: Signal) {
        let mut state = self.throttle.state();
        let before = state.pace.limit();
        state.pace.ended(self.begun, signal);
        let limit = state.pace.limit();
        drop(state);
        if limit != before {
            self.throttle.gauge.set(f64::from(limit));
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.throttle.state().under_way -= 1;
        self.throttle.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One request after the other, each beside as many as may be.
    fn answered(pace: &mut Pace, signal: Signal, times: u32) {
        for _ in 0..times {
            let begun = pace.begin(pace.limit() - 1).unwrap();
            pace.ended(begun, signal);
        }
    }

    #[test]
    fn what_is_too_much_is_halved_and_comes_back_one_by_one() {
        let mut pace = Pace::new(8);
        answered(&mut pace, Signal::Fine, 100);
        assert_eq!(pace.limit(), 8);
        answered(&mut pace, Signal::Busy, 1);
        assert_eq!(pace.limit(), 4);
        answered(&mut pace, Signal::Fine, 5);
        assert_eq!(pace.limit(), 5);
        answered(&mut pace, Signal::Busy, 2);
        assert_eq!((pace.limit(), pace.halvings), (1, 0));
        // At one request at a time it must be their size.
        answered(&mut pace, Signal::Busy, 2);
        assert_eq!((pace.limit(), pace.halvings), (1, 2));
        answered(&mut pace, Signal::Fine, 200);
        assert!(pace.is_full(), "{pace:?}");
    }

    #[test]
    fn requests_that_fail_together_count_once() {
        let mut pace = Pace::new(8);
        let together: Vec<_> = (0..8).map(|others| pace.begin(others).unwrap()).collect();
        assert!(pace.begin(8).is_none());
        for begun in together {
            pace.ended(begun, Signal::Busy);
        }
        assert_eq!(pace.limit(), 4);
    }

    #[test]
    fn an_engine_that_is_away_gets_no_smaller_requests() {
        let mut pace = Pace::new(8);
        answered(&mut pace, Signal::Away, 20);
        assert_eq!((pace.limit(), pace.halvings), (1, 0));
    }

    #[test]
    fn a_request_that_is_too_large_makes_them_smaller_and_larger_ones_are_tried_more_and_more_seldom()
     {
        let mut pace = Pace::new(2);
        let mut tries = Vec::new();
        for _ in 0..3 {
            answered(&mut pace, Signal::TooLarge, 1);
            assert_eq!((pace.limit(), pace.halvings), (2, 1));
            let mut passed = 0;
            while pace.halvings > 0 {
                answered(&mut pace, Signal::Fine, 1);
                passed += 1;
            }
            tries.push(passed);
        }
        assert_eq!(tries, [8, 16, 32]);
    }

    #[test]
    fn what_is_not_used_is_not_raised() {
        let mut pace = Pace::new(8);
        answered(&mut pace, Signal::Away, 3);
        answered(&mut pace, Signal::Fine, 1);
        assert_eq!(pace.limit(), 2);
        for _ in 0..100 {
            let alone = pace.begin(0).unwrap();
            pace.ended(alone, Signal::Fine);
        }
        assert_eq!(pace.limit(), 2);
    }

    #[tokio::test]
    async fn who_waits_gets_the_place_that_is_freed() {
        let throttle = Arc::new(Throttle::new("a", 2, 1 << 20));
        let (one, two) = (throttle.place().await, throttle.place().await);
        let waits: Vec<_> = (0..4)
            .map(|_| {
                let throttle = Arc::clone(&throttle);
                tokio::spawn(async move { throttle.place().await.ended(Signal::Fine) })
            })
            .collect();
        tokio::task::yield_now().await;
        assert!(waits.iter().all(|wait| !wait.is_finished()));
        one.ended(Signal::Busy);
        tokio::task::yield_now().await;
        assert!(
            waits.iter().all(|wait| !wait.is_finished()),
            "one of one is under way"
        );
        drop(two);
        for wait in waits {
            wait.await.unwrap();
        }
        assert_eq!(throttle.held_back(), None);
    }

    #[derive(Debug, Clone, Copy)]
    enum Happening {
        Begins,
        Ends(usize, Signal),
    }

    fn happening() -> impl Strategy<Value = Happening> {
        let signal = prop_oneof![
            6 => Just(Signal::Fine), 2 => Just(Signal::Busy), 1 => Just(Signal::Away), 1 => Just(Signal::TooLarge)
        ];
        prop_oneof![
            Just(Happening::Begins),
            (any::<usize>(), signal).prop_map(|(which, signal)| Happening::Ends(which, signal)),
        ]
    }

    proptest! {
        /// Whatever the engine says and when: at least one request may go, never more than allowed, one piece of bad news lowers by
        /// half at most, and an engine that bears everything gets everything again.
        #[test]
        fn the_pace_stays_within_its_bounds_and_recovers(
            most in 1_u32..20,
            happenings in prop::collection::vec(happening(), 0..300),
        ) {
            let mut pace = Pace::new(most);
            let mut under_way: Vec<Begun> = Vec::new();
            for happening in happenings {
                let before = (pace.limit(), pace.halvings);
                match happening {
                    Happening::Begins => {
                        let others = u32::try_from(under_way.len()).unwrap();
                        let begun = pace.begin(others);
                        prop_assert_eq!(begun.is_some(), others < pace.limit());
                        under_way.extend(begun);
                    }
                    Happening::Ends(which, signal) if !under_way.is_empty() => {
                        let begun = under_way.swap_remove(which % under_way.len());
                        pace.ended(begun, signal);
                        if signal == Signal::Fine {
                            prop_assert!(pace.limit() >= before.0 && pace.halvings <= before.1);
                        } else {
                            prop_assert!(pace.limit() <= before.0 && pace.halvings >= before.1);
                            prop_assert!(pace.limit() >= before.0 / 2);
                        }
                    }
                    Happening::Ends(..) => {}
                }
                prop_assert!((1..=most).contains(&pace.limit()));
                prop_assert!(pace.halvings <= MOST_HALVINGS);
                prop_assert!(pace.limit() - before.0.min(pace.limit()) <= 1);
            }
            answered(&mut pace, Signal::Fine, 20_000);
            prop_assert!(pace.is_full(), "{:?}", pace);
        }
    }
}
