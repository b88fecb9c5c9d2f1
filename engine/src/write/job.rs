//! One write: records of some partitions of a lane, decoded, coalesced, written.

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tributary_runtime::{Error, Result};

use crate::flow::batch::{Batch, Source};
use crate::flow::coalesce::{Versions, coalesce};
use crate::flow::fault::RecordFault;
use crate::flow::plans::Plans;
use crate::flow::records::Records;
use crate::metrics::{BATCHES, CHANGES, COALESCED, DEAD_LETTERS, WRITE_SECONDS};
use crate::target::{Lane, Rejection, Target, WriteError, Written};
use crate::write::attempts::Attempts;
use crate::write::instance::Instance;

/// A partition's part of a job.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) source: Arc<Source>,
    pub(crate) versions: Versions,
    pub(crate) records: Records,
}

/// What is to be written. An interrupted job gives it back as far as it has come.
#[derive(Debug)]
pub(crate) enum Work {
    /// As received.
    Received(Vec<Share>),
    /// Coalesced: the batches, and beside each what became of its partition's versions and the records that cannot be applied.
    Coalesced(Vec<Batch>, Vec<(Versions, Vec<RecordFault>)>),
}

/// A job to run. It shares nothing with others of its lane: no partition is in two.
pub(crate) struct Job<T: Target> {
    pub(crate) instance: Arc<Instance<T>>,
    pub(crate) lane: Arc<T::Lane>,
    pub(crate) topic: Arc<str>,
    pub(crate) work: Work,
    pub(crate) plans: Plans,
    /// Ends all waits; a write under way is finished.
    pub(crate) cancel: CancellationToken,
}

/// What has become of a job.
pub(crate) struct Ended {
    pub(crate) work: Work,
    pub(crate) plans: Plans,
    pub(crate) outcome: Result<Written>,
}

impl Work {
    /// The partitions' numbers.
    pub(crate) fn partitions(&self) -> Vec<i32> {
        match self {
            Self::Received(parts) => parts
                .iter()
                .map(|part| part.source.partition.partition)
                .collect(),
            Self::Coalesced(batches, _) => batches
                .iter()
                .map(|batch| batch.partition().partition)
                .collect(),
        }
    }

    /// Bytes of the records.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Received(parts) => parts.iter().map(|part| part.records.bytes()).sum(),
            Self::Coalesced(batches, _) => batches.iter().map(Batch::bytes).sum(),
        }
    }

    /// Leaves partitions out.
    pub(crate) fn without(self, left: impl Fn(&Arc<Source>) -> bool) -> Self {
        match self {
            Self::Received(mut parts) => {
                parts.retain(|part| !left(&part.source));
                Self::Received(parts)
            }
            Self::Coalesced(batches, beside) => {
                let kept = batches.into_iter().zip(beside);
                let kept = kept.filter(|(batch, _)| !left(&batch.source));
                let (batches, beside) = kept.unzip();
                Self::Coalesced(batches, beside)
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Received(parts) => parts.is_empty(),
            Self::Coalesced(batches, _) => batches.is_empty(),
        }
    }
}

impl<T: Target> Job<T> {
    /// Runs to its end, which is an error that stops, or the interruption.
    pub(crate) async fn run(mut self) -> Ended {
        let outcome = self.work().await;
        Ended {
            work: self.work,
            plans: self.plans,
            outcome,
        }
    }

    async fn work(&mut self) -> Result<Written> {
        let (instance, topic, cancel) = (
            Arc::clone(&self.instance),
            Arc::clone(&self.topic),
            self.cancel.clone(),
        );
        let mut attempts = Attempts::new(&topic, &instance.status, &cancel);
        if let Work::Received(parts) = &mut self.work {
            for part in parts.iter() {
                let plans = &mut self.plans;
                while let Err(error) = attempts
                    .unless_cancelled(instance.schemas.complete(plans, &part.records))
                    .await?
                {
                    attempts.wait_after(error).await?;
                }
            }
            attempts.succeeded();
            self.work = coalesce_all(std::mem::take(parts), &self.plans)?;
        }
        let Work::Coalesced(batches, beside) = &mut self.work else {
            return Err(Error::stop_msg("records were not coalesced"));
        };
        for (batch, (_, faults)) in batches.iter().zip(beside) {
            while let Some(fault) = faults.first() {
                put_aside(&instance, &mut attempts, batch, fault).await?;
                faults.remove(0);
            }
        }
        write(&instance, &mut attempts, &*self.lane, batches).await
    }
}

fn coalesce_all(parts: Vec<Share>, plans: &Plans) -> Result<Work> {
    let (mut batches, mut beside) = (Vec::new(), Vec::new());
    for part in parts {
        let count = part.records.len();
        let mut versions = part.versions;
        let coalesced = coalesce(part.source, part.records, plans, &mut versions)?;
        let replaced = count - coalesced.batch.len() - coalesced.faults.len();
        metrics::counter!(COALESCED).increment(replaced as u64);
        batches.push(coalesced.batch);
        beside.push((versions, coalesced.faults));
    }
    Ok(Work::Coalesced(batches, beside))
}

/// Writes until it is done: refused records are put aside and the rest is written again.
async fn write<T: Target>(
    instance: &Instance<T>,
    attempts: &mut Attempts<'_>,
    lane: &T::Lane,
    batches: &mut [Batch],
) -> Result<Written> {
    loop {
        // A member that may have lost its partitions without knowing begins no write.
        attempts.unless_cancelled(instance.lease.held()).await?;
        let begun = Instant::now();
        match lane.write(batches).await {
            Ok(written) => {
                attempts.succeeded();
                metrics::histogram!(WRITE_SECONDS).record(begun.elapsed());
                metrics::counter!(BATCHES).increment(1);
                let changes: usize = batches.iter().map(Batch::len).sum();
                metrics::counter!(CHANGES).increment(changes as u64);
                return Ok(written);
            }
            Err(WriteError::Rejected(rejections)) => {
                put_rejected_aside(instance, attempts, batches, rejections).await?;
            }
            Err(WriteError::Target(error)) => {
                let doing = format!("write {}", doing(batches));
                attempts.wait_after(error.context(doing)).await?;
            }
        }
    }
}

/// The partitions, as a message names them.
fn doing(batches: &[Batch]) -> String {
    let Some((first, others)) = batches.split_first() else {
        return String::new();
    };
    let others: String = others
        .iter()
        .map(|batch| format!(",{}", batch.partition().partition))
        .collect();
    let first = first.partition();
    format!("{}[{}{others}]", first.topic, first.partition)
}

/// Each stays in its batch until its letter is in the log.
async fn put_rejected_aside<T: Target>(
    instance: &Instance<T>,
    attempts: &mut Attempts<'_>,
    batches: &mut [Batch],
    rejections: Vec<Rejection>,
) -> Result<()> {
    let mut known = 0;
    for refused in rejections {
        let batch = batches
            .iter_mut()
            .find(|batch| batch.partition().partition == refused.partition);
        let Some(batch) = batch.filter(|batch| batch.has(refused.offset)) else {
            continue;
        };
        let fault = RecordFault::rejected(refused.offset, &refused.reason);
        put_aside(instance, attempts, batch, &fault).await?;
        batch.remove(refused.offset);
        known += 1;
    }
    if known == 0 {
        return Err(Error::stop_msg(format_args!(
            "write {}: the target refuses records that are not among those written",
            doing(batches)
        ))
        .remedy("this is an error of the sink: report it"));
    }
    Ok(())
}

/// Puts a record aside.
///
/// # Errors
/// Stop, with the record's fault, where records are not put aside.
async fn put_aside<T: Target>(
    instance: &Instance<T>,
    attempts: &mut Attempts<'_>,
    batch: &Batch,
    fault: &RecordFault,
) -> Result<()> {
    let Some(letters) = &instance.letters else {
        return Err(fault.clone().into_error(batch.partition()));
    };
    let Some(record) = batch.records.find(fault.offset) else {
        return Ok(());
    };
    loop {
        let letter = letters.put(batch.partition(), record, fault);
        match attempts.unless_cancelled(letter).await? {
            Ok(()) => break,
            Err(error) => attempts.wait_after(error).await?,
        }
    }
    metrics::counter!(DEAD_LETTERS).increment(1);
    tracing::warn!(
        partition = %batch.partition(),
        offset = fault.offset,
        reason = fault.what,
        "a record is put aside"
    );
    Ok(())
}
