//! Indices that cannot take what a column has become (`on_unfit_mapping = "reindex"`): which of them are to be looked at, which rows wait
//! for another index, and what is said of that.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tributary_runtime::health::Health;

/// The subject of the warning in the service's status.
const SUBJECT: &str = "search reindex";

/// What is known of all topics of the service. Does nothing where the service has no index built again by itself.
#[derive(Debug, Default)]
pub(crate) struct Renewals {
    is_on: bool,
    health: OnceLock<Health>,
    topics: Mutex<BTreeMap<String, Renewal>>,
    is_due: Notify,
}

/// What is known of one.
#[derive(Debug, Default)]
struct Renewal {
    /// When it is to be looked at.
    due: Option<Instant>,
    /// Rows that its index refuses wait for another one.
    is_awaited: bool,
    /// Another one could not be built: rows are treated as ever, until one can.
    has_failed: bool,
    said: Option<String>,
}

impl Renewals {
    /// Those of a service that has indices built again.
    pub(crate) fn on() -> Self {
        Self {
            is_on: true,
            ..Self::default()
        }
    }

    /// Says it from now on in the service's status.
    pub(crate) fn report_to(&self, health: Health) {
        // The first one stays: there is one service in a process.
        let _ = self.health.set(health);
    }

    /// The index of this topic may be one that another service has left in the middle.
    pub(crate) fn look_at(&self, topic: &str) {
        if self.is_on {
            let mut topics = self.lock();
            let renewal = topics.entry(topic.to_owned()).or_default();
            renewal.due.get_or_insert_with(Instant::now);
            self.is_due.notify_one();
        }
    }

    /// The index of this topic was seen to be outgrown by rows that are about to be written.
    pub(crate) fn outgrown(&self, topic: &str) {
        if self.is_on {
            let mut topics = self.lock();
            let renewal = topics.entry(topic.to_owned()).or_default();
            if !renewal.has_failed {
                renewal.is_awaited = true;
                renewal.due = Some(Instant::now());
                self.is_due.notify_one();
            }
        }
    }

    /// Whether rows that the index of this topic refuses are to wait for another one.
    pub(crate) fn is_awaited(&self, topic: &str) -> bool {
        self.is_on && self.lock().get(topic).is_some_and(|of| of.is_awaited)
    }

    /// The next topic to look at, once it is due.
    pub(crate) async fn next(&self) -> String {
        loop {
            let next = self.next_due();
            match next {
                Ok(topic) => return topic,
                Err(None) => self.is_due.notified().await,
                Err(Some(at)) => {
                    tokio::select! {
                        () = self.is_due.notified() => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
            }
        }
    }

    /// A topic that is due, or when the first one is.
    fn next_due(&self) -> Result<String, Option<Instant>> {
        let mut topics = self.lock();
        let waiting = topics.iter_mut().filter(|(_, of)| of.due.is_some());
        let Some((topic, renewal)) = waiting.min_by_key(|(_, of)| of.due) else {
            return Err(None);
        };
        if renewal.due.is_some_and(|due| due > Instant::now()) {
            return Err(renewal.due);
        }
        renewal.due = None;
        Ok(topic.clone())
    }

    /// How far another index is.
    pub(crate) fn say(&self, topic: &str, line: String) {
        self.change(topic, |renewal| renewal.said = Some(line));
    }

    /// Somebody else is at it, or it cannot be told yet: is looked at again after a while, and rows wait if they did.
    pub(crate) fn again(&self, topic: &str, after: Duration, why: String) {
        self.change(topic, |renewal| {
            renewal.due.get_or_insert(Instant::now() + after);
            renewal.said = Some(why);
        });
    }

    /// Another index could not be built: is tried again after a while, and rows do not wait for that.
    pub(crate) fn fail(&self, topic: &str, after: Duration, why: String) {
        self.change(topic, |renewal| {
            renewal.due = Some(Instant::now() + after);
            renewal.is_awaited = false;
            renewal.has_failed = true;
            renewal.said = Some(why);
        });
    }

    /// The index takes what the columns are.
    pub(crate) fn is_fit(&self, topic: &str) {
        self.change(topic, |renewal| {
            let due = renewal.due;
            *renewal = Renewal {
                due,
                // It was seen to be outgrown once more since it was looked at.
                is_awaited: renewal.is_awaited && due.is_some(),
                ..Renewal::default()
            };
        });
    }

    fn change(&self, topic: &str, change: impl FnOnce(&mut Renewal)) {
        let mut topics = self.lock();
        let mut renewal = topics.remove(topic).unwrap_or_default();
        change(&mut renewal);
        if renewal.due.is_some() || renewal.is_awaited || renewal.said.is_some() {
            topics.insert(topic.to_owned(), renewal);
        }
        if let Some(health) = self.health.get() {
            let said: Vec<&str> = topics
                .values()
                .filter_map(|of| of.said.as_deref())
                .collect();
            health.set_warning(SUBJECT, (!said.is_empty()).then(|| said.join("; ")));
        }
        self.is_due.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Renewal>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, timeout};
    use tributary_runtime::health::Health;

    use super::Renewals;

    const WHILE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn rows_wait_until_the_index_is_fit_or_cannot_be_built() {
        let (renewals, health) = (Renewals::on(), Health::new());
        renewals.report_to(health.clone());
        renewals.look_at("a");
        assert!(!renewals.is_awaited("a"));
        renewals.outgrown("b");
        assert!(renewals.is_awaited("b"));
        assert_eq!(
            (renewals.next().await, renewals.next().await),
            ("a".to_owned(), "b".to_owned())
        );
        renewals.is_fit("a");
        renewals.say("b", "50%".to_owned());
        assert_eq!(health.warnings(), ["50%"]);
        assert!(timeout(WHILE, renewals.next()).await.is_err());

        // Somebody else is at it.
        let begun = Instant::now();
        renewals.again("b", WHILE, "elsewhere".to_owned());
        assert_eq!(renewals.next().await, "b");
        assert_eq!(begun.elapsed(), WHILE);
        assert!(renewals.is_awaited("b"));

        renewals.fail("b", WHILE, "cannot".to_owned());
        renewals.outgrown("b");
        assert!(!renewals.is_awaited("b"));
        assert_eq!(renewals.next().await, "b");
        assert_eq!(begun.elapsed(), WHILE * 2);
        renewals.is_fit("b");
        assert_eq!(health.warnings(), [""; 0]);
        renewals.outgrown("b");
        assert!(renewals.is_awaited("b"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_seen_while_it_is_looked_at_is_looked_at_again() {
        let renewals = Renewals::on();
        renewals.look_at("a");
        assert_eq!(renewals.next().await, "a");
        renewals.outgrown("a");
        renewals.is_fit("a");
        assert!(renewals.is_awaited("a"));
        assert_eq!(renewals.next().await, "a");
        renewals.is_fit("a");
        assert!(!renewals.is_awaited("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_option_nothing_waits_or_is_due() {
        let renewals = Renewals::default();
        renewals.look_at("a");
        renewals.outgrown("a");
        assert!(!renewals.is_awaited("a"));
        assert!(timeout(WHILE, renewals.next()).await.is_err());
    }
}
