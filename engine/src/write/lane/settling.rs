//! What a lane's target has accepted is made durable.

use std::sync::Arc;

use tokio::time::Instant;
use tributary_runtime::Policy;

use super::LaneTask;
use crate::cluster::Cluster;
use crate::metrics::RETRIES;
use crate::outside;
use crate::status::On;
use crate::target::{Lane as _, Target};

impl<T: Target, C: Cluster> LaneTask<T, C> {
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
        match Arc::clone(ground).lane.settle().await {
            Ok(()) => {
                self.settle_at = None;
                self.backoff.reset();
                self.instance.status.clear(&self.topic);
                for held in self.held.values_mut() {
                    held.set_durable(&self.account.figures);
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
