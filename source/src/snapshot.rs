//! Reading rows: all tables in parallel under the slot's exported snapshot, or one chunk after the other beside
//! the stream.

pub(crate) mod beside;
mod chunk;
pub(crate) mod parallel;
pub(crate) mod relations;
pub(crate) mod shape;
pub(crate) mod throttle;
