//! What the peers are measured on: the servers, the size of the backlogs, and a word on how far it is.

use tokio_postgres::Client;

use crate::pipeline::Pipeline;
use crate::stack::{Part, Stack};

/// The servers that a source needs.
pub(super) const PARTS: [Part; 3] = [Part::Postgres, Part::Kafka, Part::Registry];

/// Where it all happens.
#[derive(Debug)]
pub struct Bench<'a> {
    /// The servers.
    pub stack: &'a Stack,
    /// The database with pgbench's tables, and the topics' prefix.
    pub pipeline: &'a Pipeline,
    /// A connection to the database.
    pub client: Client,
}

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// pgbench's transactions in the first backlog; the second has twice as many. Each changes four rows.
    pub transactions: u64,
    /// pgbench's scale: 100,000 accounts each.
    pub scale: u32,
}

/// Says how far it is.
#[allow(clippy::print_stderr, reason = "the bench tells people what it does")]
pub(super) fn progress(text: &str) {
    eprintln!("bench: {text}");
}
