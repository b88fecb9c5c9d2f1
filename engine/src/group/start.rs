//! Where reading a partition begins: decided here, never by `auto.offset.reset`.

use std::sync::Weak;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use crate::destination::Start;
use crate::group::membership::GroupClient;
use crate::topics::TopicPartition;
use tributary_runtime::{Error, Result, ResultExt, kafka};

const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

/// What to do where the log does not have what comes next.
pub(crate) const REBUILD: &str = "rebuild the target from the beginning of the topic: a new `name` reads all of it; \
     or, to accept the gap, set the group's offsets with kafka-consumer-groups --reset-offsets";

/// The offset to begin with.
///
/// # Errors
/// Stop: the offset is not in the log any more, or not yet. Retry: Kafka does not answer.
pub(crate) async fn find(
    client: &Weak<GroupClient>,
    partition: &TopicPartition,
    start: Start,
) -> Result<i64> {
    let client = client.clone();
    let partition = partition.clone();
    let query = tokio::task::spawn_blocking(move || {
        let client = client
            .upgrade()
            .ok_or_else(|| Error::interrupted("find the offset to begin with"))?;
        query(&client, &partition, start)
    });
    query.await.unwrap_or_else(|error| Err(Error::stop(error)))
}

fn query(client: &GroupClient, partition: &TopicPartition, start: Start) -> Result<i64> {
    let begin = match start {
        Start::At(offset) => Some(offset),
        Start::Committed => committed(client, partition)
            .doing(|| format!("ask for the committed offset of {partition}"))?,
        Start::Beginning => None,
    };
    let (low, high) = log_of(client, partition)?;
    check(partition, begin.unwrap_or(low), low, high)
}

/// Whether the log still has what comes next. librdkafka reports that an offset is out of range without
/// saying whose.
pub(crate) fn check_within(
    client: &GroupClient,
    partition: &TopicPartition,
    next: i64,
) -> Result<()> {
    let (low, high) = log_of(client, partition)?;
    check(partition, next, low, high).map(|_| ())
}

/// The first offset that the log still has, and the one that comes next.
fn log_of(client: &GroupClient, partition: &TopicPartition) -> Result<(i64, i64)> {
    client
        .fetch_watermarks(&partition.topic, partition.partition, QUERY_TIMEOUT)
        .map_err(|error| classify(&error))
        .doing({
            let partition = partition.clone();
            move || format!("ask for the offsets of {partition}")
        })
}

fn committed(client: &GroupClient, partition: &TopicPartition) -> Result<Option<i64>> {
    let mut list = TopicPartitionList::new();
    list.add_partition(&partition.topic, partition.partition);
    let list = client
        .committed_offsets(list, QUERY_TIMEOUT)
        .map_err(|error| classify(&error))?;
    let Some(element) = list.find_partition(&partition.topic, partition.partition) else {
        return Err(Error::retry_msg("Kafka answers for no partition"));
    };
    element.error().map_err(|error| classify(&error))?;
    Ok(match element.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    })
}

/// The group has assigned the partition, so it exists: a broker that does not know it will soon. If it was
/// deleted meanwhile, the group takes it away again.
fn classify(error: &KafkaError) -> Error {
    if kafka::is_unknown_topic(error) {
        Error::retry(error.clone())
    } else {
        kafka::classify(error)
    }
}

/// Nothing between where the target stands and the log may be missing.
fn check(partition: &TopicPartition, begin: i64, low: i64, high: i64) -> Result<i64> {
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
