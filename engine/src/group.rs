//! Membership in the consumer group: what is held, what is fetched, what is committed, when it is let go.

mod commit;
mod holdings;
pub(crate) mod log_ends;
pub(crate) mod member;
pub(crate) mod membership;
pub(crate) mod poll;
pub(crate) mod queries;
mod suspects;
pub(crate) mod topic_watch;
