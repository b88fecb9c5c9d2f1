//! The writer of one partition: batch after batch, one at a time.

use std::sync::Arc;
use std::time::Instant;

use crate::destination::Destination;
use crate::destination::PartitionWriter;
use crate::destination::Progress;
use crate::destination::Rejection;
use crate::destination::WriteError;
use crate::flow::batch::Batch;
use crate::flow::coalesce::{Coalesced, History, Outcome, coalesce};
use crate::flow::fault::RecordFault;
use crate::flow::freshness::Freshness;
use crate::flow::plans::Plans;
use crate::flow::records::Records;
use crate::metrics::{BATCHES, CHANGES, COALESCED, DEAD_LETTERS, RETRIES, WRITE_SECONDS};
use crate::write::assignment::Assignment;
use crate::write::instance::Instance;
use tributary_runtime::retry::Backoff;
use tributary_runtime::{Error, Policy, Result};

/// Writes the batches of one assignment.
///
/// `durable <= accepted`: only `durable` reaches the group, by way of the assignment's position.
pub(crate) struct WriterTask<D: Destination> {
    assignment: Arc<Assignment>,
    instance: Arc<Instance<D>>,
    target: D::Writer,
    plans: Plans,
    history: History,
    freshness: Freshness,
    accepted: i64,
    durable: i64,
    /// When what is accepted and not durable has waited long enough.
    flush_at: Option<Instant>,
}

impl<D: Destination> WriterTask<D> {
    pub(crate) fn new(
        assignment: Arc<Assignment>,
        instance: Arc<Instance<D>>,
        target: D::Writer,
        start: i64,
    ) -> Self {
        Self {
            assignment,
            instance,
            target,
            plans: Plans::default(),
            history: History::default(),
            freshness: Freshness::default(),
            accepted: start,
            durable: start,
            flush_at: None,
        }
    }

    /// Writes until the partition is to be let go, then makes durable what was accepted.
    pub(crate) async fn run(mut self) -> Result<()> {
        match self.write_batches().await {
            Err(error) if error.is_interrupted() => self.leave().await,
            ended => ended,
        }
    }

    async fn write_batches(&mut self) -> Result<()> {
        let assignment = Arc::clone(&self.assignment);
        loop {
            let next = async {
                tokio::select! {
                    biased;
                    () = sleep_until(self.flush_at) => None,
                    records = assignment.inbox.next() => Some(records),
                }
            };
            match assignment.unless_drained(next).await? {
                None => self.flush().await?,
                Some(records) => {
                    let bytes = records.bytes();
                    let written = self.write_records(records).await;
                    assignment.inbox.release(bytes);
                    written?;
                }
            }
        }
    }

    async fn write_records(&mut self, records: Records) -> Result<()> {
        let mut backoff = Backoff::default();
        while let Err(error) = self
            .instance
            .schemas
            .complete(&mut self.plans, &records)
            .await
        {
            self.back_off(error, &mut backoff).await?;
        }
        let count = records.len();
        let coalesced = self.coalesce(records).await?;
        let replaced = count - coalesced.batch.len() - coalesced.faults.len();
        metrics::counter!(COALESCED).increment(replaced as u64);
        self.put_aside(&coalesced.batch, coalesced.faults).await?;
        self.write(coalesced.batch).await
    }

    async fn coalesce(&mut self, mut records: Records) -> Result<Coalesced> {
        let mut partitions = None;
        let mut backoff = Backoff::default();
        loop {
            let source = Arc::clone(&self.assignment.source);
            match coalesce(source, records, &self.plans, &mut self.history, partitions)? {
                Outcome::Coalesced(coalesced) => return Ok(coalesced),
                Outcome::NeedsPartitions(back) => records = back,
            }
            let topic = &self.assignment.partition().topic;
            match self.instance.partition_counts.of(topic).await {
                Ok(count) => partitions = Some(count),
                Err(error) => self.back_off(error, &mut backoff).await?,
            }
        }
    }

    async fn write(&mut self, mut batch: Batch) -> Result<()> {
        let mut backoff = Backoff::default();
        loop {
            match self.attempt(&batch).await? {
                Ok(progress) => {
                    self.take_over(&batch, progress);
                    return Ok(());
                }
                Err(WriteError::Rejected(rejections)) => {
                    self.put_rejected_aside(&mut batch, rejections).await?;
                }
                Err(WriteError::Target(error)) => {
                    let doing = format!("write {}", self.assignment.partition());
                    self.back_off(error.context(doing), &mut backoff).await?;
                }
            }
        }
    }

    /// One write, begun only with a permit and under the lease, and then not interrupted.
    async fn attempt(&mut self, batch: &Batch) -> Result<Result<Progress, WriteError>> {
        let instance = Arc::clone(&self.instance);
        let permit = self.assignment.unless_drained(instance.permits.acquire());
        let _permit = permit.await?.map_err(Error::stop)?;
        self.assignment
            .unless_drained(instance.lease.held())
            .await?;
        let begun = Instant::now();
        let written = self.target.write(batch).await;
        if written.is_ok() {
            metrics::histogram!(WRITE_SECONDS).record(begun.elapsed());
        }
        Ok(written)
    }

    fn take_over(&mut self, batch: &Batch, progress: Progress) {
        metrics::counter!(BATCHES).increment(1);
        metrics::counter!(CHANGES).increment(batch.len() as u64);
        self.accepted = self.accepted.max(batch.next_offset());
        self.freshness.accepted(batch);
        self.advance(progress);
    }

    fn advance(&mut self, progress: Progress) {
        self.instance
            .status
            .clear(&self.assignment.partition().to_string());
        self.durable = progress.durable.clamp(self.durable, self.accepted);
        self.assignment.position.advance(self.durable);
        self.freshness.durable(self.durable);
        if self.durable == self.accepted {
            self.flush_at = None;
        } else {
            let due = Instant::now() + self.instance.config.batch.flush_after();
            self.flush_at.get_or_insert(due);
        }
    }

    /// Makes durable what has waited long enough.
    async fn flush(&mut self) -> Result<()> {
        let mut backoff = Backoff::default();
        loop {
            let instance = Arc::clone(&self.instance);
            self.assignment
                .unless_drained(instance.lease.held())
                .await?;
            match self.target.flush().await {
                Ok(progress) => {
                    self.flush_at = None;
                    self.advance(progress);
                    return Ok(());
                }
                Err(error) => {
                    let doing = format!("flush {}", self.assignment.partition());
                    self.back_off(error.context(doing), &mut backoff).await?;
                }
            }
        }
    }

    /// The last flush. If it fails for now, the next holder writes the rest again.
    async fn leave(&mut self) -> Result<()> {
        if !self.instance.lease.is_held() {
            return Ok(());
        }
        let partition = self.assignment.partition();
        match self.target.flush().await {
            Ok(progress) => {
                self.advance(progress);
                Ok(())
            }
            Err(error) if error.policy() == Policy::Retry => {
                metrics::counter!(RETRIES).increment(1);
                tracing::warn!(%partition, %error, "is let go with accepted records that are not durable");
                Ok(())
            }
            Err(error) => Err(error.context(format!("flush {partition}"))),
        }
    }

    async fn put_rejected_aside(
        &mut self,
        batch: &mut Batch,
        rejections: Vec<Rejection>,
    ) -> Result<()> {
        let offsets: Vec<_> = rejections
            .iter()
            .map(|rejection| rejection.offset)
            .collect();
        if batch.remove(&offsets) == 0 {
            return Err(Error::stop_msg(format_args!(
                "write {}: the target refuses records that are not in the batch",
                batch.partition()
            ))
            .remedy("this is an error of the sink: report it"));
        }
        let faults = rejections
            .iter()
            .map(|rejection| RecordFault::rejected(rejection.offset, &rejection.reason))
            .collect();
        self.put_aside(batch, faults).await
    }

    /// Puts records aside, or stops with the first.
    async fn put_aside(&mut self, batch: &Batch, faults: Vec<RecordFault>) -> Result<()> {
        let instance = Arc::clone(&self.instance);
        for fault in faults {
            let Some(letters) = &instance.letters else {
                return Err(fault.into_error(batch.partition()));
            };
            let Some(record) = batch.records.find(fault.offset) else {
                continue;
            };
            let mut backoff = Backoff::default();
            loop {
                let letter = letters.put(batch.partition(), record, &fault);
                match self.assignment.unless_drained(letter).await? {
                    Ok(()) => break,
                    Err(error) => self.back_off(error, &mut backoff).await?,
                }
            }
            metrics::counter!(DEAD_LETTERS).increment(1);
            tracing::warn!(
                partition = %batch.partition(),
                offset = fault.offset,
                reason = fault.what,
                "put a record aside"
            );
        }
        Ok(())
    }

    async fn back_off(&mut self, error: Error, backoff: &mut Backoff) -> Result<()> {
        self.assignment
            .back_off(error, &self.instance.status, backoff)
            .await
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
