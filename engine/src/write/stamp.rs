//! What the messages of a dead-letter topic say of themselves, in their headers.

use std::collections::BTreeMap;

use tributary_runtime::kafka::{self, Headed};

use crate::topics::TopicPartition;

/// The header with the topic that a letter was on.
pub const TOPIC: &str = "tributary.dead-letter.topic";
/// The header with the partition that a letter was in, in decimal.
pub const PARTITION: &str = "tributary.dead-letter.partition";
/// The header with the offset that a letter had, in decimal.
pub const OFFSET: &str = "tributary.dead-letter.offset";
/// The header that says what was wrong with a letter.
pub const ERROR: &str = "tributary.dead-letter.error";
/// The header with the name of the service that put a letter aside.
pub const SERVICE: &str = "tributary.dead-letter.service";
/// The header of a message that is no letter: those of its service, topic and partition that stand before some offsets of the
/// dead-letter topic were replayed. Its value is those offsets, by partition, as JSON.
pub const REPLAYED: &str = "tributary.dead-letter.replayed";
/// The header of the same message that says that letters without a key were replayed, too, which earlier builds left out.
pub const REPLAYED_KEYLESS: &str = "tributary.dead-letter.replayed.keyless";

/// A record that was put aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) service: String,
    pub(crate) partition: TopicPartition,
    pub(crate) offset: i64,
    pub(crate) error: String,
}

/// The letters of a service and a partition that are done with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) service: String,
    pub(crate) partition: TopicPartition,
    /// By partition of the dead-letter topic, where those begin that are not.
    pub(crate) until: BTreeMap<i32, i64>,
    /// Those without a key are among them.
    pub(crate) has_keyless: bool,
}

impl Stamp {
    /// `None` for a message that says of itself that it is something else.
    pub(crate) fn of(message: &impl Headed) -> Option<Self> {
        Some(Self {
            service: text(message, SERVICE).unwrap_or_default(),
            partition: place(message)?,
            offset: text(message, OFFSET)?.parse().ok()?,
            error: text(message, ERROR)?,
        })
    }
}

impl Done {
    /// `None` for a message that is a letter, or somebody else's.
    pub(crate) fn of(message: &impl Headed) -> Option<Self> {
        Some(Self {
            service: text(message, SERVICE)?,
            partition: place(message)?,
            until: serde_json::from_str(&text(message, REPLAYED)?).ok()?,
            has_keyless: text(message, REPLAYED_KEYLESS).is_some_and(|text| text == "true"),
        })
    }

    /// The headers that say it.
    pub(crate) fn headers(&self) -> [(&'static str, String); 5] {
        let until: serde_json::Map<_, _> = self
            .until
            .iter()
            .map(|(partition, &offset)| (partition.to_string(), offset.into()))
            .collect();
        [
            (TOPIC, self.partition.topic.clone()),
            (PARTITION, self.partition.partition.to_string()),
            (SERVICE, self.service.clone()),
            (REPLAYED, serde_json::Value::Object(until).to_string()),
            (REPLAYED_KEYLESS, self.has_keyless.to_string()),
        ]
    }
}

fn place(message: &impl Headed) -> Option<TopicPartition> {
    Some(TopicPartition {
        topic: text(message, TOPIC)?,
        partition: text(message, PARTITION)?.parse().ok()?,
    })
}

/// The last header of a name counts: the record that was put aside may be a letter itself.
fn text(message: &impl Headed, name: &str) -> Option<String> {
    let (_, value) = kafka::headers(message)
        .filter(|(found, _)| found == name)
        .last()?;
    std::str::from_utf8(value?).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Done, ERROR, OFFSET, PARTITION, SERVICE, Stamp, TOPIC};
    use crate::flow::records::tests::message;
    use crate::topics::TopicPartition;

    #[test]
    fn what_is_done_is_told_from_a_letter() {
        let done = Done {
            service: "search".to_owned(),
            partition: TopicPartition {
                topic: "a.b".to_owned(),
                partition: 3,
            },
            until: BTreeMap::from([(0, 17), (1, 4)]),
            has_keyless: true,
        };
        let headers = done.headers();
        let headers: Vec<_> = headers
            .iter()
            .map(|(key, value)| (*key, value.as_bytes()))
            .collect();
        let said = message(9, None, None, &headers);
        assert_eq!(Done::of(&said).as_ref(), Some(&done));
        // As earlier builds have said it.
        let said = message(9, None, None, &headers[..4]);
        let has_keyless = false;
        assert_eq!(
            Done::of(&said),
            Some(Done {
                has_keyless,
                ..done
            })
        );
        assert_eq!(Stamp::of(&said), None);

        let headers: [(&str, &[u8]); 5] = [
            (TOPIC, b"a.b"),
            (PARTITION, b"3"),
            (OFFSET, b"12"),
            (ERROR, b"no"),
            (SERVICE, b"search"),
        ];
        let letter = message(9, None, None, &headers);
        assert_eq!(Stamp::of(&letter).unwrap().offset, 12);
        assert_eq!(Done::of(&letter), None);
    }
}
