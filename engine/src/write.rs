//! Batches on their way into the target, lane by lane, and the records that are put aside.

pub(crate) mod account;
mod attempts;
pub mod dead_letter;
mod ground;
pub(crate) mod hold;
pub(crate) mod instance;
mod job;
pub(crate) mod judge;
pub(crate) mod lane;
pub(crate) mod lease;
pub(crate) mod lettered;
pub(crate) mod pauses;
pub(crate) mod replay;
pub(crate) mod scan;
pub(crate) mod stamp;
mod work;
