//! The metrics of the loop.

use tributary_runtime::telemetry::{self, Metric};

/// Records read from the topics.
pub(crate) const RECORDS: &str = "tributary_sink_records_total";
/// Bytes of the records read, with bookkeeping.
pub(crate) const BYTES: &str = "tributary_sink_bytes_total";
/// Changes that the target has accepted.
pub(crate) const CHANGES: &str = "tributary_sink_changes_total";
/// Records that a newer record of the same key replaced within a batch, or that were gone below.
pub(crate) const COALESCED: &str = "tributary_sink_coalesced_total";
/// Batches that the target has accepted.
pub(crate) const BATCHES: &str = "tributary_sink_batches_total";
/// Time of a successful write.
pub(crate) const WRITE_SECONDS: &str = "tributary_sink_write_seconds";
/// Writes and flushes that failed and are tried again.
pub(crate) const RETRIES: &str = "tributary_sink_retries_total";
/// Records put aside.
pub(crate) const DEAD_LETTERS: &str = "tributary_sink_dead_letters_total";
/// Offsets between a partition's end and what is durable; NaN while the end is not known. Labels: topic, partition.
pub(crate) const LAG: &str = "tributary_sink_lag_offsets";
/// Partitions that this instance holds.
pub(crate) const PARTITIONS: &str = "tributary_sink_assigned_partitions";
/// Bytes of records that wait or are being written.
pub(crate) const BUFFERED: &str = "tributary_sink_buffered_bytes";
/// Time from the commit in the source to durable in the target, of a sample of each batch's changes.
pub(crate) const FRESHNESS: &str = "tributary_sink_freshness_seconds";
/// The stretches of that way, of a sample too.
pub(crate) const COMMIT_TO_LOG: &str = "tributary_sink_commit_to_log_seconds";
pub(crate) const LOG_TO_ACCEPTED: &str = "tributary_sink_log_to_accepted_seconds";
pub(crate) const LOG_TO_DURABLE: &str = "tributary_sink_log_to_durable_seconds";

const METRICS: [Metric; 15] = [
    Metric::counter(RECORDS, "Records read from the topics."),
    Metric::counter(BYTES, "Bytes of the records read, with their bookkeeping."),
    Metric::counter(CHANGES, "Changes that the target has accepted."),
    Metric::counter(
        COALESCED,
        "Records that were not written because a newer record of the same batch replaced them.",
    ),
    Metric::counter(BATCHES, "Batches that the target has accepted."),
    Metric::histogram(WRITE_SECONDS, "Time of a successful write of a batch."),
    Metric::counter(
        RETRIES,
        "Writes and flushes that failed and are tried again.",
    ),
    Metric::counter(DEAD_LETTERS, "Records put aside in the dead-letter topic."),
    Metric::gauge(
        LAG,
        "Offsets between a partition's end and what is durable in the target; NaN while Kafka does not say where it ends.",
    ),
    Metric::gauge(PARTITIONS, "Partitions that this instance holds."),
    Metric::gauge(BUFFERED, "Bytes of records that wait or are being written."),
    Metric::histogram(
        FRESHNESS,
        "Time from the commit in the source until the change is durable in the target.",
    ),
    Metric::histogram(
        COMMIT_TO_LOG,
        "Time from the commit in the source until the record is in the log.",
    ),
    Metric::histogram(
        LOG_TO_ACCEPTED,
        "Time from the log until the target has accepted the change.",
    ),
    Metric::histogram(
        LOG_TO_DURABLE,
        "Time from the log until the change is durable in the target.",
    ),
];

pub(crate) fn describe() {
    telemetry::describe(&METRICS);
}
