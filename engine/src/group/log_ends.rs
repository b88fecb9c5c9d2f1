//! Where the log ends: asked of Kafka, so that its silence is noticed too.

use std::sync::Arc;
use std::time::Duration;

use tributary_runtime::Result;

use crate::cluster::Cluster;
use crate::outside::now_ms;
use crate::status::On;
use crate::topics::TopicPartition;
use crate::write::hold::Hold;
use crate::write::instance::Instance;

const INTERVAL: Duration = Duration::from_secs(5);

/// So many partitions are asked for at a time: librdkafka looks each answer up in a list.
const AT_ONCE: usize = 100;

/// Who is in the way while Kafka does not answer.
const BROKERS: &str = "Kafka's brokers";

/// Asks where the partitions that are held end, until this is dropped. While there is no answer, nobody knows how far behind the
/// sink is: librdkafka goes on with what it has heard last, and an idle sink would look as if all were well.
pub(crate) async fn watch<T>(instance: Arc<Instance<T>>, cluster: impl Cluster) {
    loop {
        let holds = instance.lasting.accounts.holds();
        match ask(&holds, &cluster).await {
            Ok(()) => instance.status.clear(BROKERS),
            Err(error) => {
                for hold in &holds {
                    hold.forget_end();
                }
                let error = error.context("ask where the log ends").to_string();
                instance.status.obstacle(BROKERS, On::Kafka, &error);
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn ask(holds: &[Arc<Hold>], cluster: &impl Cluster) -> Result<()> {
    if holds.is_empty() {
        // A standby that hears nothing any more would not learn that it is needed.
        return cluster.ends(&[]).await.map(|_| ());
    }
    for some in holds.chunks(AT_ONCE) {
        let partitions: Vec<TopicPartition> =
            some.iter().map(|hold| hold.partition().clone()).collect();
        let asked_ms = now_ms();
        let ends = cluster.ends(&partitions).await?;
        for (hold, end) in some.iter().zip(ends) {
            match end {
                Some(end) => hold.set_end(end, asked_ms),
                None => hold.forget_end(),
            }
        }
    }
    Ok(())
}
