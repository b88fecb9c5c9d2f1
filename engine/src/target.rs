//! What a sink must bring: where its target stands, and how batches get there.

use std::future::Future;

use tributary_runtime::Error;

use crate::flow::batch::Batch;
use crate::flow::form::RowForm;
use crate::mark::{Known, Mark, Note};
use crate::topics::TableName;

/// A target that one sink service keeps equal to its topics.
pub trait Target: Send + Sync + 'static {
    /// What must be written in order together: an index, a table.
    type Lane: Lane;

    /// The lane of a topic. It is asked for when the first partition of the topic is assigned, and given up with the last one.
    ///
    /// # Errors
    /// By policy: tried again with back-off, or the service stops.
    fn lane(
        &self,
        topic: &str,
        table: &TableName,
    ) -> impl Future<Output = Result<Self::Lane, Error>> + Send;
}

/// Writes the batches of one topic's partitions.
///
/// Its writes run at the same time, up to [`Lane::width`] of them, but never two with a partition in common: so two changes of
/// one key are never under way together.
pub trait Lane: Send + Sync + 'static {
    /// How many writes may be under way together, at most.
    fn width(&self) -> usize;

    /// How many changes the target has passed over since the lane was made, because it had this version of the row or a newer
    /// one; 0 where that is not counted. For `status`.
    fn passed_over(&self) -> u64 {
        0
    }

    /// Why less is asked of the target than might be, while that is so. For `status`.
    fn held_back(&self) -> Option<String> {
        None
    }

    /// What the target knows of itself, asked anew.
    ///
    /// # Errors
    /// By policy: tried again with back-off, or the service stops.
    fn known(&self) -> impl Future<Output = Result<Known, Error>> + Send;

    /// Begins a generation with this mark, where there is no target yet. Another instance may be faster: then nothing is done.
    ///
    /// # Errors
    /// By policy.
    fn begin(&self, mark: &Mark) -> impl Future<Output = Result<(), Error>> + Send;

    /// Makes the target of a topic that has no rows yet, in the form that they will have, so that it can be asked; begins a
    /// generation with this mark, unless one has begun. What is there and has no rows gets what it lacks. A target that has no
    /// form before its first row need not do anything.
    ///
    /// # Errors
    /// By policy; those that stop only leave the target to the first row.
    fn found(&self, mark: &Mark, form: &RowForm) -> impl Future<Output = Result<(), Error>> + Send {
        let _ = (mark, form);
        std::future::ready(Ok(()))
    }

    /// Adds notes to the mark, if the target still is of this generation; whether it is.
    ///
    /// # Errors
    /// By policy.
    fn note(
        &self,
        generation: &str,
        notes: &[Note],
    ) -> impl Future<Output = Result<bool, Error>> + Send;

    /// Drops the target, if it still is of this generation, and all that is kept of it.
    ///
    /// # Errors
    /// By policy.
    fn discard(&self, generation: Option<&str>) -> impl Future<Output = Result<(), Error>> + Send;

    /// Prepares a partition that was just assigned, and says where it stands. Called again at every new assignment. A target
    /// that keeps its own offsets fences earlier holders of the partition here.
    ///
    /// # Errors
    /// By policy: tried again with back-off, or the service stops.
    fn take(&self, partition: i32) -> impl Future<Output = Result<Stand, Error>> + Send;

    /// Writes batches, each of another partition. Must be idempotent: after an error the engine repeats them, with the
    /// same records or fewer, and perhaps without some of the partitions.
    ///
    /// # Errors
    /// [`WriteError`]; nothing of the batches counts as accepted then.
    fn write(&self, batches: &[Batch]) -> impl Future<Output = Result<Written, WriteError>> + Send;

    /// Deletes rows with a `seq` below `below`: some of them, as one bounded request would, since other writes of the lane go on
    /// meanwhile. Called again until it says [`Swept::All`]; what comes after that, or after an error, is another sweep, which finds all
    /// rows that were written before it began. Only one at a time, and only where writes are [`Written::Unswept`].
    ///
    /// # Errors
    /// By policy.
    fn sweep(&self, below: u64) -> impl Future<Output = Result<Swept, Error>> + Send {
        let _ = below;
        std::future::ready(Ok(Swept::All))
    }

    /// Makes all that was accepted durable. Called before a partition is let go, at shutdown, and when accepted records have
    /// waited for the configured time; never while a write is under way.
    ///
    /// # Errors
    /// By policy; offsets then stay at the last durable one.
    fn settle(&self) -> impl Future<Output = Result<(), Error>> + Send;
}

/// How far a target has come with a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stand {
    /// As far as the consumer group has committed: the target keeps no offsets.
    AsTheGroup,
    /// Everything below this offset is in it.
    At(i64),
    /// It keeps offsets, and has none of this partition.
    Nowhere,
}

/// What has become of batches. Only what is durable moves the consumer group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// In the target for good.
    Durable,
    /// Taken over, but lost if the target or the sink dies before [`Lane::settle`].
    Accepted,
    /// The changes are in the target for good. The rows below the batches' boundaries ([`Batch::below`]) are not looked at yet: that
    /// is [`Lane::sweep`]'s, beside later writes. A lane that says this never says [`Written::Accepted`].
    Unswept,
}

/// How far a sweep has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swept {
    /// There may be more rows below the boundary.
    Some,
    /// There were none left when this sweep began.
    All,
}

/// Why batches were not written.
#[derive(Debug)]
pub enum WriteError {
    /// The target as a whole: the error's own policy says whether they are tried again.
    Target(Error),
    /// Another instance has taken one of the partitions, by the target's own account. They are tried again: who has lost the
    /// partition lets go of it soon. Who has it still was overtaken by one that had lost it, and takes it anew.
    TakenOver(Error),
    /// These records cannot be taken as they are, ever. All others may have been written.
    /// The engine stops with the first one, or diverts them all and writes the rest again.
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
    /// The record's partition.
    pub partition: i32,
    /// The record's offset in it.
    pub offset: i64,
    /// What is wrong with it (never a value), as the target puts it.
    pub reason: String,
}
