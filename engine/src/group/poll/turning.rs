//! The partition whose turn it is to have its letters replayed, until its lane has it.

use std::sync::Arc;

use crate::write::hold::Hold;
use crate::write::replay::Ticket;

/// The partition that is being let go for a replay.
#[derive(Debug)]
pub(super) struct Turning {
    pub(super) ticket: Ticket,
    /// As what it leaves; `None` as long as it is not open yet.
    pub(super) leaving: Option<Arc<Hold>>,
}
