//! Kafka client settings that all services share, and what Kafka's errors mean for a service.

mod classify;
pub mod groups;
mod headers;
mod logging;
mod native;
pub mod topics;

use rdkafka::admin::AdminClient;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};

use crate::Result;
use crate::config::KafkaConfig;

pub use classify::{classify, code, is_unknown_topic};
pub use headers::{Headed, NativeHeaders, headers};
pub use logging::{LogContext, log, log_error};

/// How long a consumer group keeps a silent member, in milliseconds. A killed instance's partitions wait
/// this long for their next holder; no shorter than the broker's `group.min.session.timeout.ms` (6 s).
pub const SESSION_TIMEOUT_MS: u32 = 10_000;

/// How often a consumer tells its group that it lives, in milliseconds. By the answer it hears of a rebalance: what one member has
/// let go waits until all others have heard, which takes up to three seconds with the default.
const HEARTBEAT_INTERVAL_MS: u32 = 500;

/// The most time between two polls of a consumer, in milliseconds.
pub const MAX_POLL_INTERVAL_MS: u32 = 300_000;

/// Bytes that a consumer fetches ahead of its service, over all partitions.
const FETCH_AHEAD_KIB: u32 = 4 * 1024;

/// Bytes of one fetch response, as the broker has them: rows decompress to ten times as much, and each record takes some
/// hundred bytes beside its own, all of which stays until the last record of the response is done with. With 4 MiB in all
/// and 1 MiB of a partition, a sink held 180 MB at its peak; with these it holds 72 MB, and is no slower (measured). A
/// batch of records that is larger comes all the same.
const FETCH_BYTES: u32 = 1024 * 1024;

/// Bytes of one partition in a fetch response.
const PARTITION_FETCH_BYTES: u32 = 256 * 1024;

/// The settings that consumers, producers and admin clients have in common.
pub fn client_config(kafka: &KafkaConfig, client_id: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", kafka.brokers.join(","))
        .set("client.id", client_id)
        .set("allow.auto.create.topics", "false")
        .set("socket.keepalive.enable", "true")
        .set("reconnect.backoff.max.ms", "5000")
        .set_log_level(RDKafkaLogLevel::Notice);
    config
}

/// A member of a consumer group that reads committed records only, commits by hand and never lets Kafka
/// choose where to begin.
pub fn consumer_config(kafka: &KafkaConfig, group: &str) -> ClientConfig {
    let mut config = client_config(kafka, group);
    config
        .set("group.id", group)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", SESSION_TIMEOUT_MS.to_string())
        .set("heartbeat.interval.ms", HEARTBEAT_INTERVAL_MS.to_string())
        .set("max.poll.interval.ms", MAX_POLL_INTERVAL_MS.to_string())
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "error")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // What was damaged on a disk may still decompress and decode, to other values.
        .set("check.crcs", "true")
        // The default of a second stalls the consumer whenever its queue was full (measured).
        .set("fetch.queue.backoff.ms", "5")
        .set("queued.max.messages.kbytes", FETCH_AHEAD_KIB.to_string())
        .set("fetch.max.bytes", FETCH_BYTES.to_string())
        .set(
            "max.partition.fetch.bytes",
            PARTITION_FETCH_BYTES.to_string(),
        );
    config
}

/// A producer whose records arrive once and in order, and are confirmed by all in-sync replicas.
pub fn producer_config(kafka: &KafkaConfig, client_id: &str) -> ClientConfig {
    let mut config = client_config(kafka, client_id);
    config
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("compression.type", "lz4")
        .set("linger.ms", "5");
    config
}

/// An admin client.
///
/// # Errors
/// Stop: the settings are refused. Nothing is connected yet.
pub fn admin(kafka: &KafkaConfig, client_id: &str) -> Result<AdminClient<LogContext>> {
    client_config(kafka, client_id)
        .create_with_context(LogContext)
        .map_err(|error| classify(&error))
}

#[cfg(test)]
mod tests {
    use super::{client_config, consumer_config, producer_config};
    use crate::config::KafkaConfig;

    /// A topic that a client made would have one partition, and not be compacted. librdkafka's producer asks for it unless
    /// it is told not to.
    #[test]
    fn no_client_creates_a_topic() {
        let kafka: KafkaConfig =
            toml::from_str("brokers = ['b:1']\nregistry = 'http://r'").unwrap();
        for config in [
            client_config(&kafka, "c"),
            consumer_config(&kafka, "c"),
            producer_config(&kafka, "c"),
        ] {
            assert_eq!(config.get("allow.auto.create.topics"), Some("false"));
        }
    }
}
