//! What a job has to write.

use std::sync::Arc;

use crate::flow::batch::{Batch, Source};
use crate::flow::coalesce::History;
use crate::flow::fault::RecordFault;
use crate::flow::records::Records;

/// A partition's records, as received, and what its records have told before.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) source: Arc<Source>,
    pub(crate) history: History,
    pub(crate) records: Records,
    /// See [`Batch::is_replay`].
    pub(crate) is_replay: bool,
}

/// What is to be written. An interrupted job gives it back as far as it has come.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(super) received: Vec<Share>,
    pub(super) batches: Vec<Batch>,
    /// Beside each batch.
    pub(super) beside: Vec<Beside>,
}

/// What a partition's records have told, and those that cannot be applied.
#[derive(Debug)]
pub(super) struct Beside {
    pub(super) history: History,
    pub(super) faults: Vec<RecordFault>,
}

impl Work {
    pub(crate) fn new(received: Vec<Share>) -> Self {
        Self {
            received,
            ..Self::default()
        }
    }

    fn sources(&self) -> impl Iterator<Item = &Arc<Source>> {
        let received = self.received.iter().map(|share| &share.source);
        received.chain(self.batches.iter().map(|batch| &batch.source))
    }

    /// The partitions' numbers.
    pub(crate) fn partitions(&self) -> Vec<i32> {
        self.sources()
            .map(|source| source.partition.partition)
            .collect()
    }

    /// Bytes of the records.
    pub(crate) fn bytes(&self) -> usize {
        let received = self.received.iter().map(|share| share.records.bytes());
        received.chain(self.batches.iter().map(Batch::bytes)).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sources().next().is_none()
    }

    /// Leaves partitions out.
    pub(crate) fn without(mut self, left: impl Fn(&Arc<Source>) -> bool) -> Self {
        self.received.retain(|share| !left(&share.source));
        let batches = self.batches.into_iter().zip(self.beside);
        let kept = batches.filter(|(batch, _)| !left(&batch.source));
        (self.batches, self.beside) = kept.unzip();
        self
    }

    /// The batches that were written, and what the records of each partition have told by then.
    pub(crate) fn written(self) -> impl Iterator<Item = (Batch, History)> {
        let beside = self.beside.into_iter().map(|beside| beside.history);
        self.batches.into_iter().zip(beside)
    }
}
