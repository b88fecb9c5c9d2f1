//! The one loop of all sinks: fetch → decode → coalesce per key → write → durable → commit.
//!
//! A thread of its own polls Kafka (module `poll`) and fills one bounded inbox per partition; a task per
//! partition takes batches from it, one at a time, and writes them. Offsets move with what is durable only,
//! and a partition is let go after its write under way is finished, made durable and committed.

mod assignment;
mod batch;
mod check;
mod coalesce;
mod commit;
mod config;
pub mod dead_letter;
mod destination;
mod fault;
mod freshness;
mod holdings;
mod inbox;
mod instance;
mod lease;
mod life;
mod membership;
mod metrics;
mod plans;
mod poll;
mod position;
mod records;
mod run;
mod start;
mod status;
mod topics;
mod writer;

pub use batch::{Action, Batch, Change, KeyRow, ValueRow};
pub use check::check;
pub use config::{BatchConfig, OnError, SinkConfig};
pub use destination::{Destination, PartitionWriter, Progress, Rejection, Start, WriteError};
pub use run::run;
pub use topics::{TableName, TopicPartition};
