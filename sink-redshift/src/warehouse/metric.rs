//! What a warehouse counts, beside the loop's own metrics.

use metrics::{counter, gauge};
use tributary_runtime::telemetry::{self, Metric};

/// Rows inserted or updated.
const MERGED: &str = "tributary_sink_redshift_merged_rows_total";
/// Rows deleted by key.
const DELETED: &str = "tributary_sink_redshift_deleted_rows_total";
/// Rows passed over.
const SKIPPED: &str = "tributary_sink_redshift_skipped_rows_total";
/// Rows gone below.
const SWEPT: &str = "tributary_sink_redshift_swept_rows_total";
/// Rows that neither their record nor the table had all values of.
const INCOMPLETE: &str = "tributary_sink_redshift_incomplete_rows_total";
/// Statements on whole tables.
const WHOLE_TABLE: &str = "tributary_sink_redshift_whole_table_statements";
/// Transactions.
const COMMITS: &str = "tributary_sink_redshift_commits_total";

const METRICS: [Metric; 7] = [
    Metric::counter(MERGED, "Rows inserted or updated."),
    Metric::counter(DELETED, "Rows deleted by their key."),
    Metric::counter(
        SKIPPED,
        "Rows passed over because the table had this version or a newer one, and deletes of rows that it lacked.",
    ),
    Metric::counter(
        SWEPT,
        "Rows found below a truncate or a re-snapshot, and deleted.",
    ),
    Metric::counter(
        INCOMPLETE,
        "Rows of another producer's topic with a null in the place of a value that neither the record nor the table had.",
    ),
    Metric::gauge(
        WHOLE_TABLE,
        "Statements under way that work on a whole table: a column is widened, rows below a truncate are deleted.",
    ),
    Metric::counter(
        COMMITS,
        "Committed transactions, each a batch with its offset in the ledger.",
    ),
];

/// What a write did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Rows inserted or updated.
    pub(crate) merged: u64,
    /// Rows deleted by key.
    pub(crate) deleted: u64,
    /// Rows that were not newer than the target's, and deletions of rows that it lacks.
    pub(crate) skipped: u64,
    /// Rows deleted by "gone below".
    pub(crate) swept: u64,
    /// Rows that lack values which the table does not have either.
    pub(crate) incomplete: u64,
}

/// Describes them to the installed recorder.
pub(crate) fn describe() {
    telemetry::describe(&METRICS);
}

/// Rows of a slice of a sweep are gone.
pub(crate) fn swept(rows: u64) {
    counter!(SWEPT).increment(rows);
}

/// A statement on a whole table, counted as under way until it is dropped.
pub(crate) struct WholeTable;

/// A statement on a whole table begins.
pub(crate) fn whole_table() -> WholeTable {
    gauge!(WHOLE_TABLE).increment(1.0);
    WholeTable
}

impl Drop for WholeTable {
    fn drop(&mut self) {
        gauge!(WHOLE_TABLE).decrement(1.0);
    }
}

/// A batch is committed.
pub(crate) fn committed(tally: Tally) {
    counter!(MERGED).increment(tally.merged);
    counter!(DELETED).increment(tally.deleted);
    counter!(SKIPPED).increment(tally.skipped);
    counter!(SWEPT).increment(tally.swept);
    counter!(INCOMPLETE).increment(tally.incomplete);
    counter!(COMMITS).increment(1);
}
