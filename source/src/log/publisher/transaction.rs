//! One Kafka transaction.

use crate::log::outbox::Outbox;
use crate::log::progress::Position;

/// What the publisher commits in one transaction.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub(crate) outbox: Outbox,
    /// The progress record that covers the records.
    pub(crate) progress: Vec<u8>,
    /// What the record says; handed back once it is committed.
    pub(crate) position: Position,
}
