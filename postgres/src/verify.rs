//! Compares a table with what a sink has made of it, while both change: by ranges of its key, each read in one snapshot,
//! and what differs again and again, until the copy has everything up to what was read.
//!
//! What the copy is, an index or a table of a warehouse, is behind [`Replica`].

mod compare;
mod doubt;
mod encoder;
mod keyed;
mod origin;
mod pace;
mod reader;
mod report;
mod sides;

#[cfg(test)]
mod tests;

pub use compare::{Comparison, Limits, Progress};
pub use encoder::Encoder;
pub use keyed::KeyedTable;
pub use origin::OriginConfig;
pub use reader::TableReader;
pub use report::{Difference, Names, Report};
pub use sides::{Held, Image, Line, Named, Original, Replica};
