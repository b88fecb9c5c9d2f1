//! Whether the offsets that the brokers acknowledge rise, as they do while a partition lives.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tributary_runtime::Error;

/// A partition has acknowledged an offset that it had given before: the topic was deleted and made again meanwhile, or
/// its brokers have lost records. Kafka commits a transaction all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WentBack {
    pub(crate) topic: String,
    partition: i32,
    offset: i64,
    before: i64,
}

impl std::fmt::Display for WentBack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            topic,
            partition,
            offset,
            before,
        } = self;
        write!(
            f,
            "topic '{topic}' acknowledges offset {offset} of partition {partition} behind {before}: it was deleted and \
             created again, or has lost records"
        )
    }
}

impl std::error::Error for WentBack {}

/// The last offset of each partition, since the producer began.
#[derive(Debug, Default)]
pub(super) struct Offsets(Mutex<Acknowledged>);

#[derive(Debug, Default)]
struct Acknowledged {
    /// By topic and partition.
    last: HashMap<String, HashMap<i32, i64>>,
    /// The first that went back.
    back: Option<WentBack>,
}

impl Offsets {
    /// Takes over what a delivery report says.
    pub(super) fn acknowledged(&self, topic: &str, partition: i32, offset: i64) {
        // A record that was sent twice may be acknowledged without its offset.
        if offset < 0 {
            return;
        }
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Acknowledged { last, back } = &mut *guard;
        let before = match last.get_mut(topic) {
            Some(partitions) => partitions.insert(partition, offset),
            None => {
                last.insert(topic.to_owned(), HashMap::from([(partition, offset)]));
                None
            }
        };
        if let Some(before) = before
            && before >= offset
        {
            back.get_or_insert_with(|| WentBack {
                topic: topic.to_owned(),
                partition,
                offset,
                before,
            });
        }
    }

    /// # Errors
    /// An offset went back: nothing may be committed.
    pub(super) fn check(&self) -> Result<(), Error> {
        let acknowledged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &acknowledged.back {
            Some(back) => Err(Error::retry(back.clone())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Offsets, WentBack};

    #[test]
    fn each_partition_rises_on_its_own() {
        let offsets = Offsets::default();
        for (topic, partition, offset) in [
            ("a", 0, 7),
            ("a", 0, 8),
            ("a", 1, 3),
            ("b", 0, 0),
            ("a", 0, -1),
            ("a", 0, 12),
        ] {
            offsets.acknowledged(topic, partition, offset);
        }
        assert!(offsets.check().is_ok());
    }

    #[test]
    fn the_first_that_goes_back_is_told() {
        for offset in [12, 0] {
            let offsets = Offsets::default();
            for offset in [12, offset, 1, 0] {
                offsets.acknowledged("a", 2, offset);
            }
            let error = offsets.check().unwrap_err();
            let told = WentBack {
                topic: "a".to_owned(),
                partition: 2,
                offset,
                before: 12,
            };
            assert_eq!(error.cause().downcast_ref(), Some(&told));
        }
    }
}
