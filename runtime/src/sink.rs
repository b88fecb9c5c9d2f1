//! The one consume–batch–write–commit loop of all sinks.

mod batch;
mod destination;

pub use batch::{Action, Batch, Change, KeyRow, ValueRow};
pub use destination::{
    Destination, PartitionWriter, Progress, Rejection, Start, TableName, TopicPartition, WriteError,
};
