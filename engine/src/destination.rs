//! What a sink must bring: where its target stands, and how a batch gets there.

use std::future::Future;

use crate::flow::batch::Batch;
use crate::topics::{TableName, TopicPartition};
use tributary_runtime::error::Error;

/// Where reading a partition begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the consumer group's committed offset; at the beginning where the group has none.
    Committed,
    /// At this offset: the target keeps its own.
    At(i64),
    /// At the beginning, whatever the group has committed.
    Beginning,
}

/// How far a writer has come, as next offsets: everything below is accepted, or durable.
///
/// `durable <= accepted` always; only `durable` moves the consumer group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Taken over, but lost if the target or the sink dies now.
    pub accepted: i64,
    /// In the target for good.
    pub durable: i64,
}

/// Why a batch was not written.
#[derive(Debug)]
pub enum WriteError {
    /// The target as a whole: the error's own policy says whether the batch is tried again.
    Target(Error),
    /// These records cannot be taken as they are, ever. All others of the batch may have been written.
    /// The loop stops with the first one, or diverts them all and writes the rest of the batch again.
    Rejected(Vec<Rejection>),
}

impl From<Error> for WriteError {
    fn from(error: Error) -> Self {
        Self::Target(error)
    }
}

/// A record that the target refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The record's offset in the batch's partition.
    pub offset: i64,
    /// What is wrong with it (never a value), as the target puts it.
    pub reason: String,
}

/// A target that one sink service keeps equal to its topics.
pub trait Destination: Send + Sync + 'static {
    /// Writes the records of one partition.
    type Writer: PartitionWriter;

    /// Prepares a partition that was just assigned and says where to begin. Called again at every new
    /// assignment. A target that keeps its own offsets fences earlier holders of the partition here.
    ///
    /// # Errors
    /// By policy: tried again with back-off, or the service stops.
    fn open(
        &self,
        partition: &TopicPartition,
        table: &TableName,
    ) -> impl Future<Output = Result<(Self::Writer, Start), Error>> + Send;
}

/// Writes the records of one partition, one batch after the other.
pub trait PartitionWriter: Send + 'static {
    /// Writes a batch. Must be idempotent: the loop repeats a batch after an error, with the same records
    /// or fewer.
    ///
    /// # Errors
    /// [`WriteError`]; nothing of the batch counts as accepted then.
    fn write(&mut self, batch: &Batch)
    -> impl Future<Output = Result<Progress, WriteError>> + Send;

    /// Makes all that was accepted durable. Called before a partition is let go, at shutdown, and when
    /// accepted records have waited for the configured time.
    ///
    /// # Errors
    /// By policy; offsets then stay at the last durable one.
    fn flush(&mut self) -> impl Future<Output = Result<Progress, Error>> + Send;
}
