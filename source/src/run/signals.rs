//! Signals: what an operator asks of a running source, as records on the topic `<prefix>.signals`.
//!
//! Own form: `{"type": "snapshot", "tables": ["s.t"], "where": "id > 7", "sweep": false, "source": "shop"}`, and
//! `pause`, `resume`, `cancel`. The shapes of Debezium's signals (`execute-snapshot`, `stop-snapshot`,
//! `pause-snapshot`, `resume-snapshot`, with `data`) are taken as well.

mod apply;
mod inbox;
mod signal;
#[cfg(test)]
mod tests;

pub(crate) use apply::obey;
pub(crate) use inbox::{Inbox, Received};
pub(crate) use signal::{Action, Request, SWEEP_AND_FILTER, Signal};
