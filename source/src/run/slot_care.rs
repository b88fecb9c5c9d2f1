//! What the slot holds on the server, and what is done when that is too much.

mod lag;
mod watch;

pub(crate) use watch::SlotWatch;
