//! Generated tables, schema changes and workloads against a real source, judged by the oracle.
//!
//! One [`World`] is a database with some tables of its own and a source. It is told wholly by a seed: its tables, and
//! every statement that is sent. What the seed does not tell is when the source is killed and how transactions of
//! several connections fall together.
//!
//! A [`SearchWorld`] has a search sink as well, whose index is compared with the fold of the topics.

mod chaos;
mod clearing;
mod column;
mod judge;
mod plan;
mod run;
mod search;
mod table;
mod transacting;
mod value;
mod workload;

pub use judge::{Evidence, judge};
pub use run::{Budget, Outcome, World, run_world};
pub use search::{SearchOutcome, SearchWorld};
