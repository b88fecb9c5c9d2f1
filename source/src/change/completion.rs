//! No half rows: TOASTed columns that an update did not touch are absent from the WAL and are looked up.

mod completer;
mod incomplete;
mod lookups;
mod reader;
mod target;
mod visibility;

pub(crate) use completer::Completer;
pub(crate) use incomplete::{Cut, Incomplete};
pub(crate) use visibility::ServerSnapshot;
