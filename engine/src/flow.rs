//! Records on their way: copied, bounded, decoded, coalesced into batches.

pub(crate) mod batch;
mod beside;
pub(crate) mod budget;
pub(crate) mod coalesce;
pub(crate) mod fault;
pub(crate) mod form;
pub(crate) mod freshness;
pub(crate) mod inbox;
pub(crate) mod plans;
pub(crate) mod records;
mod times;
pub(crate) mod versions;
