//! The metrics of the loop.

use crate::telemetry::{self, Metric};

/// Records read from the topics.
pub(super) const RECORDS: &str = "tributary_sink_records_total";
/// Bytes of the records read, with bookkeeping.
pub(super) const BYTES: &str = "tributary_sink_bytes_total";
/// Changes that the target has accepted.
pub(super) const CHANGES: &str = "tributary_sink_changes_total";
/// Records that a newer record of the same key replaced within a batch, or that were gone below.
pub(super) const COALESCED: &str = "tributary_sink_coalesced_total";
/// Batches that the target has accepted.
pub(super) const BATCHES: &str = "tributary_sink_batches_total";
/// Time of a successful write.
pub(super) const WRITE_SECONDS: &str = "tributary_sink_write_seconds";
/// Writes and flushes that failed and are tried again.
pub(super) const RETRIES: &str = "tributary_sink_retries_total";
/// Records put aside.
pub(super) const DEAD_LETTERS: &str = "tributary_sink_dead_letters_total";
/// Offsets between a partition's end and what is durable. Labels: topic, partition.
pub(super) const LAG: &str = "tributary_sink_lag_offsets";
/// Partitions that this instance holds.
pub(super) const PARTITIONS: &str = "tributary_sink_assigned_partitions";
/// Bytes of records that wait or are being written.
pub(super) const BUFFERED: &str = "tributary_sink_buffered_bytes";
/// Time from the commit in the source to durable in the target, of a sample of each batch's changes.
pub(super) const FRESHNESS: &str = "tributary_sink_freshness_seconds";

const METRICS: [Metric; 12] = [
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
        "Offsets between a partition's end and what is durable in the target.",
    ),
    Metric::gauge(PARTITIONS, "Partitions that this instance holds."),
    Metric::gauge(BUFFERED, "Bytes of records that wait or are being written."),
    Metric::histogram(
        FRESHNESS,
        "Time from the commit in the source until the change is durable in the target.",
    ),
];

pub(super) fn describe() {
    telemetry::describe(&METRICS);
}
