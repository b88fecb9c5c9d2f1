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
        }
    }

    pub(super) fn set_durable(&mut self, figures: &Figures) {
        self.durable = self.accepted;
        if self.is_open {
            self.hold.advance(self.durable);
            if let Some(logged_ms) = self.freshness.durable(self.durable, figures) {
                self.hold.note_durable(logged_ms);
            }
        }
    }
}
