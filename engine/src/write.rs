//! Batches on their way into the target, and the records that are put aside.

pub(crate) mod assignment;
pub mod dead_letter;
pub(crate) mod instance;
pub(crate) mod lease;
pub(crate) mod position;
pub(crate) mod writer;
