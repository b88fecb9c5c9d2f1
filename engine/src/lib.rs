//! The one engine of all sinks: fetch → decode → coalesce per key → write → durable → commit.
//!
//! A thread of its own polls Kafka (`group/poll`) and fills one bounded inbox per partition (`flow/`); a task per
//! partition takes batches from it, one at a time, and writes them (`write/`). Offsets move with what is durable
//! only, and a partition is let go after its write under way is finished, made durable and committed.

mod check;
pub mod config;
mod destination;
mod flow;
mod group;
mod metrics;
mod run;
mod status;
mod topics;
mod write;

pub use check::check;
pub use config::{BatchConfig, OnError, SinkConfig};
pub use destination::{Destination, PartitionWriter, Progress, Rejection, Start, WriteError};
pub use flow::batch::{Action, Batch, Change, KeyRow, ValueRow};
pub use run::run;
pub use topics::{TableName, TopicPartition};
pub use write::dead_letter;
