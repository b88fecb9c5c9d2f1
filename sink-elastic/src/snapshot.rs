//! What the engines do not do while a snapshot is taken: an index that is in it cannot be deleted.

use std::time::Duration;

use tributary_runtime::Error;

/// How long a command waits for it.
pub(crate) const WAIT: Duration = Duration::from_secs(600);
/// The failure of a deletion, with the status 400.
pub(crate) const RUNS: &str = "snapshot_in_progress_exception";

/// That a snapshot is waited for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Awaited(String);

/// An index is to be deleted, and a snapshot of it runs; `what` the engine says.
pub(crate) fn awaited(what: &str) -> Error {
    Error::retry(Awaited(format!(
        "a snapshot runs that the index is in ({what})"
    )))
    .remedy(
        "let it end; or cancel it (GET /_snapshot/_status, DELETE /_snapshot/REPOSITORY/SNAPSHOT)",
    )
}

/// Whether an error says so.
pub(crate) fn is_awaited(error: &Error) -> bool {
    error.cause().downcast_ref::<Awaited>().is_some()
}
