//! Commits what is durable, and says how far behind it is.

use metrics::gauge;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use crate::group::holdings::{Holding, Holdings};
use crate::group::membership::GroupClient;
use crate::metrics::LAG;
use crate::topics::TopicPartition;

/// Commits in the background. A failure is reported to the [`Membership`](super::membership::Membership).
pub(crate) fn asynchronously(client: &GroupClient, holdings: &mut Holdings) {
    let positions = client.position().ok();
    let position = |holding: &Holding| {
        let TopicPartition { topic, partition } = holding.partition();
        let element = positions.as_ref()?.find_partition(topic, *partition)?;
        match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    };
    let committable = |holding: &Holding| holding.committable(position(holding));
    for holding in holdings.iter() {
        report_lag(client, holding, committable(holding));
    }
    let moved =
        |holding: &Holding| committable(holding).filter(|_| is_new(holding, committable(holding)));
    let list = offsets(holdings.iter(), moved);
    if list.count() == 0 {
        return;
    }
    match client.commit(&list, CommitMode::Async) {
        Ok(()) => note(holdings, &list),
        Err(error) => tracing::info!(%error, "could not commit offsets; commits them again"),
    }
}

/// Commits the durable offsets of partitions that are about to be let go, and waits for the answer.
pub(crate) fn synchronously(
    client: &GroupClient,
    holdings: &mut Holdings,
    partitions: &[TopicPartition],
) {
    let list = offsets(holdings.iter(), |holding| {
        let durable = holding.assignment.position.durable();
        (partitions.contains(holding.partition()) && is_new(holding, durable))
            .then_some(durable)
            .flatten()
    });
    if list.count() == 0 {
        return;
    }
    match client.commit(&list, CommitMode::Sync) {
        Ok(()) => note(holdings, &list),
        Err(error) => {
            tracing::warn!(%error, "could not commit the last offsets: some records will be written again");
        }
    }
}

/// A commit of what `offset` says.
pub(crate) fn offsets<'a>(
    holdings: impl Iterator<Item = &'a Holding>,
    offset: impl Fn(&Holding) -> Option<i64>,
) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for holding in holdings.filter(|holding| holding.is_fetched) {
        let TopicPartition { topic, partition } = holding.partition();
        if let Some(offset) = offset(holding)
            && let Err(error) = list.add_partition_offset(topic, *partition, Offset::Offset(offset))
        {
            tracing::warn!(%error, topic, partition, offset, "could not note an offset");
        }
    }
    list
}

/// The partition is no longer this instance's.
pub(crate) fn forget_lag(partition: &TopicPartition) {
    set_lag(partition, 0);
}

fn is_new(holding: &Holding, offset: Option<i64>) -> bool {
    offset.is_some_and(|offset| holding.committed.is_none_or(|committed| offset > committed))
}

fn note(holdings: &mut Holdings, list: &TopicPartitionList) {
    for element in list.elements() {
        if let Offset::Offset(offset) = element.offset()
            && let Some(holding) = holdings.get_mut(element.topic(), element.partition())
        {
            holding.committed = Some(offset);
        }
    }
}

fn report_lag(client: &GroupClient, holding: &Holding, done: Option<i64>) {
    let end = client.context().end(holding.partition());
    if let (Some(end), Some(done)) = (end, done) {
        set_lag(holding.partition(), (end - done).max(0));
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a lag of 2^53 records is out of reach"
)]
fn set_lag(partition: &TopicPartition, lag: i64) {
    let number = partition.partition.to_string();
    gauge!(LAG, "topic" => partition.topic.clone(), "partition" => number).set(lag as f64);
}
