//! What a lane's target has accepted, and how it is made durable.

use std::sync::Arc;

use tokio::time::Instant;
use tributary_runtime::{Policy, Result};

use super::LaneTask;
use crate::cluster::Cluster;
use crate::metrics::RETRIES;
use crate::outside;
use crate::status::On;
use crate::target::{Lane as _, Swept, Target, Written};
use crate::write::job::Turn;
use crate::write::work::Work;

impl<T: Target, C: Cluster> LaneTask<T, C> {
    /// Notes what was written.
    pub(super) fn take_over(&mut self, work: Work, written: Written) {
        let (mut is_foreign, mut records) = (false, 0);
        let figures = &self.account.figures;
        for (batch, history) in work.written() {
            // What was written for an earlier assignment says nothing of this one.
            let held = self.held.get_mut(&batch.partition().partition);
            let Some(held) = held.filter(|held| Arc::ptr_eq(&held.hold.source, &batch.source))
            else {
                continue;
            };
            is_foreign |= history.versions_are_offsets();
            records += batch.records.len();
            held.history = history;
            let before = held.accepted;
            held.accepted = held.accepted.max(batch.next_offset());
            held.freshness.accepted(&batch, figures);
            let is_written = match written {
                Written::Durable => held.accepted == batch.next_offset(),
                Written::Unswept => {
                    if let Some(below) = batch.below() {
                        self.sweeping.add(&held.hold, below, before);
                    }
                    true
                }
                Written::Accepted => false,
            };
            if is_written {
                held.note_written(figures);
                self.sweeping.advance(held);
                self.instance.changed.note(&held.hold);
            }
        }
        figures.done(records);
        if let Some(ground) = self.ground.get() {
            figures.passed_over(ground.lane.passed_over());
        }
        if let Some(ground) = self.ground.get().filter(|_| is_foreign) {
            self.keeping.note_versions_are_offsets(ground);
        }
        let sweeping = &self.sweeping;
        if self.held.values().all(|held| sweeping.is_settled(held)) {
            self.settle_at = None;
        } else {
            let due = Instant::now() + self.instance.config.batch.flush_after();
            self.settle_at.get_or_insert(due);
        }
    }

    /// Makes durable what has waited long enough, or what is to be let go.
    pub(super) async fn settle_if_due(&mut self) {
        let is_due = self.settle_at.is_some_and(|at| at <= Instant::now());
        let Some(ground) = self.ground.get().filter(|_| is_due && self.jobs.is_empty()) else {
            return;
        };
        if !self.instance.lease.is_held() {
            // The next holder writes again what was not durable.
            self.give_up_leaving();
            self.settle_at = Some(Instant::now() + outside::delay(&mut self.backoff));
            return;
        }
        // A replay writes without being one of the jobs.
        let alone = Turn::Alone(Arc::clone(&self.turns)).take().await;
        let settled = Arc::clone(ground).lane.settle().await;
        drop(alone);
        match settled {
            Ok(()) => {
                self.settle_at = None;
                self.backoff.reset();
                self.instance.status.clear(&self.topic);
                for held in self.held.values_mut() {
                    held.note_written(&self.account.figures);
                    self.sweeping.advance(held);
                    self.instance.changed.note(&held.hold);
                }
            }
            Err(error) if error.policy() == Policy::Retry => {
                metrics::counter!(RETRIES).increment(1);
                let delay = outside::delay(&mut self.backoff);
                let error = error.context(format!("make durable what {} has accepted", self.topic));
                tracing::warn!(%error, ?delay, "tries again");
                self.instance
                    .status
                    .obstacle(&self.topic, On::Target, &error.to_string());
                self.settle_at = Some(Instant::now() + delay);
                self.give_up_leaving();
            }
            Err(error) => self.fail(error),
        }
    }

    /// Goes on with what is to be swept.
    pub(super) fn sweep(&mut self) {
        if let Some(ground) = self.ground.get().filter(|_| !self.has_failed) {
            let (figures, failed) = (&self.account.figures, &self.failed);
            self.sweeping
                .go_on(&self.instance, ground, &self.topic, figures, failed);
        }
    }

    /// A piece of a sweep has ended.
    pub(super) fn swept(&mut self, piece: Result<Swept>) {
        match piece {
            Ok(Swept::Some) => {}
            Ok(Swept::All) => {
                self.sweeping.finish();
                for held in self.held.values_mut() {
                    if held.durable < held.accepted {
                        self.sweeping.advance(held);
                        self.instance.changed.note(&held.hold);
                    }
                }
            }
            Err(error) if error.is_interrupted() => {}
            Err(error) => self.fail(error),
        }
    }

    /// What leaves and could not be made durable is written again by the next holder.
    pub(super) fn give_up_leaving(&mut self) {
        for held in self.held.values_mut().filter(|held| held.is_leaving) {
            if held.durable < held.accepted {
                let partition = held.hold.partition();
                tracing::warn!(%partition, "is let go with accepted records that are not durable");
                held.accepted = held.durable;
            }
        }
    }
}
