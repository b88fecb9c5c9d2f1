//! Tables, a source and a search sink under all that may happen to them, and the index compared with the fold of the log.

mod group;
mod history;
mod reindexing;
mod standing;
mod world;

pub use world::{SearchOutcome, SearchWorld};
