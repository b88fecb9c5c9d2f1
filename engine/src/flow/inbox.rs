//! What waits for a lane: filled by the poll thread, one queue per partition, emptied by the lane in turn.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tributary_runtime::kafka::Headed;

use crate::config::BatchConfig;
use crate::flow::budget::Budget;
use crate::flow::records::Records;
use crate::lock::lock;

/// How long a record waits at most for those that would fill its batch, while another write is under way.
const PATIENCE: Duration = Duration::from_millis(100);

/// Records on their way to one lane.
#[derive(Debug)]
pub(crate) struct Inbox {
    budget: Arc<Budget>,
    config: BatchConfig,
    queues: Mutex<Queues>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Queues {
    /// By partition; those with nothing that waits are not there.
    waiting: BTreeMap<i32, Waiting>,
    /// The partition that was served last.
    last: Option<i32>,
    /// Bytes that wait, and bytes taken but not yet released.
    held: usize,
}

#[derive(Debug)]
struct Waiting {
    /// All but the last are full; none is empty.
    batches: VecDeque<Records>,
    /// When the oldest record came.
    since: Instant,
}

/// What a lane takes: records of some partitions, at most one batch's worth in all.
pub(crate) type Taken = Vec<(i32, Records)>;

impl Inbox {
    pub(crate) fn new(config: BatchConfig, budget: Arc<Budget>) -> Self {
        Self {
            budget,
            config,
            queues: Mutex::default(),
            filled: Notify::new(),
        }
    }

    /// Adds a record, and says whether the lane may take more.
    pub(crate) fn push(&self, partition: i32, message: &impl Headed) -> bool {
        let (held, wake) = {
            let mut queues = self.lock();
            let mut wake = false;
            let waiting = queues.waiting.entry(partition).or_insert_with(|| {
                wake = true;
                Waiting {
                    batches: VecDeque::new(),
                    since: Instant::now(),
                }
            });
            if waiting.batches.back().is_none_or(|last| self.is_full(last)) {
                waiting.batches.push_back(Records::default());
            }
            let is_first = waiting.batches.len() == 1;
            let bytes = waiting.batches.back_mut().map_or(0, |last| {
                let before = last.bytes();
                last.push(message);
                wake |= is_first && self.is_full(last);
                last.bytes() - before
            });
            queues.held += bytes;
            // Within the lock: the batch may be taken, written and released as soon as that is given back.
            self.budget.take(bytes);
            (queues.held, wake)
        };
        if wake {
            self.filled.notify_one();
        }
        self.budget.admits(held)
    }

    /// Whether the lane may take more.
    pub(crate) fn admits(&self) -> bool {
        let held = self.lock().held;
        self.budget.admits(held)
    }

    /// Whether no other lane holds anything.
    pub(crate) fn is_alone(&self) -> bool {
        let held = self.lock().held;
        held >= self.budget.held()
    }

    /// Whether a lane that was stopped may go on.
    pub(crate) fn has_room(&self) -> bool {
        let held = self.lock().held;
        self.budget.has_room(held)
    }

    /// The next records of partitions that are not `busy`: a batch that is full at once, others once they have waited for the
    /// linger time, and while other writes are under way a little longer. Their bytes stay counted until [`Inbox::release`].
    /// Safe to cancel.
    pub(crate) async fn next(&self, busy: &BTreeSet<i32>) -> Taken {
        let linger = if busy.is_empty() {
            self.config.linger()
        } else {
            self.config.linger().max(PATIENCE)
        };
        loop {
            let filled = self.filled.notified();
            match self.take_due(busy, linger) {
                Ok(taken) => return taken,
                Err(None) => filled.await,
                Err(Some(due)) => {
                    // Elapsed or filled: look again.
                    let _ = tokio::time::timeout_at(due, filled).await;
                }
            }
        }
    }

    /// Gives back the bytes of records from [`Inbox::next`] that are done with.
    pub(crate) fn release(&self, bytes: usize) {
        self.lock().held -= bytes;
        self.budget.give_back(bytes);
    }

    /// Forgets what waits of a partition.
    pub(crate) fn forget(&self, partition: i32) {
        let mut queues = self.lock();
        if let Some(waiting) = queues.waiting.remove(&partition) {
            let bytes = waiting.batches.iter().map(Records::bytes).sum();
            queues.held -= bytes;
            self.budget.give_back(bytes);
        }
    }

    /// What is due, otherwise when something will be; `None` where nothing waits.
    fn take_due(&self, busy: &BTreeSet<i32>, linger: Duration) -> Result<Taken, Option<Instant>> {
        let mut queues = self.lock();
        let now = Instant::now();
        let (mut bytes, mut rows, mut due) = (0, 0, None);
        for (_, waiting) in queues.idle(busy) {
            let first = waiting.batches.front();
            bytes += first.map_or(0, Records::bytes);
            rows += first.map_or(0, Records::len);
            let at = waiting.since + linger;
            due = Some(due.map_or(at, |due: Instant| due.min(at)));
        }
        let is_full = bytes >= self.config.bytes || rows >= self.config.rows;
        if !is_full && due.is_none_or(|due| now < due) {
            return Err(due);
        }
        Ok(queues.take(busy, self.config, now))
    }

    fn is_full(&self, records: &Records) -> bool {
        records.bytes() >= self.config.bytes || records.len() >= self.config.rows
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        lock(&self.queues)
    }
}

impl Queues {
    fn idle<'a>(&'a self, busy: &'a BTreeSet<i32>) -> impl Iterator<Item = (&'a i32, &'a Waiting)> {
        self.waiting
            .iter()
            .filter(|(partition, _)| !busy.contains(partition))
    }

    /// The first batch of each idle partition in turn, as long as they fit one.
    fn take(&mut self, busy: &BTreeSet<i32>, config: BatchConfig, now: Instant) -> Taken {
        let after = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let round = self.waiting.range((after, Bound::Unbounded));
        let round: Vec<i32> = round
            .chain(self.waiting.iter())
            .map(|(partition, _)| *partition)
            .filter(|partition| !busy.contains(partition))
            .collect();
        let (mut taken, mut bytes, mut rows) = (Taken::new(), 0, 0);
        for partition in round {
            let Some(waiting) = self.waiting.get_mut(&partition) else {
                continue;
            };
            let fits = |records: &mut Records| {
                taken.is_empty()
                    || (bytes + records.bytes() <= config.bytes
                        && rows + records.len() <= config.rows)
            };
            if taken.iter().any(|(already, _)| *already == partition) {
                break;
            }
            let Some(records) = waiting.batches.pop_front_if(fits) else {
                break;
            };
            waiting.since = now;
            if waiting.batches.is_empty() {
                self.waiting.remove(&partition);
            }
            bytes += records.bytes();
            rows += records.len();
            self.last = Some(partition);
            taken.push((partition, records));
        }
        taken
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.budget.give_back(self.lock().held);
    }
}

#[cfg(test)]
mod tests;
