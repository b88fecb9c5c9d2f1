//! What waits for a partition's writer: filled by the poll thread, emptied by the writer, bounded.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rdkafka::message::Message;
use tokio::sync::Notify;

use crate::config::BatchConfig;
use crate::flow::records::Records;

/// The least that a partition may hold, so that many partitions do not make batches of single records.
const LEAST_SHARE_BYTES: usize = 64 * 1024;

/// Bytes that all partitions hold together.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    held: AtomicUsize,
    partitions: AtomicUsize,
}

impl Budget {
    pub(crate) const fn new(limit: usize) -> Self {
        Self {
            limit,
            held: AtomicUsize::new(0),
            partitions: AtomicUsize::new(0),
        }
    }

    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// What one partition may hold: twice a batch (one that is written, one that fills), but no more than
    /// its fair share.
    fn share(&self, batch_bytes: usize) -> usize {
        let partitions = self.partitions.load(Ordering::Relaxed).max(1);
        (self.limit / partitions)
            .max(LEAST_SHARE_BYTES)
            .min(batch_bytes.saturating_mul(2))
    }

    fn is_spent(&self) -> bool {
        self.held() >= self.limit
    }
}

/// One partition's records on their way to the writer.
///
/// `held <= share + one record`: a record is taken whenever the poll thread has one, and the partition is
/// paused as soon as [`Inbox::push`] says that it is full.
#[derive(Debug)]
pub(crate) struct Inbox {
    budget: Arc<Budget>,
    config: BatchConfig,
    queue: Mutex<Queue>,
    filled: Notify,
    /// Bytes that wait, and bytes taken but not yet released.
    held: AtomicUsize,
}

#[derive(Debug, Default)]
struct Queue {
    /// All but the last are full.
    batches: VecDeque<Records>,
    /// When the oldest record came.
    since: Option<Instant>,
}

impl Inbox {
    pub(crate) fn new(config: BatchConfig, budget: Arc<Budget>) -> Self {
        budget.partitions.fetch_add(1, Ordering::Relaxed);
        Self {
            budget,
            config,
            queue: Mutex::default(),
            filled: Notify::new(),
            held: AtomicUsize::new(0),
        }
    }

    /// Adds a record, and says whether the partition now holds all it may.
    pub(crate) fn push(&self, message: &impl Message) -> bool {
        let (held, wake) = {
            let mut queue = self.lock();
            if queue.batches.back().is_none_or(|last| self.is_full(last)) {
                queue.batches.push_back(Records::default());
            }
            let first = queue.since.is_none();
            queue.since.get_or_insert_with(Instant::now);
            let several = queue.batches.len() > 1;
            let (bytes, wake) = queue.batches.back_mut().map_or((0, false), |last| {
                let before = last.bytes();
                last.push(message);
                let became_full = !several && self.is_full(last);
                (last.bytes() - before, first || became_full)
            });
            // Within the lock: the batch may be taken, written and released as soon as that is given back.
            self.budget.held.fetch_add(bytes, Ordering::Relaxed);
            (self.held.fetch_add(bytes, Ordering::Relaxed) + bytes, wake)
        };
        if wake {
            self.filled.notify_one();
        }
        held >= self.budget.share(self.config.bytes) || self.budget.is_spent()
    }

    /// Whether a paused partition may go on: half of its share is free again.
    pub(crate) fn has_room(&self) -> bool {
        let held = self.held.load(Ordering::Relaxed);
        held <= self.budget.share(self.config.bytes) / 2 && !self.budget.is_spent()
    }

    /// The next batch: a full one at once, otherwise what is there once the oldest record has waited for
    /// the linger time. Its bytes stay counted until [`Inbox::release`]. Safe to cancel.
    pub(crate) async fn next(&self) -> Records {
        loop {
            let filled = self.filled.notified();
            let due = match self.take_due() {
                Ok(records) => return records,
                Err(due) => due,
            };
            match due {
                None => filled.await,
                Some(due) => {
                    // Elapsed or filled: look again.
                    let _ = tokio::time::timeout_at(due.into(), filled).await;
                }
            }
        }
    }

    /// Gives back the bytes of a batch from [`Inbox::next`] that is done with.
    pub(crate) fn release(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        self.budget.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The front batch if it is due, otherwise when it will be; `None` with an empty queue.
    fn take_due(&self) -> Result<Records, Option<Instant>> {
        let mut queue = self.lock();
        let Some(since) = queue.since else {
            return Err(None);
        };
        let is_full = queue
            .batches
            .front()
            .is_some_and(|first| self.is_full(first));
        let due = since + self.config.linger();
        let now = Instant::now();
        if !is_full && now < due {
            return Err(Some(due));
        }
        let records = queue.batches.pop_front().unwrap_or_default();
        queue.since = (!queue.batches.is_empty()).then_some(now);
        Ok(records)
    }

    fn is_full(&self, records: &Records) -> bool {
        records.bytes() >= self.config.bytes || records.len() >= self.config.rows
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let held = *self.held.get_mut();
        self.budget.held.fetch_sub(held, Ordering::Relaxed);
        self.budget.partitions.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Budget, Inbox};
    use crate::config::BatchConfig;
    use crate::flow::records::tests::message;

    fn inbox(config: BatchConfig, budget: &Arc<Budget>) -> Inbox {
        Inbox::new(config, Arc::clone(budget))
    }

    fn config(bytes: usize, rows: usize, linger_ms: u64) -> BatchConfig {
        BatchConfig {
            bytes,
            rows,
            linger_ms,
            ..BatchConfig::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_closes_by_rows_or_by_linger() {
        let budget = Arc::new(Budget::new(1 << 20));
        let inbox = inbox(config(1 << 20, 2, 3_600_000), &budget);
        for offset in 0..5 {
            assert!(!inbox.push(&message(offset, None, Some(b"v"), &[])));
        }
        assert_eq!(inbox.next().await.len(), 2);
        assert_eq!(inbox.next().await.next_offset(), Some(4));
        // The fifth record waits for the linger time.
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(1), inbox.next());
        assert!(waiting.await.is_err());
    }

    #[tokio::test]
    async fn a_batch_closes_by_bytes() {
        let budget = Arc::new(Budget::new(1 << 20));
        let inbox = inbox(config(1_000, 5_000, 0), &budget);
        for offset in 0..3 {
            inbox.push(&message(offset, None, Some(&[0; 600]), &[]));
        }
        assert_eq!(inbox.next().await.len(), 2);
        assert_eq!(inbox.next().await.len(), 1);
    }

    #[tokio::test]
    async fn a_partition_is_full_at_its_share_until_batches_are_released() {
        let budget = Arc::new(Budget::new(400_000));
        let inbox = inbox(config(1 << 20, 5_000, 0), &budget);
        let other = super::tests::inbox(config(1 << 20, 5_000, 0), &budget);
        let mut full = false;
        let mut count = 0;
        while !full {
            full = inbox.push(&message(count, None, Some(&[0; 10_000]), &[]));
            count += 1;
        }
        // Two partitions: 200,000 bytes for each.
        assert_eq!(count, 20);
        assert!(!inbox.has_room());
        assert!(!other.push(&message(0, None, Some(b"v"), &[])));

        let records = inbox.next().await;
        assert!(!inbox.has_room(), "what is being written counts");
        inbox.release(records.bytes());
        assert!(inbox.has_room());
        drop((inbox, other));
        assert_eq!(budget.held(), 0);
    }
}
