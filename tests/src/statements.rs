//! Statements that give old rows other values, and of which the stream says nothing: each on a table of its own, so
//! that all of them can be run at once and judged one by one.

mod kinds;
mod topics;

pub use kinds::{Changes, EACH, Statement, create};
pub use topics::Topics;
