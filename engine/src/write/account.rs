//! What each topic does, for `status`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};

use crate::figures::Figures;
use crate::lock::lock;
use crate::outside::now_ms;
use crate::status::{On, Status};
use crate::target::Lane;
use crate::write::ground::Ground;
use crate::write::hold::Hold;
use crate::write::pauses::Pauses;

/// A write that is under way for so long is worth a word.
const LONG_WRITE: Duration = Duration::from_secs(1);

/// The accounts of all topics that this service has written, also while it holds none of their partitions.
#[derive(Debug, Default)]
pub(crate) struct Accounts(Mutex<BTreeMap<String, Arc<Account>>>);

/// What is told of one topic.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) figures: Arc<Figures>,
    holds: Mutex<BTreeMap<i32, Arc<Hold>>>,
    lane: Mutex<Option<HeldBack>>,
}

/// Asks the lane that writes the topic why less is asked of its target than might be.
struct HeldBack(Box<dyn Fn() -> Option<String> + Send + Sync>);

impl fmt::Debug for HeldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeldBack")
    }
}

impl Accounts {
    /// The account of a topic.
    pub(crate) fn of(&self, topic: &str) -> Arc<Account> {
        let mut accounts = lock(&self.0);
        Arc::clone(accounts.entry(topic.to_owned()).or_default())
    }

    /// The partitions that are held.
    pub(crate) fn holds(&self) -> Vec<Arc<Hold>> {
        let accounts = lock(&self.0);
        let holds = accounts.values().map(|account| account.holds());
        holds
            .flat_map(|holds| holds.values().cloned().collect::<Vec<_>>())
            .collect()
    }

    /// The topics of which partitions are held, as a part of `status`.
    pub(crate) fn report(&self, status: &Status, pauses: &Pauses) -> Vec<Value> {
        let accounts = lock(&self.0);
        let reports = accounts
            .iter()
            .filter_map(|(topic, account)| account.report(topic, status, pauses));
        reports.collect()
    }
}

impl Account {
    /// The partition was assigned.
    pub(crate) fn hold(&self, hold: &Arc<Hold>) {
        let number = hold.partition().partition;
        self.holds().insert(number, Arc::clone(hold));
    }

    /// The topic is written by the lane that stands on this.
    pub(crate) fn ask<L: Lane>(&self, ground: &Arc<Ground<L>>) {
        let ground = Arc::downgrade(ground);
        let asked = HeldBack(Box::new(move || ground.upgrade()?.lane.held_back()));
        *lock(&self.lane) = Some(asked);
    }

    /// The partition is let go.
    pub(crate) fn let_go(&self, hold: &Arc<Hold>) {
        let number = hold.partition().partition;
        let mut holds = self.holds();
        // It may have been assigned again.
        if holds
            .get(&number)
            .is_some_and(|held| Arc::ptr_eq(held, hold))
        {
            holds.remove(&number);
        }
    }

    fn report(&self, topic: &str, status: &Status, pauses: &Pauses) -> Option<Value> {
        let holds: Vec<_> = self.holds().values().cloned().collect();
        let first = holds.first()?;
        let now_ms = now_ms();
        // Of a sum, or a maximum, of which a part is not known nothing is known.
        let behind: Option<i64> = holds.iter().map(|hold| hold.behind()).sum();
        let behind_ms: Option<Vec<i64>> = holds.iter().map(|hold| hold.behind_ms(now_ms)).collect();
        let behind_ms = behind_ms.and_then(|all| all.into_iter().max());
        let (waits_for, reason) = if pauses.has(topic) {
            (Some("paused"), self.pausing_reason())
        } else {
            let unopened = holds.iter().filter(|hold| hold.start().is_none());
            self.waits_for(
                topic,
                &unopened.collect::<Vec<_>>(),
                behind != Some(0),
                status,
            )
        };
        let mut report = json!({
            "topic": topic,
            "generation": first.generation(),
            "partitions": holds.len(),
            "lag_records": behind,
            "lag_seconds": behind_ms.map(|millis| millis.div_euclid(100) as f64 / 10.0),
            "waits_for": waits_for,
            "reason": reason,
        });
        if let (Value::Object(report), Value::Object(figures)) =
            (&mut report, self.figures.report())
        {
            report.extend(figures);
        }
        Some(report)
    }

    /// What is finished before a pause.
    fn pausing_reason(&self) -> Option<String> {
        let time = self.figures.writing_for()?;
        let seconds = time.as_secs();
        Some(format!(
            "a write that is under way for {seconds} s is finished first"
        ))
    }

    /// Who is waited for, and why.
    fn waits_for(
        &self,
        topic: &str,
        unopened: &[&Arc<Hold>],
        is_behind: bool,
        status: &Status,
    ) -> (Option<&'static str>, Option<String>) {
        if let Some(obstacle) = status.obstacle_of(topic) {
            return (Some(obstacle.on.name()), Some(obstacle.reason));
        }
        if let Some(time) = self
            .figures
            .writing_for()
            .filter(|&time| time >= LONG_WRITE)
        {
            let mut reason = format!("a write is under way for {} s", time.as_secs());
            if let Some(why) = self.held_back() {
                reason = format!("{reason}; {why}");
            }
            return (Some(On::Target.name()), Some(reason));
        }
        if let Some(why) = self.held_back().filter(|_| is_behind) {
            return (Some(On::Target.name()), Some(why));
        }
        if let Some(time) = self.figures.sweeping_for() {
            let reason = format!(
                "rows that a truncate or a re-snapshot has left behind are deleted since {} s; what comes is written meanwhile",
                time.as_secs()
            );
            return (Some(On::Target.name()), Some(reason));
        }
        if !unopened.is_empty() {
            let reason = match unopened.iter().find(|hold| hold.is_for_replay) {
                Some(hold) => format!("letters of {} are replayed", hold.partition()),
                None => format!("{} partitions are being opened", unopened.len()),
            };
            return (Some(On::Opening.name()), Some(reason));
        }
        (None, None)
    }

    fn held_back(&self) -> Option<String> {
        lock(&self.lane).as_ref()?.0()
    }

    fn holds(&self) -> MutexGuard<'_, BTreeMap<i32, Arc<Hold>>> {
        lock(&self.holds)
    }
}
