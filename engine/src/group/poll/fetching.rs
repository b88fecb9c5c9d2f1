//! What is fetched: partitions once they are opened, until their lane, or all lanes together, hold what they may.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tributary_runtime::Result;

use crate::flow::budget::Budget;
use crate::group::holdings::{Holding, Holdings};
use crate::group::member::{Member, PartitionOffset};
use crate::write::hold::Hold;

/// How long a lane that is full may take to get room before it is stopped, where no other lane holds anything. A stop costs what came
/// ahead, and until the brokers send again: with one topic to catch up, a third of the time was left (measured).
const ROOM_WAIT: Duration = Duration::from_millis(250);

/// The partitions and topics in a passing state; a turn costs their number, not that of all.
#[derive(Debug, Default)]
pub(super) struct Fetching {
    /// How many partitions are not fetched yet.
    unopened: usize,
    /// Those whose start is known.
    opened: Vec<Arc<Hold>>,
    /// A lane has just been found full.
    full: Option<String>,
    /// Since when nothing is fetched, because that lane may get room.
    waits_since: Option<Instant>,
    /// The topics whose lanes are stopped because they are full.
    stopped: BTreeSet<String>,
    /// All are stopped: together they hold all that they may.
    all_stopped: bool,
}

impl Fetching {
    /// Whether something is to be looked at soon.
    pub(super) fn is_passing(&self) -> bool {
        self.unopened > 0 || self.all_stopped || !self.stopped.is_empty()
    }

    /// Whether nothing is to be fetched right now: a lane that is full may get room.
    pub(super) const fn waits_for_room(&self) -> bool {
        self.waits_since.is_some()
    }

    /// A partition was assigned, and is being opened.
    pub(super) const fn expect(&mut self) {
        self.unopened += 1;
    }

    /// A partition is let go.
    pub(super) fn forget(&mut self, holding: &Holding) {
        if !holding.is_fetched {
            self.unopened = self.unopened.saturating_sub(1);
        }
        self.opened.retain(|hold| !Arc::ptr_eq(hold, &holding.hold));
    }

    /// Something about a hold has changed.
    pub(super) fn note_opened(&mut self, hold: &Arc<Hold>) {
        if self.unopened > 0 && hold.start().is_some() {
            self.opened.push(Arc::clone(hold));
        }
    }

    /// The topic's lane may take no more.
    pub(super) fn note_full(&mut self, topic: &str) {
        if self.full.as_deref() != Some(topic) {
            self.full = Some(topic.to_owned());
        }
    }

    /// Whether a lane has just been found full.
    pub(super) const fn has_filled(&self) -> bool {
        self.full.is_some()
    }

    /// Fetches the partitions whose start is known by now, all in one call.
    pub(super) fn fetch_opened(
        &mut self,
        member: &impl Member,
        holdings: &mut Holdings,
    ) -> Result<()> {
        if self.opened.is_empty() || member.has_lost() {
            return Ok(());
        }
        let mut starting = Vec::new();
        for hold in std::mem::take(&mut self.opened) {
            let Some(holding) = holdings.get_mut(hold.partition()) else {
                continue;
            };
            let is_new = Arc::ptr_eq(&holding.hold, &hold) && !holding.is_fetched;
            if let Some(start) = hold.start().filter(|_| is_new && !holding.is_leaving) {
                (holding.next, holding.is_fetched) = (start, true);
                self.unopened = self.unopened.saturating_sub(1);
                starting.push((hold, start));
            }
        }
        let places: Vec<PartitionOffset<'_>> = starting
            .iter()
            .map(|(hold, start)| (hold.partition(), *start))
            .collect();
        member.assign(&places)?;
        let (waits, goes): (Vec<_>, Vec<_>) = places
            .iter()
            .map(|(partition, _)| *partition)
            .partition(|partition| {
                let held = holdings.topic_mut(&partition.topic);
                self.all_stopped || held.is_some_and(|held| held.is_paused)
            });
        if !waits.is_empty() {
            member.pause(&waits)?;
        }
        // A pause outlives that a partition is let go and comes back.
        if !goes.is_empty() {
            member.resume(&goes)?;
        }
        Ok(())
    }

    /// Stops the lane that has just been found full, or all, unless it gets room soon.
    pub(super) fn stop_full(
        &mut self,
        budget: &Budget,
        member: &impl Member,
        holdings: &mut Holdings,
    ) -> Result<()> {
        let Some(topic) = self.full.take() else {
            return Ok(());
        };
        let waits_since = self.waits_since.take();
        if let Some(held) = holdings.topic_mut(&topic) {
            let inbox = &held.lane.inbox;
            if inbox.admits() {
                return Ok(());
            }
            let since = waits_since.unwrap_or_else(Instant::now);
            if inbox.is_alone() && since.elapsed() < ROOM_WAIT {
                (self.full, self.waits_since) = (Some(topic), Some(since));
                return Ok(());
            }
        }
        if budget.is_spent() && !self.all_stopped {
            self.all_stopped = true;
            for (_, held) in holdings.topics().filter(|(_, held)| !held.is_paused) {
                member.pause(&held.fetched())?;
            }
        }
        let Some(held) = holdings.topic_mut(&topic).filter(|held| !held.is_paused) else {
            return Ok(());
        };
        held.is_paused = true;
        if !self.all_stopped {
            member.pause(&held.fetched())?;
        }
        self.stopped.insert(topic);
        Ok(())
    }

    /// Goes on with the lanes that have room again.
    pub(super) fn resume(
        &mut self,
        budget: &Budget,
        member: &impl Member,
        holdings: &mut Holdings,
    ) -> Result<()> {
        if self.all_stopped {
            // Whoever is stopped by itself may hold what it does for hours.
            let mut others = holdings.topics().filter(|(_, held)| !held.is_paused);
            if budget.is_spent() || !others.all(|(_, held)| held.lane.inbox.has_room()) {
                return Ok(());
            }
            self.all_stopped = false;
            for (_, held) in holdings.topics().filter(|(_, held)| !held.is_paused) {
                member.resume(&held.fetched())?;
            }
        }
        let mut still = BTreeSet::new();
        for topic in std::mem::take(&mut self.stopped) {
            let Some(held) = holdings.topic_mut(&topic).filter(|held| held.is_paused) else {
                continue;
            };
            if held.lane.inbox.has_room() {
                held.is_paused = false;
                member.resume(&held.fetched())?;
            } else {
                still.insert(topic);
            }
        }
        self.stopped = still;
        Ok(())
    }
}
