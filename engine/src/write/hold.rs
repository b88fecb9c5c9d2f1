//! A partition that this instance holds: what the poll thread and the partition's lane know of it together.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::flow::batch::Source;
use crate::topics::{TopicPartition, table_of};

const UNKNOWN: i64 = -1;

/// One assignment of a partition. `start <= durable` once both are known.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) source: Arc<Source>,
    start: AtomicI64,
    durable: AtomicI64,
    /// When it was last known to be read and written to its end, in milliseconds since 1970.
    caught_up_ms: AtomicI64,
    /// Which generation of the target it is written to; the lane's, known once there is a target.
    generation: OnceLock<Arc<OnceLock<String>>>,
    has_left: AtomicBool,
    is_noted: AtomicBool,
    /// Cancelled when it is to be let go.
    pub(crate) leave: CancellationToken,
}

impl Hold {
    pub(crate) fn new(partition: TopicPartition) -> Self {
        let table = table_of(&partition.topic);
        Self {
            source: Arc::new(Source { partition, table }),
            start: AtomicI64::new(UNKNOWN),
            durable: AtomicI64::new(UNKNOWN),
            caught_up_ms: AtomicI64::new(UNKNOWN),
            generation: OnceLock::new(),
            has_left: AtomicBool::new(false),
            is_noted: AtomicBool::new(false),
            leave: CancellationToken::new(),
        }
    }

    pub(crate) fn partition(&self) -> &TopicPartition {
        &self.source.partition
    }

    /// What it will be written to.
    pub(crate) fn stand_on(&self, generation: Arc<OnceLock<String>>) {
        // One that is opened again stands on the same ground.
        let _ = self.generation.set(generation);
    }

    /// Which generation of the target it is written to, if there is one.
    pub(crate) fn generation(&self) -> Option<String> {
        self.generation.get()?.get().cloned()
    }

    /// The target is ready and everything below `offset` is in it.
    pub(crate) fn open_at(&self, offset: i64) {
        self.durable.store(offset, Ordering::Release);
        self.start.store(offset, Ordering::Release);
    }

    /// Everything below `offset` is in the target for good.
    pub(crate) fn advance(&self, offset: i64) {
        self.durable.fetch_max(offset, Ordering::AcqRel);
    }

    /// Everything that the log has is in the target.
    pub(crate) fn set_caught_up(&self, now_ms: i64) {
        self.caught_up_ms.store(now_ms, Ordering::Relaxed);
    }

    /// When that was last known to be so.
    pub(crate) fn caught_up_ms(&self) -> Option<i64> {
        known(self.caught_up_ms.load(Ordering::Relaxed))
    }

    /// The lane has nothing to do with it any more.
    pub(crate) fn has_left(&self) -> bool {
        self.has_left.load(Ordering::Acquire)
    }

    /// The lane lets go of it.
    pub(crate) fn set_left(&self) {
        self.has_left.store(true, Ordering::Release);
    }

    /// Where reading begins, once known.
    pub(crate) fn start(&self) -> Option<i64> {
        known(self.start.load(Ordering::Acquire))
    }

    /// What may be committed, once known.
    pub(crate) fn durable(&self) -> Option<i64> {
        known(self.durable.load(Ordering::Acquire))
    }
}

fn known(offset: i64) -> Option<i64> {
    (offset != UNKNOWN).then_some(offset)
}

/// The holds of which the poll thread does not know the newest yet. So a turn costs what has changed, however many
/// partitions there are.
#[derive(Debug, Default)]
pub(crate) struct Changed(Mutex<Vec<Arc<Hold>>>);

impl Changed {
    /// Something about `hold` has changed.
    pub(crate) fn note(&self, hold: &Arc<Hold>) {
        if !hold.is_noted.swap(true, Ordering::AcqRel) {
            let mut holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            holds.push(Arc::clone(hold));
        }
    }

    /// Those that have changed since the last call.
    pub(crate) fn take(&self) -> Vec<Arc<Hold>> {
        let mut holds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for hold in &*holds {
            hold.is_noted.store(false, Ordering::Release);
        }
        std::mem::take(&mut *holds)
    }
}
