//! The metrics of a source.

use tributary_runtime::telemetry::Metric;

use tributary_postgres::slot::Slot;

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
/// Of these tables: what is read.
pub(crate) const SNAPSHOT_READ_BYTES: &str = "tributary_source_snapshot_read_bytes";
/// Of these tables: what is not.
pub(crate) const SNAPSHOT_LEFT_BYTES: &str = "tributary_source_snapshot_left_bytes";
/// How long the rest takes at the pace of the last minute.
pub(crate) const SNAPSHOT_LEFT_SECONDS: &str = "tributary_source_snapshot_left_seconds";
/// From the slot's confirmed flush to the server's WAL end.
pub(crate) const SLOT_LAG_BYTES: &str = "tributary_source_slot_lag_bytes";
/// For how long.
pub(crate) const SLOT_LAG_SECONDS: &str = "tributary_source_slot_lag_seconds";
/// What the server keeps for the slot.
pub(crate) const SLOT_RETAINED_BYTES: &str = "tributary_source_slot_retained_bytes";
/// What may be written before the slot is in danger.
pub(crate) const SLOT_SAFE_BYTES: &str = "tributary_source_slot_safe_wal_bytes";
/// Whether somebody holds it.
pub(crate) const SLOT_ACTIVE: &str = "tributary_source_slot_active";
/// 1 for the status that the slot has.
pub(crate) const SLOT_WAL_STATUS: &str = "tributary_source_slot_wal_status";
/// Slots dropped because of `slot.max_retained_bytes`.
pub(crate) const SLOT_DROPS: &str = "tributary_source_slot_drops_total";
/// Signals read, by outcome.
pub(crate) const SIGNALS: &str = "tributary_source_signals_total";

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
    Metric::gauge(
        SNAPSHOT_READ_BYTES,
        "Of the tables that are not read yet: the size of what is read.",
    ),
    Metric::gauge(
        SNAPSHOT_LEFT_BYTES,
        "Of the tables that are not read yet: the size of what is not.",
    ),
    Metric::gauge(
        SNAPSHOT_LEFT_SECONDS,
        "How long the rest takes at the pace of the last minute; -1 before there is one.",
    ),
    Metric::gauge(
        SLOT_LAG_BYTES,
        "WAL of the server that the slot has not confirmed.",
    ),
    Metric::gauge(
        SLOT_LAG_SECONDS,
        "For how long the server has had WAL that is not confirmed.",
    ),
    Metric::gauge(
        SLOT_RETAINED_BYTES,
        "WAL that the server keeps for the slot.",
    ),
    Metric::gauge(
        SLOT_SAFE_BYTES,
        "WAL that may be written before the slot is in danger; only where max_slot_wal_keep_size is set.",
    ),
    Metric::gauge(SLOT_ACTIVE, "1 while somebody holds the slot."),
    Metric::gauge(SLOT_WAL_STATUS, "1 for the wal_status that the slot has."),
    Metric::counter(
        SLOT_DROPS,
        "Slots dropped because they held more than slot.max_retained_bytes.",
    ),
    Metric::counter(
        SIGNALS,
        "Signals read, by outcome: applied, refused, other.",
    ),
];

/// Records how far the snapshots are.
pub(crate) fn snapshot(
    (read_bytes, left_bytes): (u64, u64),
    tables_left: usize,
    seconds_left: Option<u64>,
) {
    gauge(SNAPSHOT_TABLES, tables_left as u64);
    gauge(SNAPSHOT_READ_BYTES, read_bytes);
    gauge(SNAPSHOT_LEFT_BYTES, left_bytes);
    match seconds_left {
        Some(seconds) => gauge(SNAPSHOT_LEFT_SECONDS, seconds),
        None if tables_left == 0 => gauge(SNAPSHOT_LEFT_SECONDS, 0),
        None => metrics::gauge!(SNAPSHOT_LEFT_SECONDS).set(-1.0),
    }
}

/// Records what the slot holds.
pub(crate) fn slot(state: &Slot, lag_seconds: f64) {
    gauge(SLOT_LAG_BYTES, state.lag_bytes());
    gauge(SLOT_RETAINED_BYTES, state.retained_bytes());
    gauge(SLOT_ACTIVE, u64::from(state.active));
    metrics::gauge!(SLOT_LAG_SECONDS).set(lag_seconds);
    if let Some(safe) = state.safe_wal_bytes {
        gauge(SLOT_SAFE_BYTES, u64::try_from(safe).unwrap_or_default());
    }
    for status in ["reserved", "extended", "unreserved", "lost"] {
        let has = state.wal_status.as_deref() == Some(status);
        metrics::gauge!(SLOT_WAL_STATUS, "status" => status).set(if has { 1.0 } else { 0.0 });
    }
}

fn gauge(name: &'static str, value: u64) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge")]
    metrics::gauge!(name).set(value as f64);
}
