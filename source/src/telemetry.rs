//! The metrics of a source.

use tributary_runtime::telemetry::Metric;

/// Records in the log, by topic-independent total.
pub(crate) const EVENTS: &str = "tributary_source_events_total";
/// Kafka transactions committed.
pub(crate) const TRANSACTIONS: &str = "tributary_source_transactions_total";
/// From handing a transaction over to its commit.
pub(crate) const COMMIT_SECONDS: &str = "tributary_source_commit_seconds";
/// Rows read by the snapshot, by table.
pub(crate) const SNAPSHOT_ROWS: &str = "tributary_source_snapshot_rows_total";
/// Tables whose rows are not all in the log.
pub(crate) const SNAPSHOT_TABLES: &str = "tributary_source_snapshot_tables";
/// Rows whose unchanged TOAST columns were looked up.
pub(crate) const ROWS_COMPLETED: &str = "tributary_source_rows_completed_total";
/// Changes that could not be published and went to the dead-letter topic, by table.
pub(crate) const DEAD_LETTERS: &str = "tributary_source_dead_letters_total";
/// WAL between what the server has sent and what is confirmed.
pub(crate) const LAG_BYTES: &str = "tributary_source_lag_bytes";
/// Age of the newest commit that is in the log, when it got there.
pub(crate) const LAG_SECONDS: &str = "tributary_source_lag_seconds";
/// Sessions begun: one, plus one for every error that was waited out.
pub(crate) const SESSIONS: &str = "tributary_source_sessions_total";

/// All of them, for `/metrics`.
pub(crate) const METRICS: &[Metric] = &[
    Metric::counter(EVENTS, "Records committed to Kafka, tombstones included."),
    Metric::counter(TRANSACTIONS, "Kafka transactions committed."),
    Metric::histogram(
        COMMIT_SECONDS,
        "From handing a Kafka transaction over to its commit.",
    ),
    Metric::counter(SNAPSHOT_ROWS, "Rows read by the snapshot."),
    Metric::gauge(
        SNAPSHOT_TABLES,
        "Tables whose rows are not all in the log yet.",
    ),
    Metric::counter(
        ROWS_COMPLETED,
        "Rows whose unchanged TOAST columns were looked up.",
    ),
    Metric::counter(
        DEAD_LETTERS,
        "Changes that could not be published and went to the dead-letter topic.",
    ),
    Metric::gauge(
        LAG_BYTES,
        "WAL between what the server has sent and what is confirmed to the slot.",
    ),
    Metric::gauge(
        LAG_SECONDS,
        "Age of the newest committed change when it got into the log.",
    ),
    Metric::counter(
        SESSIONS,
        "Sessions begun: one, plus one for every error that was waited out.",
    ),
];
