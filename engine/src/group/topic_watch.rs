//! What happens to topics under the members of the group, and Kafka's clients say nothing of.
//!
//! - A topic is deleted and made again: they go on at the old offset of the new one.
//! - A topic is away, or seems to be, in the moment in which the group's leader divides the partitions: nobody is given any of it, and
//!   when it is there again, the leader sees the same topics as before and divides nothing anew.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tributary_runtime::Result;

use crate::cluster::Cluster;
use crate::lock::lock;
use crate::topics::{Subscription, TopicPartition};
use crate::write::instance::Instance;

/// Longer than a member takes to let a partition go that another is to have.
const INTERVAL: Duration = Duration::from_secs(10);

/// How often in a row a partition is nobody's before the group is left for it: twice the first time, and the more often the less it
/// helped, up to some 10 minutes. A member that cannot see a topic gives nobody any of it, however often the others leave.
const MAX_DOUBLINGS: u32 = 6;

/// Has the instance start over when a topic is another one than its target was made from, or when a partition stays nobody's; looks
/// until then, or until this is dropped.
pub(crate) async fn watch<T>(
    instance: Arc<Instance<T>>,
    cluster: impl Cluster,
    subscription: Subscription,
) {
    let mut nobodys = Nobodys::default();
    loop {
        tokio::time::sleep(INTERVAL).await;
        match look(&instance, &cluster, &subscription, &mut nobodys).await {
            Ok(None) => {}
            Ok(Some(reason)) => return instance.failure.start_over(&reason),
            Err(error) => {
                tracing::debug!(%error, "could not look at the topics");
                nobodys = Nobodys::default();
            }
        }
    }
}

/// Partitions that no member of the group has.
#[derive(Debug, Default)]
struct Nobodys {
    last: BTreeSet<TopicPartition>,
    /// How often in a row one of them was among the last ones already.
    repeats: u32,
}

impl Nobodys {
    /// One that stays nobody's for too long, after the group was left so often for such a one.
    fn note(&mut self, now: BTreeSet<TopicPartition>, left: u32) -> Option<TopicPartition> {
        let still = now.intersection(&self.last).next().cloned();
        self.last = now;
        self.repeats = if still.is_some() { self.repeats + 1 } else { 0 };
        still.filter(|_| self.repeats >= 1 << left.min(MAX_DOUBLINGS))
    }
}

/// Why to start over, if there is a reason.
async fn look<T>(
    instance: &Instance<T>,
    cluster: &impl Cluster,
    subscription: &Subscription,
    nobodys: &mut Nobodys,
) -> Result<Option<String>> {
    let made_again = made_again(instance, cluster);
    let (made_again, unassigned) = tokio::join!(made_again, cluster.unassigned(subscription));
    if let Some(topic) = made_again? {
        // Each target is judged anew then, by the id that it has noted.
        return Ok(Some(format!("topic {topic} was deleted and made again")));
    }
    let now = unassigned?;
    let left = &instance.lasting.left_for_nobodys;
    if now.is_empty() {
        left.store(0, Ordering::Relaxed);
    }
    let Some(partition) = nobodys.note(now, left.load(Ordering::Relaxed)) else {
        return Ok(None);
    };
    left.fetch_add(1, Ordering::Relaxed);
    Ok(Some(format!(
        "no member of the group has been given {partition}"
    )))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_left_the_later_the_less_it_has_helped() {
        let partitions = |numbers: &[i32]| {
            let numbers = numbers.iter();
            let named = numbers.map(|&partition| TopicPartition {
                topic: "t".to_owned(),
                partition,
            });
            named.collect::<BTreeSet<_>>()
        };
        // Moved from one member to another, a partition is nobody's for a moment.
        let mut moving = Nobodys::default();
        for numbers in [&[0][..], &[1], &[], &[0], &[1, 2], &[]] {
            assert_eq!(moving.note(partitions(numbers), 0), None, "{numbers:?}");
        }
        for (left, looks) in [(0, 2), (1, 3), (2, 5), (6, 65), (60, 65)] {
            let mut nobodys = Nobodys::default();
            let noted = (1..).find(|_| nobodys.note(partitions(&[0, 3]), left).is_some());
            assert_eq!(noted, Some(looks), "after {left}");
        }
    }
}
