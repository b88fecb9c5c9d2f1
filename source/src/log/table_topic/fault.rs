//! Why a change cannot be published, and where it goes then.

use std::sync::Arc;

use tributary_schemas::encode::ValueError;

/// Where changes go that cannot be published.
#[derive(Debug, Clone)]
pub(crate) struct DeadLetters {
    pub(super) topic: Arc<str>,
    /// The largest record batch that the topic takes.
    pub(super) max_bytes: usize,
    /// The source's name.
    pub(super) service: String,
}

/// Why a change cannot be published.
#[derive(Debug)]
pub(super) enum Fault {
    Value(ValueError),
    /// The batch that the record alone makes, and the topic's `max.message.bytes`.
    Size {
        bytes: usize,
        limit: usize,
    },
}
