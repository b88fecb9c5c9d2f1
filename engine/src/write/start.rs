//! Where reading a partition begins: decided here, never by `auto.offset.reset`.

use tributary_runtime::{Error, Result, ResultExt};

use crate::cluster::Cluster;
use crate::target::Start;
use crate::topics::TopicPartition;

/// What to do where the log does not have what comes next.
pub(crate) const REBUILD: &str = "rebuild the target from the beginning of the topic: a new `name` reads all of it; \
     or, to accept the gap, set the group's offsets with kafka-consumer-groups --reset-offsets";

/// The offset to begin with.
///
/// # Errors
/// Stop: the offset is not in the log any more, or not yet. Retry: Kafka does not answer.
pub(crate) async fn find(
    cluster: &impl Cluster,
    partition: &TopicPartition,
    start: Start,
) -> Result<i64> {
    let begin = match start {
        Start::At(offset) => Some(offset),
        Start::Committed => cluster
            .committed(partition)
            .await
            .doing(|| format!("ask for the committed offset of {partition}"))?,
        Start::Beginning => None,
    };
    let (low, high) = cluster.log_of(partition).await?;
    check(partition, begin.unwrap_or(low), low, high)
}

/// Nothing between where the target stands and the log may be missing.
pub(crate) fn check(partition: &TopicPartition, begin: i64, low: i64, high: i64) -> Result<i64> {
    let TopicPartition { topic, partition } = partition;
    let problem = if begin < low {
        format!(
            "topic {topic} partition {partition}: the target stands at offset {begin}, but the log begins at \
             {low}: {} records were deleted before they were read",
            low - begin
        )
    } else if begin > high {
        format!(
            "topic {topic} partition {partition}: the target stands at offset {begin}, but the log ends at \
             {high}: the topic was deleted and created again, or has lost records"
        )
    } else {
        return Ok(begin);
    };
    Err(Error::stop_msg(problem).remedy(REBUILD))
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::topics::TopicPartition;

    #[test]
    fn a_start_outside_the_log_stops_with_the_remedy() {
        let partition = TopicPartition {
            topic: "shop.a.b".to_owned(),
            partition: 2,
        };
        assert_eq!(check(&partition, 5, 5, 5).unwrap(), 5);
        assert_eq!(check(&partition, 5, 0, 9).unwrap(), 5);
        let below = check(&partition, 3, 5, 9).unwrap_err().to_string();
        assert!(
            below.starts_with(
                "topic shop.a.b partition 2: the target stands at offset 3, but the log begins at 5: 2 records were \
                 deleted before they were read; to do: rebuild the target"
            ),
            "{below}"
        );
        let above = check(&partition, 10, 0, 9).unwrap_err().to_string();
        assert!(
            above.contains("stands at offset 10, but the log ends at 9"),
            "{above}"
        );
    }
}
