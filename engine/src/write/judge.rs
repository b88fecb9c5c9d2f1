//! Whether a target still fits its log, and where reading a partition begins: decided here, never by `auto.offset.reset`.

use std::collections::BTreeSet;
use std::time::Duration;

use tributary_runtime::{Error, Result};

use crate::cluster::TopicFacts;
use crate::mark::Mark;
use crate::topics::TopicPartition;

/// What to do where the log does not have what comes next.
pub(crate) const REBUILD: &str = "start the service once with on_unfit_target = \"rebuild\" (or its environment variable \
     …__ON_UNFIT_TARGET=rebuild): what the target holds is deleted, and it is built again from the beginning of the log";

/// What is known of a partition when it was assigned.
#[derive(Debug, Clone)]
pub(crate) struct Case<'a> {
    pub(crate) partition: &'a TopicPartition,
    pub(crate) facts: &'a TopicFacts,
    pub(crate) mark: &'a Mark,
    /// Where the target, or else the group, stands.
    pub(crate) stands_at: Option<i64>,
    /// The first offset that the log still has.
    pub(crate) low: i64,
    /// The one that comes next.
    pub(crate) high: i64,
    pub(crate) now_ms: i64,
}

/// What follows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Goes on at this offset.
    GoOn(i64),
    /// Reading of the partition begins, at the first offset that the log has.
    Begin(i64),
    /// The target does not fit its log, for this reason.
    Unfit(String),
}

impl Case<'_> {
    /// # Errors
    /// Stop: building the target again would not help.
    pub(crate) fn judge(&self) -> Result<Judgement> {
        let Self {
            partition,
            mark,
            low,
            high,
            ..
        } = *self;
        if let (Some(was), Some(is)) = (&mark.topic_id, &self.facts.id)
            && was != is
        {
            return Ok(Judgement::Unfit(format!(
                "topic {} was deleted and made again since its target was built (its id was {was} and is {is})",
                partition.topic
            )));
        }
        self.check_partitions()?;
        let Some(&caught_up_ms) = mark.caught_up_ms.get(&partition.partition) else {
            return Ok(Judgement::Begin(low));
        };
        let missed = self.missed_deletes(caught_up_ms);
        let Some(at) = self.stands_at else {
            return Ok(match missed {
                // All that was deleted since is still in the log.
                None => Judgement::GoOn(low),
                Some(missed) => Judgement::Unfit(format!(
                    "the offset of {partition} is lost while its target holds rows, and {missed}"
                )),
            });
        };
        if let Err(problem) = within(partition, at, low, high) {
            return Ok(Judgement::Unfit(problem));
        }
        Ok(match missed.filter(|_| at < high) {
            Some(missed) => Judgement::Unfit(format!("{partition}: {missed}")),
            None => Judgement::GoOn(at),
        })
    }

    /// Keys move with the number of partitions. Versions that are offsets cannot tell then which record of a key is newer.
    fn check_partitions(&self) -> Result<()> {
        let (topic, before, now) = (
            &self.partition.topic,
            self.mark.partitions,
            self.facts.partitions,
        );
        if !self.mark.versions_are_offsets || now <= before {
            return Ok(());
        }
        Err(Error::stop_msg(format_args!(
            "topic {topic} had {before} partitions and has {now} now: keys have moved between them, and its records have no \
             header that says which of two partitions' is newer"
        ))
        .remedy(
            "have the topic's source write it again with that many partitions (delete the topic, and take the source's \
             snapshot again), then start with on_unfit_target = \"rebuild\"; or write it with tributary-source, whose \
             records have an order of their own",
        ))
    }

    fn missed_deletes(&self, caught_up_ms: i64) -> Option<String> {
        let lives = self.facts.tombstones_live?;
        let away_ms = u64::try_from(self.now_ms - caught_up_ms).unwrap_or_default();
        let away = Duration::from_millis(away_ms);
        (away > lives).then(|| {
            format!(
                "it was last read to its end {} ago, which is longer than a compacted topic keeps tombstones \
                 (delete.retention.ms, {}): deletes may have been missed",
                spoken(away),
                spoken(lives)
            )
        })
    }
}

/// Nothing between where the target stands and the log may be missing.
pub(crate) fn within(
    partition: &TopicPartition,
    at: i64,
    low: i64,
    high: i64,
) -> Result<(), String> {
    let TopicPartition { topic, partition } = partition;
    if at < low {
        return Err(format!(
            "topic {topic} partition {partition}: the target stands at offset {at}, but the log begins at \
             {low}: {} records were deleted before they were read",
            low - at
        ));
    }
    if at > high {
        return Err(format!(
            "topic {topic} partition {partition}: the target stands at offset {at}, but the log ends at \
             {high}: the topic was deleted and created again, or has lost records"
        ));
    }
    Ok(())
}

/// Keys move with their schema as they do with the number of partitions: its id is part of their bytes.
///
/// # Errors
/// Stop: building the target again would not help.
pub(crate) fn check_key_schemas(topic: &str, ids: &BTreeSet<u32>) -> Result<()> {
    let mut ids = ids.iter();
    let (Some(first), Some(second)) = (ids.next(), ids.next()) else {
        return Ok(());
    };
    Err(Error::stop_msg(format_args!(
        "the keys of topic {topic} have more than one schema (ids {first} and {second}), so a row's records may stand in more than one \
         partition, and they have no header that says which of two partitions' is newer"
    ))
    .remedy(
        "have the topic's source write it again (delete the topic, and take the source's snapshot again), then start with \
         on_unfit_target = \"rebuild\"; to be spared this, give it one partition, or write it with tributary-source, whose records have \
         an order of their own",
    ))
}

/// The error that stops the service where its target is unfit.
pub(crate) fn unfit(reason: String) -> Error {
    Error::stop_msg(reason).remedy(REBUILD)
}

/// A time as a person says it.
fn spoken(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests;
