//! What happens to topics under the members of the group, and Kafka's clients say nothing of.
//!
//! - A topic is deleted and made again: they go on at the old offset of the new one.
//! - A topic is away, or seems to be, in the moment in which the group's leader divides the partitions: nobody is given any of it, and
//!   when it is there again, the leader sees the same topics as before and divides nothing anew.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tributary_runtime::Result;

use crate::cluster::Cluster;
use crate::lock::lock;
use crate::topics::{Subscription, TopicPartition};
use crate::write::instance::Instance;

/// Longer than a member takes to let a partition go that another is to have.
const INTERVAL: Duration = Duration::from_secs(10);

/// Has the instance start over when a topic is another one than its target was made from, or when a partition is nobody's twice in a
/// row; looks until then, or until this is dropped.
pub(crate) async fn watch<T>(
    instance: Arc<Instance<T>>,
    cluster: impl Cluster,
    subscription: Subscription,
) {
    let mut unassigned = BTreeSet::new();
    loop {
        tokio::time::sleep(INTERVAL).await;
        match look(&instance, &cluster, &subscription, &mut unassigned).await {
            Ok(None) => {}
            Ok(Some(reason)) => return instance.failure.start_over(&reason),
            Err(error) => tracing::debug!(%error, "could not look at the topics"),
        }
    }
}

/// Why to start over, if there is a reason.
async fn look<T>(
    instance: &Instance<T>,
    cluster: &impl Cluster,
    subscription: &Subscription,
    unassigned: &mut BTreeSet<TopicPartition>,
) -> Result<Option<String>> {
    let before = std::mem::take(unassigned);
    if let Some(topic) = made_again(instance, cluster).await? {
        // Each target is judged anew then, by the id that it has noted.
        return Ok(Some(format!("topic {topic} was deleted and made again")));
    }
    *unassigned = cluster.unassigned(subscription).await?;
    let still = unassigned.intersection(&before).next();
    Ok(still.map(|partition| format!("no member of the group has been given {partition}")))
}

/// A topic that is not the one any more that its target was made from.
async fn made_again<T>(instance: &Instance<T>, cluster: &impl Cluster) -> Result<Option<String>> {
    let begun = lock(&instance.topics).clone();
    let names: Vec<_> = begun.keys().cloned().collect();
    let ids = cluster.ids(&names).await?;
    let other = begun.into_iter().find_map(|(topic, was)| {
        let (was, is) = (was?, ids.get(&topic)?.as_ref()?);
        (was != *is).then_some(topic)
    });
    Ok(other)
}
