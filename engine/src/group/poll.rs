//! The poll thread: fetches, hands records to the lanes, answers rebalances, commits what is durable.
//!
//! It alone talks to the group, and never waits for a target: a partition that is to be let go drains
//! while the thread polls on, so the membership and the lease stay alive.

mod fetching;
mod pausing;
mod receiving;
mod replaying;
mod turning;

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, counter, gauge};
use tokio::runtime::Handle;
use tokio::time::Instant;
use tributary_runtime::Result;

use crate::cluster::Cluster;
use crate::group::commit::{self, Commits};
use crate::group::holdings::{Holding, Holdings};
use crate::group::member::{Member, Rebalance};
use crate::metrics::{BUFFERED, BYTES, PARTITIONS, RECORDS};
use crate::target::Target;
use crate::topics::TopicPartition;
use crate::write::hold::Hold;
use crate::write::instance::{GROUP, Instance, Lasting};
use crate::write::lane::LaneHandle;
use crate::write::replay::Ticket;
use fetching::Fetching;
use pausing::Pausing;
use turning::Turning;

/// How long a poll waits with nothing else to do, and with partitions in a passing state.
const IDLE_WAIT: Duration = Duration::from_millis(50);
const BUSY_WAIT: Duration = Duration::from_millis(5);
/// How often room is looked for in a lane that is full.
const ROOM_POLL: Duration = Duration::from_millis(1);

/// How long a revoked partition may take to finish its write. What is not finished then, the next holder writes again: the
/// target fences the earlier one, or takes an older version for what it is.
const REVOKE_WAIT: Duration = Duration::from_secs(5);

/// The same at shutdown, within the time that a service has for it.
pub(crate) const SHUTDOWN_WAIT: Duration = Duration::from_secs(20);

/// The state of the poll thread.
pub(crate) struct Poll<T: Target, M, C> {
    instance: Arc<Instance<T>>,
    member: M,
    cluster: C,
    runtime: Handle,
    holdings: Holdings,
    fetching: Fetching,
    commits: Commits,
    revocation: Option<Revocation>,
    /// At the end: until when writes may finish.
    drains_until: Option<Instant>,
    pausing: Pausing,
    turning: Option<Turning>,
    housekept_at: Instant,
    records: Counter,
    bytes: Counter,
}

/// Partitions that are draining before they are let go.
struct Revocation {
    partitions: Vec<TopicPartition>,
    deadline: Instant,
}

impl<T: Target, M: Member, C: Cluster> Poll<T, M, C> {
    pub(crate) fn new(instance: Arc<Instance<T>>, member: M, cluster: C, runtime: Handle) -> Self {
        Self {
            commits: Commits::new(instance.survey_interval),
            instance,
            member,
            cluster,
            runtime,
            holdings: Holdings::default(),
            fetching: Fetching::default(),
            revocation: None,
            drains_until: None,
            pausing: Pausing::default(),
            turning: None,
            housekept_at: Instant::now(),
            records: counter!(RECORDS),
            bytes: counter!(BYTES),
        }
    }

    /// Polls until the instance stops, then lets go of everything and leaves the group.
    pub(crate) fn run(mut self) {
        while self.step() {}
    }

    /// One step on that way; whether there are more.
    pub(crate) fn step(&mut self) -> bool {
        if self.drains_until.is_none() && self.instance.failure.stop.is_cancelled() {
            self.begin_to_drain();
        }
        if self
            .drains_until
            .is_some_and(|until| self.is_drained(until))
        {
            self.end();
            return false;
        }
        if let Err(error) = self.turn() {
            self.instance.failure.stop_with(error);
        }
        true
    }

    #[cfg(test)]
    pub(crate) const fn holdings(&self) -> &Holdings {
        &self.holdings
    }

    fn turn(&mut self) -> Result<()> {
        let is_idle = if self.fetching.waits_for_room() {
            self.member.rest(ROOM_POLL);
            false
        } else {
            let is_busy = self.revocation.is_some() || self.fetching.is_passing();
            !self.receive(if is_busy { BUSY_WAIT } else { IDLE_WAIT })?
        };
        while let Some(rebalance) = self.member.next_rebalance() {
            self.rebalance(rebalance)?;
        }
        self.fetching
            .stop_full(&self.instance.budget, &self.member, &mut self.holdings)?;
        if is_idle || self.housekept_at.elapsed() >= BUSY_WAIT {
            self.housekept_at = Instant::now();
            self.housekeep()?;
        }
        Ok(())
    }

    fn rebalance(&mut self, rebalance: Rebalance) -> Result<()> {
        match rebalance {
            Rebalance::Assigned(partitions) => self.assign(partitions)?,
            Rebalance::Revoked {
                partitions,
                lost: true,
            } => {
                tracing::warn!(?partitions, "the group has given partitions away");
                self.pausing
                    .forget(&partitions, &self.instance.lasting.accounts);
                self.leave(&partitions);
                self.let_go(&partitions)?;
            }
            Rebalance::Revoked { partitions, .. } => {
                self.pausing
                    .forget(&partitions, &self.instance.lasting.accounts);
                self.leave(&partitions);
                self.revocation = Some(Revocation {
                    partitions,
                    deadline: Instant::now() + REVOKE_WAIT,
                });
            }
        }
        Ok(())
    }

    /// Begins to open the partitions. Each is fetched once its start is known; the group has its answer right away.
    fn assign(&mut self, partitions: Vec<TopicPartition>) -> Result<()> {
        self.member.assign(&[])?;
        self.instance.status.clear(GROUP);
        if self.instance.failure.stop.is_cancelled() {
            return Ok(());
        }
        for partition in partitions {
            tracing::info!(%partition, "is assigned");
            let lasting = &self.instance.lasting;
            if lasting.pauses.has(&partition.topic) {
                let holding = Holding::new(Arc::new(Hold::new(partition)));
                self.pausing.keep(holding, &lasting.accounts);
            } else {
                self.open(partition);
            }
        }
        self.report_holdings();
        Ok(())
    }

    /// Begins to open a partition.
    fn open(&mut self, partition: TopicPartition) {
        self.open_as(Hold::new(partition), None);
    }

    fn open_as(&mut self, hold: Hold, replay: Option<Ticket>) {
        let TopicPartition { topic, partition } = hold.partition().clone();
        let (number, hold) = (partition, Arc::new(hold));
        let held = self.holdings.topic_or_insert(&topic, || {
            let cluster = self.cluster.clone();
            LaneHandle::start(&self.instance, cluster, &topic, &self.runtime)
        });
        held.lane.take(Arc::clone(&hold), replay);
        if let Some(earlier) = held.partitions.insert(number, Holding::new(hold)) {
            self.fetching.forget(&earlier);
        }
        self.fetching.expect();
    }

    /// Carries out what somebody has asked: partitions are paused once what is begun of them is finished, and opened again
    /// when they are resumed.
    fn pause_and_resume(&mut self) -> Result<()> {
        // The group would take what is let go here for the answer that it waits for.
        if self.revocation.is_some() {
            return Ok(());
        }
        let Lasting {
            accounts, pauses, ..
        } = self.instance.lasting.clone();
        let begun = self.pausing.begun(&pauses, &self.holdings);
        self.leave(&begun);
        let left = self.pausing.left(&self.holdings);
        if !left.is_empty() {
            commit::in_background(&self.member, &self.holdings, &left);
            for partition in &left {
                self.instance.status.clear(&partition.topic);
            }
            let gone = left.iter().filter_map(|one| self.holdings.remove(one));
            let fetched = self.pausing.park(gone, &mut self.fetching, &accounts);
            self.member.unassign(&fetched)?;
        }
        let resumed = self.pausing.resumed(&pauses, &accounts);
        let is_changed = !left.is_empty() || !resumed.is_empty();
        for partition in resumed {
            tracing::info!(%partition, "is resumed");
            self.open(partition);
        }
        if is_changed {
            self.report_holdings();
        }
        Ok(())
    }

    /// Has the lanes finish what they have begun of these partitions.
    fn leave(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            if let Some(held) = self.holdings.topic_mut(&partition.topic)
                && let Some(holding) = held.partitions.get_mut(&partition.partition)
            {
                holding.is_leaving = true;
                // At once: a lane that waits for its target hears of it later, and what is being opened would take the partition
                // from its next holder.
                holding.hold.leave.cancel();
                held.lane.leave(partition.partition);
            }
        }
    }

    fn housekeep(&mut self) -> Result<()> {
        for hold in self.instance.changed.take() {
            self.commits.note(hold.partition());
            self.fetching.note_opened(&hold);
        }
        self.fetching
            .fetch_opened(&self.member, &mut self.holdings)?;
        self.fetching
            .resume(&self.instance.budget, &self.member, &mut self.holdings)?;
        self.finish_revocation()?;
        self.pause_and_resume()?;
        self.replay()?;
        self.instance.status.settle();
        if self.commits.work(&self.member, &mut self.holdings) {
            self.pausing.show_lag();
            gauge!(BUFFERED).set(self.instance.budget.held() as f64);
        }
        Ok(())
    }

    /// Lets the revoked partitions go once their lanes have nothing to do with them any more, or are too late.
    fn finish_revocation(&mut self) -> Result<()> {
        let Some(revocation) = &self.revocation else {
            return Ok(());
        };
        let late: Vec<_> = revocation
            .partitions
            .iter()
            .filter(|partition| {
                let holding = self.holdings.get(partition);
                holding.is_some_and(|holding| !holding.hold.has_left())
            })
            .collect();
        if !late.is_empty() {
            if Instant::now() < revocation.deadline {
                return Ok(());
            }
            tracing::warn!(
                ?late,
                "lets go of partitions whose write has not finished in time"
            );
        }
        let partitions = revocation.partitions.clone();
        self.revocation = None;
        commit::synchronously(&self.member, &mut self.holdings, &partitions);
        self.let_go(&partitions)
    }

    /// Forgets partitions and gives them back to the group.
    fn let_go(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        let mut fetched = Vec::new();
        for partition in partitions {
            let Some(holding) = self.holdings.remove(partition) else {
                continue;
            };
            self.fetching.forget(&holding);
            holding.forget_lag();
            if holding.is_fetched {
                fetched.push(partition.clone());
            }
            tracing::info!(%partition, "is let go");
        }
        self.report_holdings();
        self.member.unassign(&fetched)
    }

    /// At the end: what is being written is finished. Polls on meanwhile.
    fn begin_to_drain(&mut self) {
        self.pausing.forget_all(&self.instance.lasting.accounts);
        self.turning = None;
        let all = self.all();
        self.leave(&all);
        for (_, held) in self.holdings.topics() {
            if let Err(error) = self.member.pause(&held.fetched()) {
                tracing::debug!(%error, "could not pause");
            }
        }
        self.drains_until = Some(Instant::now() + SHUTDOWN_WAIT);
    }

    /// Whether all is written, or it is too late for it.
    fn is_drained(&self, until: Instant) -> bool {
        let late = self.holdings.iter();
        let late: Vec<_> = late.filter(|holding| !holding.hold.has_left()).collect();
        if late.is_empty() {
            return true;
        }
        let is_late = Instant::now() >= until;
        if is_late {
            let late = late.iter().map(|holding| holding.partition().to_string());
            let late: Vec<_> = late.collect();
            tracing::warn!(?late, "stops with writes that have not finished in time");
        }
        is_late
    }

    /// Commits what was written, and leaves the group.
    fn end(&mut self) {
        let all = self.all();
        commit::synchronously(&self.member, &mut self.holdings, &all);
        if let Err(error) = self.let_go(&all) {
            tracing::debug!(%error, "could not let go of the partitions; closes");
        }
        self.member.close();
    }

    fn all(&self) -> Vec<TopicPartition> {
        let all = self.holdings.iter();
        all.map(|holding| holding.partition().clone()).collect()
    }

    fn report_holdings(&self) {
        let (count, paused) = (self.holdings.iter().count(), self.pausing.count());
        gauge!(PARTITIONS).set((count + paused) as f64);
        let writing = match count {
            1 => "writing 1 partition".to_owned(),
            count => format!("writing {count} partitions"),
        };
        self.instance.status.set_phase(match (count, paused) {
            (0, 0) => "standing by".to_owned(),
            (0, _) => "paused".to_owned(),
            (_, 0) => writing,
            (_, paused) => format!("{writing}, {paused} paused"),
        });
    }
}
