//! What the peers are measured on: the servers, the size of the backlogs, and a word on how far it is.

use std::path::PathBuf;

use tokio_postgres::Client;

use crate::pipeline::Pipeline;
use crate::stack::{Part, Stack};

/// The servers that these need: the engine of search is no part of what a source is measured on.
pub(super) fn parts(scenarios: &[Scenario]) -> Vec<Part> {
    let mut parts = vec![Part::Postgres, Part::Kafka, Part::Registry];
    if scenarios.contains(&Scenario::Sinks) {
        parts.push(Part::Search);
    }
    parts
}

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

/// A thing to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// A first snapshot, then the drains of backlogs.
    Drain,
    /// First starts with three tables.
    Start,
    /// First starts with a thousand tables.
    StartMany,
    /// Topics into targets.
    Sinks,
}

impl Scenario {
    /// All of them, in the order in which they run.
    pub const ALL: [Self; 4] = [Self::Drain, Self::Start, Self::StartMany, Self::Sinks];

    /// What the command line calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Start => "start",
            Self::StartMany => "start-many",
            Self::Sinks => "sinks",
        }
    }
}

/// What is measured, on what.
#[derive(Debug, Clone)]
pub struct Measurements {
    /// What is measured.
    pub scenarios: Vec<Scenario>,
    /// How much.
    pub size: Size,
    /// A folder with the binaries of another build, to be measured in the same run.
    pub before: Option<PathBuf>,
    /// The stack runs on behind it.
    pub keep: bool,
}

/// How much is drained and loaded.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// pgbench's transactions in the first backlog; the second has twice as many. Each changes four rows.
    pub transactions: u64,
    /// pgbench's scale: 100,000 accounts each.
    pub scale: u32,
    /// Rows of the topic that is loaded into targets.
    pub rows: u64,
    /// How often the sinks of Kafka Connect load it: they take their time.
    pub peer_rounds: u32,
}

/// Says how far it is.
#[allow(clippy::print_stderr, reason = "the bench tells people what it does")]
pub(super) fn progress(text: &str) {
    eprintln!("bench: {text}");
}
