//! A partition that this instance holds: what the poll thread and the partition's lane know of it together.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use tokio_util::sync::CancellationToken;

use crate::flow::batch::Source;
use crate::lock::lock;
use crate::topics::{TopicPartition, table_of};

const UNKNOWN: i64 = -1;

/// One assignment of a partition. `start <= durable` once both are known.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) source: Arc<Source>,
    start: AtomicI64,
    durable: AtomicI64,
    /// Where control records have moved reading beyond what is durable, while nothing else is there.
    reached: AtomicI64,
    /// Where the log ends, as Kafka has said last, and when it was asked, in milliseconds since 1970.
    end: AtomicI64,
    end_asked_ms: AtomicI64,
    /// When a record that is durable was written to the log, in milliseconds since 1970: one of the newest.
    durable_logged_ms: AtomicI64,
    /// When it was last known to be read and written to its end, in milliseconds since 1970.
    caught_up_ms: AtomicI64,
    /// Which generation of the target it is written to; the lane's, known once there is a target.
    generation: OnceLock<Arc<OnceLock<String>>>,
    has_left: AtomicBool,
    is_noted: AtomicBool,
    /// Letters are replayed before it begins.
    pub(crate) is_for_replay: bool,
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
            reached: AtomicI64::new(UNKNOWN),
            end: AtomicI64::new(UNKNOWN),
            end_asked_ms: AtomicI64::new(UNKNOWN),
            durable_logged_ms: AtomicI64::new(UNKNOWN),
            caught_up_ms: AtomicI64::new(UNKNOWN),
            generation: OnceLock::new(),
            has_left: AtomicBool::new(false),
            is_noted: AtomicBool::new(false),
            is_for_replay: false,
            leave: CancellationToken::new(),
        }
    }

    /// One before which letters are replayed.
    pub(crate) fn for_replay(partition: TopicPartition) -> Self {
        Self {
            is_for_replay: true,
            ..Self::new(partition)
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

    /// A record that was written to the log at this time is durable.
    pub(crate) fn note_durable(&self, logged_ms: i64) {
        self.durable_logged_ms
            .fetch_max(logged_ms, Ordering::Relaxed);
    }

    /// Everything below `offset` is in the target, or nothing that has to be.
    pub(crate) fn reach(&self, offset: i64) {
        self.reached.fetch_max(offset, Ordering::Relaxed);
        // Before the end is looked at, which then is no older than this time.
        let asked_ms = self.end_asked_ms.load(Ordering::Acquire);
        if self.behind() == Some(0) {
            self.caught_up_ms.fetch_max(asked_ms, Ordering::Relaxed);
        }
    }

    /// Kafka was asked at this time where the log ends, and has said it.
    pub(crate) fn set_end(&self, end: i64, asked_ms: i64) {
        self.end.store(end, Ordering::Release);
        self.end_asked_ms.store(asked_ms, Ordering::Release);
    }

    /// The log ends there at least, as was heard at this time.
    pub(crate) fn raise_end(&self, end: i64, asked_ms: i64) {
        if known(self.end.load(Ordering::Acquire)).is_none_or(|had| had < end) {
            self.set_end(end, asked_ms);
        }
    }

    /// Kafka does not say any more where the log ends.
    pub(crate) fn forget_end(&self) {
        self.end.store(UNKNOWN, Ordering::Release);
    }

    /// Everything below is in the target for good, or nothing that has to be.
    pub(crate) fn done(&self) -> Option<i64> {
        let reached = self.reached.load(Ordering::Relaxed);
        Some(self.durable()?.max(reached))
    }

    /// How many offsets lie between the log's end and what is in the target; unknown while Kafka does not say where the log
    /// ends.
    pub(crate) fn behind(&self) -> Option<i64> {
        let end = known(self.end.load(Ordering::Acquire))?;
        Some((end - self.done()?).max(0))
    }

    /// How long ago everything was in the log that is in the target, in milliseconds; `None` where nobody can tell.
    pub(crate) fn behind_ms(&self, now_ms: i64) -> Option<i64> {
        if self.behind() == Some(0) {
            return Some(0);
        }
        let logged_ms = known(self.durable_logged_ms.load(Ordering::Relaxed));
        let since_ms = self.caught_up_ms().max(logged_ms)?;
        Some((now_ms - since_ms).max(0))
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
            let mut holds = lock(&self.0);
            holds.push(Arc::clone(hold));
        }
    }

    /// Those that have changed since the last call.
    pub(crate) fn take(&self) -> Vec<Arc<Hold>> {
        let mut holds = lock(&self.0);
        for hold in &*holds {
            hold.is_noted.store(false, Ordering::Release);
        }
        std::mem::take(&mut *holds)
    }
}
