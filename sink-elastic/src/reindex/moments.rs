//! The failpoints of a reindex: one between any two of its steps.

/// The new index is made, and nothing is read.
pub(super) const CREATED: &str = "reindex-created";
/// An index that an earlier one has left is found, and nothing says yet who goes on with it.
pub(super) const FOUND: &str = "reindex-found";
/// Something is read.
pub(super) const READING: &str = "reindex-reading";
/// Writes to the old index are blocked.
pub(super) const BLOCKED: &str = "reindex-blocked";
/// The alias is moved, and nothing else is done.
pub(super) const SWAPPED: &str = "reindex-swapped";
/// The old index is deleted, and nothing says that all is over.
pub(super) const DELETED: &str = "reindex-deleted";
