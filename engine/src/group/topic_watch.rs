//! Topics that are deleted and made again under the members of the group: Kafka's clients go on at the old offset of the new topic, and
//! say nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::lock::lock;
use crate::write::instance::Instance;

const INTERVAL: Duration = Duration::from_secs(10);

/// Compares the topics' ids with those that their targets were made from, until this is dropped or one is another topic.
pub(crate) async fn watch<T>(instance: Arc<Instance<T>>, cluster: impl Cluster) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let begun = lock(&instance.topics).clone();
        let names: Vec<_> = begun.keys().cloned().collect();
        let ids = match cluster.ids(&names).await {
            Ok(ids) => ids,
            Err(error) => {
                tracing::debug!(%error, "could not look at the topics' ids");
                continue;
            }
        };
        let other = begun.iter().find_map(|(topic, was)| {
            let (was, is) = (was.as_ref()?, ids.get(topic)?.as_ref()?);
            (was != is).then_some(topic)
        });
        if let Some(topic) = other {
            // Each target is judged anew then, by the id that it has noted.
            let reason = format!("topic {topic} was deleted and made again");
            return instance.failure.start_over(&reason);
        }
    }
}
