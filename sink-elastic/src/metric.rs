//! The names of the sink's metrics.

use tributary_runtime::telemetry::Metric;

pub(crate) const INDEXED: &str = "tributary_sink_elastic_indexed_documents_total";
pub(crate) const DELETED: &str = "tributary_sink_elastic_deleted_documents_total";
pub(crate) const CONFLICTS: &str = "tributary_sink_elastic_conflicts_total";
pub(crate) const RETRIED: &str = "tributary_sink_elastic_retried_items_total";
pub(crate) const REJECTED: &str = "tributary_sink_elastic_rejected_documents_total";
pub(crate) const SWEPT: &str = "tributary_sink_elastic_swept_documents_total";
pub(crate) const INCOMPLETE: &str = "tributary_sink_elastic_incomplete_rows_total";
pub(crate) const REQUESTS: &str = "tributary_sink_elastic_bulk_requests_total";
pub(crate) const BYTES: &str = "tributary_sink_elastic_bulk_bytes_total";
pub(crate) const SECONDS: &str = "tributary_sink_elastic_bulk_seconds";
pub(crate) const IN_FLIGHT_LIMIT: &str = "tributary_sink_elastic_bulk_in_flight_limit";
pub(crate) const NODE_FAILURES: &str = "tributary_sink_elastic_node_failures_total";

/// All of them.
pub(crate) const ALL: &[Metric] = &[
    Metric::counter(INDEXED, "Documents that the engine has confirmed."),
    Metric::counter(
        DELETED,
        "Deletes that the engine has confirmed, of documents that were not there too.",
    ),
    Metric::counter(
        CONFLICTS,
        "Operations passed over because the engine had this version or a newer one.",
    ),
    Metric::counter(
        RETRIED,
        "Operations sent again because the engine was busy.",
    ),
    Metric::counter(REJECTED, "Documents that the engine refuses."),
    Metric::counter(
        SWEPT,
        "Documents found below a truncate or a re-snapshot, and deleted.",
    ),
    Metric::counter(
        INCOMPLETE,
        "Rows of another producer's topic with a null in the place of a value that neither the record nor the index had.",
    ),
    Metric::counter(REQUESTS, "Requests to _bulk."),
    Metric::counter(BYTES, "Bytes sent to _bulk."),
    Metric::histogram(SECONDS, "How long a request to _bulk takes."),
    Metric::gauge(
        IN_FLIGHT_LIMIT,
        "Requests to _bulk of an index that may be under way together: fewer than `elasticsearch.in_flight` while the engine is busy.",
    ),
    Metric::counter(
        NODE_FAILURES,
        "Requests that a node failed at: it could not be reached, or answered 408, 429 or 5xx.",
    ),
];
