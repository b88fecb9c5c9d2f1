//! One Kafka transaction.

use crate::log::outbox::Outbox;
use crate::log::progress::{Position, ProgressRecords};

/// What the publisher commits in one transaction.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub(crate) outbox: Outbox,
    /// The progress that covers the records.
    pub(crate) progress: ProgressRecords,
    /// What it says; handed back once it is committed.
    pub(crate) position: Position,
}
