//! One write: records of some partitions of a lane, decoded, coalesced, written.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tributary_runtime::kafka::SESSION_TIMEOUT_MS;
use tributary_runtime::{Error, Result};

use crate::cluster::Cluster;
use crate::figures::Figures;
use crate::flow::batch::Batch;
use crate::flow::coalesce::{Coalesced, Outcome, coalesce};
use crate::flow::fault::RecordFault;
use crate::flow::plans::Plans;
use crate::metrics::BATCHES;
use crate::status::On;
use crate::target::{Lane, Rejection, Target, WriteError, Written};
use crate::write::attempts::Attempts;
use crate::write::ground::{Ground, is_another};
use crate::write::instance::Instance;
use crate::write::work::{Beside, Share, Work};

/// A job to run. It shares nothing with others of its lane: no partition is in two.
pub(crate) struct Job<T: Target, C> {
    pub(crate) instance: Arc<Instance<T>>,
    pub(crate) cluster: C,
    pub(crate) ground: Arc<Ground<T::Lane>>,
    pub(crate) topic: Arc<str>,
    pub(crate) figures: Arc<Figures>,
    pub(crate) work: Work,
    pub(crate) plans: Plans,
    /// Ends all waits; a write under way is finished.
    pub(crate) cancel: CancellationToken,
    /// Told of writes that have failed: the target may be another one than before, or gone.
    pub(crate) failed: Arc<Notify>,
    pub(crate) turn: Turn,
}

/// When a job of a lane may write.
#[derive(Debug, Clone)]
pub(crate) enum Turn {
    /// With those that the lane has under way.
    Together(Turns),
    /// While no other one writes.
    Alone(Turns),
}

/// Who of a lane writes.
pub(crate) type Turns = Arc<RwLock<()>>;

/// It is somebody's turn.
pub(crate) enum Taking {
    Together(#[expect(dead_code, reason = "it is held")] OwnedRwLockReadGuard<()>),
    Alone(#[expect(dead_code, reason = "it is held")] OwnedRwLockWriteGuard<()>),
}

impl Turn {
    pub(crate) async fn take(&self) -> Taking {
        match self {
            Self::Together(turns) => Taking::Together(Arc::clone(turns).read_owned().await),
            Self::Alone(turns) => Taking::Alone(Arc::clone(turns).write_owned().await),
        }
    }
}

/// What has become of a job.
pub(crate) struct Ended {
    pub(crate) work: Work,
    pub(crate) plans: Plans,
    pub(crate) outcome: Result<Written>,
}

impl<T: Target, C: Cluster> Job<T, C> {
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
        while let Some(share) = self.work.received.last() {
            let plans = &mut self.plans;
            let completing = instance.schemas.complete(plans, &share.records);
            match attempts.unless_cancelled(completing).await? {
                Ok(()) => self.coalesce(&mut attempts).await?,
                Err(error) => attempts.wait_after(On::Registry, error).await?,
            }
        }
        attempts.succeeded();
        let Work {
            batches, beside, ..
        } = &mut self.work;
        for (batch, Beside { faults, .. }) in batches.iter().zip(&mut *beside) {
            while let Some(fault) = faults.first() {
                put_aside(&instance, &self.figures, &mut attempts, batch, fault).await?;
                faults.remove(0);
            }
        }
        let key_schemas = beside.iter();
        let key_schemas = key_schemas.flat_map(|beside| beside.history.key_schemas());
        let onto = Onto {
            ground: &self.ground,
            failed: &self.failed,
            turn: &self.turn,
        };
        write(
            &instance,
            &self.figures,
            &mut attempts,
            onto,
            &key_schemas.collect(),
            batches,
        )
        .await
    }

    /// Coalesces what was received of one partition.
    async fn coalesce(&mut self, attempts: &mut Attempts<'_>) -> Result<()> {
        let mut partitions = None;
        while let Some(Share {
            source,
            mut history,
            records,
            is_replay,
        }) = self.work.received.pop()
        {
            let count = records.len();
            let coalesced = coalesce(
                Arc::clone(&source),
                records,
                &self.plans,
                &mut history,
                partitions,
            );
            match coalesced? {
                Outcome::Coalesced(Coalesced { mut batch, faults }) => {
                    batch.is_replay = is_replay;
                    let replaced = count - batch.len() - faults.len();
                    self.figures.coalesced(replaced);
                    self.work.batches.push(batch);
                    self.work.beside.push(Beside { history, faults });
                    return Ok(());
                }
                Outcome::NeedsPartitions(records) => self.work.received.push(Share {
                    source,
                    history,
                    records,
                    is_replay,
                }),
            }
            // Asked each time that it matters: they may become more.
            let asking = self.cluster.topic(&self.topic);
            match attempts.unless_cancelled(asking).await? {
                Ok(facts) => partitions = Some(facts.partitions),
                Err(error) => attempts.wait_after(On::Kafka, error).await?,
            }
        }
        Ok(())
    }
}

/// How long another instance may seem to have one of our partitions. By then the group has told us that we have lost it; or else the
/// other one has, and does not write.
const OVERTAKEN_PATIENCE: Duration = Duration::from_millis(SESSION_TIMEOUT_MS as u64);

/// Where a job writes.
#[derive(Clone, Copy)]
struct Onto<'a, L> {
    ground: &'a Ground<L>,
    failed: &'a Notify,
    turn: &'a Turn,
}

/// Writes until it is done: refused records are put aside and the rest is written again.
async fn write<T: Target>(
    instance: &Instance<T>,
    figures: &Arc<Figures>,
    attempts: &mut Attempts<'_>,
    onto: Onto<'_, T::Lane>,
    key_schemas: &BTreeSet<u32>,
    batches: &mut [Batch],
) -> Result<Written> {
    let Onto {
        ground,
        failed,
        turn,
    } = onto;
    let mut overtaken_since = None;
    loop {
        let taking = attempts.unless_cancelled(turn.take()).await?;
        // A member that may have lost its partitions without knowing begins no target and no write. Asked twice: to begin a target
        // takes its time.
        attempts.unless_cancelled(instance.lease.held()).await?;
        let has_target = begin(ground, key_schemas, batches).await;
        attempts.unless_cancelled(instance.lease.held()).await?;
        let writing = figures.write();
        let written = match has_target {
            Ok(true) => ground.lane.write(batches).await,
            Ok(false) => Ok(Written::Durable),
            Err(error) => Err(error.into()),
        };
        drop(taking);
        match written {
            Ok(written) => {
                attempts.succeeded();
                metrics::counter!(BATCHES).increment(1);
                writing.accepted(batches.iter().map(Batch::len).sum());
                return Ok(written);
            }
            Err(WriteError::Rejected(rejections)) => {
                drop(writing);
                put_rejected_aside(instance, figures, attempts, batches, rejections).await?;
            }
            Err(WriteError::TakenOver(error)) => {
                let since = *overtaken_since.get_or_insert_with(Instant::now);
                drop(writing);
                if since.elapsed() >= OVERTAKEN_PATIENCE {
                    instance.failure.start_over(&error.to_string());
                }
                let doing = format!("write {}", doing(batches));
                attempts
                    .wait_after(On::Target, error.context(doing))
                    .await?;
            }
            Err(WriteError::Target(error)) => {
                drop(writing);
                failed.notify_one();
                let doing = format!("write {}", doing(batches));
                attempts
                    .wait_after(On::Target, error.context(doing))
                    .await?;
            }
        }
    }
}

/// Begins the target with the first record of a table, where it is not there yet; whether there is one. What carries none needs no
/// target, and none is made for it.
async fn begin<L: Lane>(
    ground: &Ground<L>,
    key_schemas: &BTreeSet<u32>,
    batches: &[Batch],
) -> Result<bool> {
    let is_there = ground.generation().get().is_some();
    let carries_rows = |batch: &Batch| !batch.is_empty() || batch.below().is_some();
    let partitions: Vec<_> = batches
        .iter()
        .filter(|batch| is_there || carries_rows(batch))
        .map(|batch| batch.partition().partition)
        .collect();
    if partitions.is_empty() {
        return Ok(false);
    }
    let topic = batches.first().map_or("", |batch| &batch.partition().topic);
    if !ground.begin(&partitions).await? || !ground.admit_keys(topic, key_schemas).await? {
        return Err(is_another(topic));
    }
    Ok(true)
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
    figures: &Figures,
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
        put_aside(instance, figures, attempts, batch, &fault).await?;
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
    figures: &Figures,
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
            Err(error) => attempts.wait_after(On::DeadLetters, error).await?,
        }
    }
    figures.diverted();
    tracing::warn!(
        partition = %batch.partition(),
        offset = fault.offset,
        reason = fault.what,
        "a record is put aside"
    );
    Ok(())
}
