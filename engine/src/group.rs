//! Membership in the consumer group: what is held, where it begins, what is committed, when it is let go.

mod commit;
mod holdings;
mod life;
pub(crate) mod membership;
pub(crate) mod poll;
mod start;
mod suspects;
