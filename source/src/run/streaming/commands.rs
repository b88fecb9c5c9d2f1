//! Signals, applied between two transactions: the record that says so also moves the signals' offset.

use tributary_runtime::Error;

use crate::run::signals::{Inbox, Received};

/// The signals that come in.
pub(super) struct Commands {
    pub(super) inbox: Inbox,
    /// One that waits for the end of a transaction.
    pub(super) waiting: Option<Received>,
}

impl Commands {
    pub(super) const fn new(inbox: Inbox) -> Self {
        Self {
            inbox,
            waiting: None,
        }
    }

    /// Waits for the next signal; never ready while one waits to be applied. Cancel safe.
    pub(super) async fn arrived(&mut self) -> Result<(), Error> {
        if self.waiting.is_some() {
            std::future::pending::<()>().await;
        }
        self.waiting = Some(self.inbox.next().await?);
        Ok(())
    }
}
