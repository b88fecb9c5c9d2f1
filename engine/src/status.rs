//! What keeps the sink from its work, for `/ready` and `status`.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;
use tributary_runtime::health::Health;

use crate::lock::lock;

/// Kafka reports the same error for so long: it is in the way, whatever it was said to be.
const LASTING: Duration = Duration::from_secs(3);
/// An error that Kafka has not reported for so long is over. librdkafka asks again twice a second.
const QUIET: Duration = Duration::from_secs(5);
/// How often an error that lasts is logged.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// Who is in the way while such an error lasts.
const KAFKA: &str = "Kafka";

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    Kafka,
    Registry,
    Target,
    /// A partition's target, and its place in it and in the log.
    Opening,
    DeadLetters,
}

/// What is in the way now, by who reports it; ready while nothing is.
#[derive(Debug)]
pub(crate) struct Status {
    health: Health,
    obstacles: Mutex<BTreeMap<String, Obstacle>>,
    /// Errors that pass, by what they are.
    recurring: Mutex<BTreeMap<String, Recurring>>,
}

/// Something in the way.
#[derive(Debug, Clone)]
pub(crate) struct Obstacle {
    pub(crate) on: On,
    pub(crate) reason: String,
}

/// An error that Kafka reports again and again.
#[derive(Debug)]
struct Recurring {
    since: Instant,
    last: Instant,
    reported: Instant,
}

impl Status {
    /// Not ready until `joining` is cleared.
    pub(crate) fn new(health: Health, joining: &str) -> Self {
        let status = Self {
            health,
            obstacles: Mutex::default(),
            recurring: Mutex::default(),
        };
        status.obstacle(joining, On::Kafka, "waits for its first partitions");
        status
    }

    pub(crate) fn set_phase(&self, phase: String) {
        self.health.set_phase(phase);
    }

    /// `who` cannot go on because of `reason`, and tries again.
    pub(crate) fn obstacle(&self, who: &str, on: On, reason: &str) {
        let reason = reason.to_owned();
        self.update(|obstacles| {
            obstacles.insert(who.to_owned(), Obstacle { on, reason });
        });
    }

    /// What is in the way of a topic, or of one of its partitions.
    pub(crate) fn obstacle_of(&self, topic: &str) -> Option<Obstacle> {
        let obstacles = lock(&self.obstacles);
        let of_partition = format!("{topic}[");
        let mut partitions = obstacles.range(of_partition.clone()..);
        let first = partitions
            .next()
            .filter(|(who, _)| who.starts_with(&of_partition));
        let found = obstacles.get(topic).or(first.map(|(_, obstacle)| obstacle));
        found.cloned()
    }

    /// `who` goes on.
    pub(crate) fn clear(&self, who: &str) {
        self.update(|obstacles| {
            obstacles.remove(who);
        });
    }

    /// Kafka reports an error that passes by itself. One that does not is in the way.
    pub(crate) fn recurs(&self, error: &str, reason: &str) {
        self.recurs_at(error, reason, Instant::now());
    }

    /// Forgets the errors that have passed. Called all the time.
    pub(crate) fn settle(&self) {
        self.settle_at(Instant::now());
    }

    fn recurs_at(&self, what: &str, reason: &str, now: Instant) {
        let mut recurring = lock(&self.recurring);
        let Some(error) = recurring.get_mut(what) else {
            tracing::info!(error = what, reason, "Kafka reports an error that passes");
            let error = Recurring {
                since: now,
                last: now,
                reported: now,
            };
            recurring.insert(what.to_owned(), error);
            return;
        };
        error.last = now;
        if now - error.since < LASTING {
            return;
        }
        if error.reported == error.since || now - error.reported >= REPORT_INTERVAL {
            error.reported = now;
            tracing::warn!(
                error = what,
                reason,
                "Kafka reports an error again and again"
            );
        }
        self.obstacle(KAFKA, On::Kafka, reason);
    }

    fn settle_at(&self, now: Instant) {
        let mut recurring = lock(&self.recurring);
        if recurring.is_empty() {
            return;
        }
        recurring.retain(|_, error| now - error.last < QUIET);
        let lasts = |error: &Recurring| error.last - error.since >= LASTING;
        if !recurring.values().any(lasts) {
            self.clear(KAFKA);
        }
    }

    fn update(&self, change: impl FnOnce(&mut BTreeMap<String, Obstacle>)) {
        let mut obstacles = lock(&self.obstacles);
        change(&mut obstacles);
        match obstacles.iter().next() {
            None => self.health.set_ready(true, ""),
            Some((who, Obstacle { reason, .. })) => {
                let others = match obstacles.len() {
                    1 => String::new(),
                    count => format!(" (and {} more)", count - 1),
                };
                self.health
                    .set_ready(false, format!("{who}: {reason}{others}"));
            }
        }
    }
}

impl On {
    /// As `status` names it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Registry => "registry",
            Self::Target => "target",
            Self::Opening => "opening",
            Self::DeadLetters => "dead-letters",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;
    use tributary_runtime::health::Health;

    use super::{On, Status};

    #[test]
    fn what_is_in_the_way_of_a_partition_is_in_the_way_of_its_topic() {
        let status = Status::new(Health::new(), "joining");
        status.obstacle("a.b[3]", On::Opening, "no answer");
        status.obstacle("a.c", On::Target, "is away");
        let of = |topic| status.obstacle_of(topic).map(|obstacle| obstacle.on);
        assert_eq!(of("a.b"), Some(On::Opening));
        assert_eq!(of("a.c"), Some(On::Target));
        assert_eq!((of("a"), of("a.bb"), of("a.d")), (None, None, None));
        status.clear("a.b[3]");
        assert_eq!(of("a.b"), None);
    }

    #[test]
    fn an_error_that_does_not_pass_is_in_the_way_until_it_does() {
        let health = Health::new();
        let status = Status::new(health.clone(), "joining");
        status.clear("joining");
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);

        // Now and then: each has passed before the next.
        for seconds in [0, 6, 12, 18] {
            status.recurs_at("A", "a", at(seconds * 1_000));
            status.settle_at(at(seconds * 1_000 + 5_500));
            assert_eq!(health.not_ready(), None);
        }
        // Twice a second.
        for half_seconds in 40..=46 {
            assert_eq!(health.not_ready(), None);
            status.recurs_at("A", "topic t [0]: it fails", at(half_seconds * 500));
            status.settle_at(at(half_seconds * 500));
        }
        let reason = Some("Kafka: topic t [0]: it fails".to_owned());
        assert_eq!(health.not_ready(), reason);
        // Another one that passes does not hide it.
        status.recurs_at("B", "b", at(27_000));
        status.settle_at(at(27_900));
        assert_eq!(health.not_ready(), reason);
        status.settle_at(at(28_000));
        assert_eq!(health.not_ready(), None);
    }
}
