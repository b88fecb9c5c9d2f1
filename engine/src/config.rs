//! The keys that every sink's configuration has.

use std::time::Duration;

use serde::Deserialize;
pub use tributary_runtime::config::KafkaConfig;

use crate::topics::{self, Subscription};
use tributary_runtime::Problem;

/// Declares a sink's configuration: the keys that every sink has, here alone, and the sections of its own. (serde's `flatten`
/// and `deny_unknown_fields` exclude each other, so they cannot be one struct within another.)
///
/// A type with sections has a method `engine`, which gives the [`SinkConfig`] in it.
#[macro_export(local_inner_macros)]
macro_rules! sink_config {
    ($(#[$doc:meta])* $name:ident { $($(#[$section_doc:meta])* $section:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, ::serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// The consumer group. Another name replays the topics from the beginning.
            pub name: String,
            /// The topics to read: names, or patterns with `*` (any characters) and `?` (one character). No
            /// pattern matches the internal topics `<prefix>.progress`, `.signals`, `.transaction`, `.message` of a
            /// prefix without a dot, a `….dead-letter`, nor a `__debezium-heartbeat.…`.
            pub topics: Vec<String>,
            /// Brokers and registry.
            pub kafka: $crate::config::KafkaConfig,
            /// The bounds of batches and buffers.
            #[serde(default)]
            pub batch: $crate::config::BatchConfig,
            /// What to do with a record that cannot be read, or that the target refuses.
            #[serde(default)]
            pub on_error: $crate::config::OnError,
            /// Where such records go with `on_error = "dead-letter"`; by default `<prefix>.<name>.dead-letter`, with
            /// the first part of the first topic's name as prefix. It is created if missing.
            #[serde(default)]
            pub dead_letter_topic: Option<String>,
            /// What to do with a target that does not fit its log any more.
            #[serde(default)]
            pub on_unfit_target: $crate::config::OnUnfitTarget,
            $($(#[$section_doc])* pub $section: $type,)*
        }

        sink_config!(@engine $name $($section)*);
    };
    (@engine $name:ident) => {};
    (@engine $name:ident $($section:ident)+) => {
        impl $name {
            /// What the engine needs of it.
            pub fn engine(&self) -> $crate::config::SinkConfig {
                $crate::config::SinkConfig {
                    name: self.name.clone(),
                    topics: self.topics.clone(),
                    kafka: self.kafka.clone(),
                    batch: self.batch,
                    on_error: self.on_error,
                    dead_letter_topic: self.dead_letter_topic.clone(),
                    on_unfit_target: self.on_unfit_target,
                }
            }
        }
    };
}

sink_config! {
    /// What the engine needs to know of a sink's configuration.
    SinkConfig {}
}

/// `[batch]`: the bounds of batches and buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchConfig {
    /// Bytes of records in one batch, at most (one record may be larger).
    pub bytes: usize,
    /// Records in one batch, at most.
    pub rows: usize,
    /// How long records of a target wait for more while nothing else of it is written, in milliseconds.
    pub linger_ms: u64,
    /// How long what a target has accepted may wait until it is made durable, in milliseconds.
    pub flush_ms: u64,
    /// Batches of one target (an index, a table) that are written at the same time, at most.
    pub in_flight: usize,
    /// Bytes of records that wait or are being written, over all targets. One that cannot go on leaves some to the others.
    pub buffer_bytes: usize,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self {
            bytes: 4 * 1024 * 1024,
            rows: 20_000,
            linger_ms: 20,
            flush_ms: 1_000,
            in_flight: 4,
            buffer_bytes: 16 * 1024 * 1024,
        }
    }
}

impl BatchConfig {
    pub(crate) const fn linger(&self) -> Duration {
        Duration::from_millis(self.linger_ms)
    }

    pub(crate) const fn flush_after(&self) -> Duration {
        Duration::from_millis(self.flush_ms)
    }
}

/// What to do with a record that cannot be read, or that the target refuses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// The service stops with a message that names the record.
    #[default]
    Stop,
    /// The record goes to the dead-letter topic, and the service goes on.
    DeadLetter,
}

/// What to do with a target that does not fit its log any more: the topic was deleted and made again, deletes may have been
/// missed, or what the target keeps of its own is lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnUnfitTarget {
    /// The service stops with a message that says why.
    #[default]
    Stop,
    /// What it holds is deleted, and it is built again from the beginning of the log.
    Rebuild,
}

impl SinkConfig {
    /// What is wrong with the values, without a connection.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = self.kafka.validate();
        if self.name.trim().is_empty() {
            problems.push(
                Problem::new("`name` is empty").remedy("set `name`: it is the consumer group"),
            );
        }
        if let Err(topic_problems) = Subscription::new(&self.topics) {
            problems.extend(topic_problems);
        }
        problems.extend(self.dead_letter_problem());
        problems.extend(self.batch_problems());
        problems
    }

    /// The dead-letter topic; `None` if it is neither set nor follows from the topics.
    pub fn dead_letter_topic(&self) -> Option<String> {
        self.dead_letter_topic.clone().or_else(|| {
            let prefix = topics::literal_prefix(self.topics.first()?)?;
            Some(format!("{prefix}.{}.dead-letter", self.name))
        })
    }

    fn dead_letter_problem(&self) -> Option<Problem> {
        if self.on_error == OnError::Stop {
            return None;
        }
        let Some(topic) = self.dead_letter_topic() else {
            return Some(
                Problem::new("no name for the dead-letter topic follows from `topics`")
                    .remedy("set `dead_letter_topic`"),
            );
        };
        if !topics::is_legal(&topic) {
            return Some(
                Problem::new(format!(
                    "the dead-letter topic '{topic}' is no legal topic name"
                ))
                .remedy("set `dead_letter_topic` to at most 249 letters, digits, '.', '_' and '-'"),
            );
        }
        let subscription = Subscription::new(&self.topics).ok()?;
        let pattern = subscription.matching(&topic)?;
        Some(
            Problem::new(format!(
                "the dead-letter topic '{topic}' matches '{pattern}' of `topics`: what is put aside would be read again"
            ))
            .remedy(
                "give `dead_letter_topic` a name that ends in .dead-letter, which no pattern matches, or leave it out",
            ),
        )
    }

    fn batch_problems(&self) -> impl Iterator<Item = Problem> {
        let batch = self.batch;
        [
            ("batch.bytes", batch.bytes),
            ("batch.rows", batch.rows),
            ("batch.in_flight", batch.in_flight),
            ("batch.buffer_bytes", batch.buffer_bytes),
        ]
        .into_iter()
        .filter(|(_, value)| *value == 0)
        .map(|(key, _)| {
            Problem::new(format!("`{key}` is 0")).remedy(format!("set `{key}` to 1 or more"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{OnError, SinkConfig};

    fn config(toml: &str) -> SinkConfig {
        toml::from_str(toml).unwrap()
    }

    const SMALLEST: &str = r#"
        name = "search"
        topics = ["shop.catalog.*"]
        kafka = { brokers = ["kafka:9092"], registry = "http://registry:8081" }
    "#;

    #[test]
    fn the_smallest_configuration_has_defaults() {
        let config = config(SMALLEST);
        assert_eq!(config.validate(), []);
        assert_eq!(config.on_error, OnError::Stop);
        assert_eq!((config.batch.bytes, config.batch.rows), (4 << 20, 20_000));
        assert_eq!(
            config.dead_letter_topic().as_deref(),
            Some("shop.search.dead-letter")
        );
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let mut config = config(SMALLEST);
        config.name = String::new();
        config.topics = vec!["*.x".to_owned(), "a b".to_owned()];
        config.on_error = OnError::DeadLetter;
        config.batch.rows = 0;
        let problems: Vec<_> = config.validate().iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [
                "`name` is empty; to do: set `name`: it is the consumer group",
                "`topics` has 'a b', which is no topic name; to do: use letters, digits, '.', '_' and '-', \
                 and `*` or `?` for a pattern",
                "no name for the dead-letter topic follows from `topics`; to do: set `dead_letter_topic`",
                "`batch.rows` is 0; to do: set `batch.rows` to 1 or more",
            ]
        );
    }

    #[test]
    fn unknown_keys_are_errors() {
        let text = format!("{SMALLEST}\nbatch = {{ row = 1 }}");
        assert!(toml::from_str::<SinkConfig>(&text).is_err());
    }
}
