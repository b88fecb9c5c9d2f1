//! A partition of a lane, as the lane knows it.

use std::sync::Arc;

use crate::figures::Figures;
use crate::flow::coalesce::History;
use crate::flow::freshness::Freshness;
use crate::write::hold::Hold;

/// A partition of the lane. `durable <= accepted`: only `durable` reaches the group, by way of the hold.
pub(super) struct Held {
    pub(super) hold: Arc<Hold>,
    /// Its start is known.
    pub(super) is_open: bool,
    pub(super) is_leaving: bool,
    pub(super) history: History,
    pub(super) freshness: Freshness,
    pub(super) accepted: i64,
    pub(super) durable: i64,
    /// When one of the newest records that are in the target was written to the log, as long as it is not durable.
    logged_ms: Option<i64>,
}

impl Held {
    /// A partition that is being opened.
    pub(super) fn new(hold: &Arc<Hold>) -> Self {
        Self {
            hold: Arc::clone(hold),
            is_open: false,
            is_leaving: false,
            history: History::default(),
            freshness: Freshness::default(),
            accepted: 0,
            durable: 0,
            logged_ms: None,
        }
    }

    /// All changes that were accepted are in the target for good, whatever else there is still to be done of them.
    pub(super) fn note_written(&mut self, figures: &Figures) {
        if self.is_open {
            let logged_ms = self.freshness.durable(self.accepted, figures);
            self.logged_ms = logged_ms.max(self.logged_ms);
        }
    }

    /// Everything below `offset` is durable; all else was noted as written.
    pub(super) fn advance(&mut self, offset: i64) {
        self.durable = self.durable.max(offset);
        if self.is_open {
            self.hold.advance(self.durable);
            if let Some(logged_ms) = self.logged_ms.take_if(|_| self.durable == self.accepted) {
                self.hold.note_durable(logged_ms);
            }
        }
    }
}
