//! Partitions that are paused: the group has given them to this instance, and nothing is done with them.

use std::collections::{BTreeMap, BTreeSet};

use super::fetching::Fetching;
use crate::group::holdings::{Holding, Holdings};
use crate::topics::TopicPartition;
use crate::write::account::Accounts;
use crate::write::pauses::Pauses;

/// The partitions on their way into a pause, and those that have arrived.
///
/// A paused partition has no lane, no buffer and is not fetched. It goes on as one that was just assigned does: its target is asked
/// anew where it stands, and whether deletes may have been missed meanwhile.
#[derive(Debug, Default)]
pub(super) struct Pausing {
    /// The version of the pauses that was carried out.
    seen: u64,
    /// What is begun of these is being finished.
    leaving: BTreeSet<TopicPartition>,
    parked: BTreeMap<TopicPartition, Holding>,
}

impl Pausing {
    /// The partitions whose topic has been paused since the last call.
    pub(super) fn begun(&mut self, pauses: &Pauses, holdings: &Holdings) -> Vec<TopicPartition> {
        let version = pauses.version();
        if std::mem::replace(&mut self.seen, version) == version {
            return Vec::new();
        }
        let begun = holdings.topics().filter(|(topic, _)| pauses.has(topic));
        let begun = begun.flat_map(|(_, held)| held.partitions.values());
        let begun: Vec<_> = begun
            .filter(|holding| !holding.is_leaving)
            .map(|holding| holding.partition().clone())
            .collect();
        self.leaving.extend(begun.iter().cloned());
        begun
    }

    /// Those with which their lanes have nothing to do any more.
    pub(super) fn left(&mut self, holdings: &Holdings) -> Vec<TopicPartition> {
        let has_left = |partition: &TopicPartition| {
            let holding = holdings.get(partition);
            holding.is_none_or(|holding| holding.hold.has_left())
        };
        self.leaving.extract_if(.., |one| has_left(one)).collect()
    }

    /// Keeps partitions aside that were held; returns those that are still fetched.
    pub(super) fn park(
        &mut self,
        holdings: impl IntoIterator<Item = Holding>,
        fetching: &mut Fetching,
        accounts: &Accounts,
    ) -> Vec<TopicPartition> {
        let mut fetched = Vec::new();
        for mut holding in holdings {
            fetching.forget(&holding);
            if std::mem::take(&mut holding.is_fetched) {
                fetched.push(holding.partition().clone());
            }
            self.keep(holding, accounts);
        }
        fetched
    }

    /// Keeps a partition aside.
    pub(super) fn keep(&mut self, holding: Holding, accounts: &Accounts) {
        let partition = holding.partition().clone();
        tracing::info!(%partition, "is paused");
        accounts.of(&partition.topic).hold(&holding.hold);
        self.parked.insert(partition, holding);
    }

    /// The partitions that are not paused any more.
    pub(super) fn resumed(&mut self, pauses: &Pauses, accounts: &Accounts) -> Vec<TopicPartition> {
        let resumed = self
            .parked
            .extract_if(.., |partition, _| !pauses.has(&partition.topic));
        resumed
            .map(|(partition, holding)| {
                give_up(&holding, accounts);
                partition
            })
            .collect()
    }

    /// The group takes these away.
    pub(super) fn forget(&mut self, partitions: &[TopicPartition], accounts: &Accounts) {
        for partition in partitions {
            self.leaving.remove(partition);
            if let Some(holding) = self.parked.remove(partition) {
                give_up(&holding, accounts);
            }
        }
    }

    /// The instance ends.
    pub(super) fn forget_all(&mut self, accounts: &Accounts) {
        for holding in std::mem::take(&mut self.parked).values() {
            give_up(holding, accounts);
        }
    }

    /// Whether it is kept aside, or is on its way there.
    pub(super) fn has(&self, partition: &TopicPartition) -> bool {
        self.parked.contains_key(partition) || self.leaving.contains(partition)
    }

    /// How many are kept aside.
    pub(super) fn count(&self) -> usize {
        self.parked.len()
    }

    /// Tells the metrics how far behind they are.
    pub(super) fn show_lag(&self) {
        self.parked.values().for_each(Holding::show_lag);
    }
}

fn give_up(holding: &Holding, accounts: &Accounts) {
    holding.forget_lag();
    accounts
        .of(&holding.partition().topic)
        .let_go(&holding.hold);
}
