//! Letters are replayed: of each one's key, what the log has newest up to where the target stands is written.
//!
//! The partition is open by then and nothing else of it is under way, so nothing newer of a key is in the target: what is written
//! cannot be older than what a row, or its deletion, was before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::Notify;
use tributary_runtime::{Error, Result, ResultExt};

use crate::cluster::Cluster;
use crate::figures::Figures;
use crate::flow::budget::Budget;
use crate::flow::coalesce::{History, emptied_at, emptying};
use crate::flow::plans::Plans;
use crate::flow::versions::Versions;
use crate::mark::Note;
use crate::status::On;
use crate::target::{Lane, Target, Written};
use crate::topics::TopicPartition;
use crate::write::attempts::Attempts;
use crate::write::dead_letter::Search;
use crate::write::ground::{Ground, is_another};
use crate::write::hold::Hold;
use crate::write::instance::Instance;
use crate::write::job::{Job, Turn, Turns};
use crate::write::lettered::Pass;
use crate::write::replay::{Counts, Fate, Ticket, room};
use crate::write::work::{Share, Work};

/// So many letters that the log lacks are named.
const LOST_NAMED: usize = 10;

/// A replay, and what it needs of its lane.
pub(super) struct Replaying {
    pub(super) ticket: Ticket,
    pub(super) figures: Arc<Figures>,
    pub(super) failed: Arc<Notify>,
    pub(super) turns: Turns,
}

/// What one partition's replay works with.
struct Desk<'a, T: Target, C> {
    instance: &'a Arc<Instance<T>>,
    cluster: C,
    ground: &'a Arc<Ground<T::Lane>>,
    hold: &'a Hold,
    /// The target has all below.
    start: i64,
    figures: Arc<Figures>,
    failed: Arc<Notify>,
    turns: Turns,
    plans: Plans,
    counts: Counts,
    /// Where letters without a key were whose records the log has no more.
    lost: Vec<i64>,
    /// A letter that the target takes no replay of.
    unswept: Option<Error>,
}

impl Replaying {
    /// Replays, and says what has become of it. Whatever that is, the partition begins where it stands.
    pub(super) async fn run<T: Target>(
        self,
        instance: &Arc<Instance<T>>,
        cluster: impl Cluster,
        ground: &Arc<Ground<T::Lane>>,
        hold: &Hold,
        start: i64,
    ) {
        let mut desk = Desk {
            instance,
            cluster,
            ground,
            hold,
            start,
            figures: self.figures,
            failed: self.failed,
            turns: self.turns,
            plans: Plans::default(),
            counts: Counts::default(),
            lost: Vec::new(),
            unswept: None,
        };
        let replayed = desk.replay(&self.ticket).await;
        let (partition, counts) = (hold.partition(), desk.counts);
        match replayed {
            Ok(()) => {
                tracing::info!(%partition, ?counts, "letters are replayed");
                let lost = lost(partition, &desk.lost);
                self.ticket.end(Fate::Replayed, lost, counts);
            }
            Err(error) if error.is_interrupted() => {
                self.ticket.end(Fate::Interrupted, None, counts);
            }
            Err(error) => {
                tracing::warn!(%partition, %error, "could not replay letters");
                let reason = Some(error.to_string());
                self.ticket.end(Fate::Failed, reason, counts);
            }
        }
    }
}

impl<T: Target, C: Cluster> Desk<'_, T, C> {
    async fn replay(&mut self, ticket: &Ticket) -> Result<()> {
        let letters = self.instance.letters.as_deref().ok_or_else(|| {
            Error::stop_msg("a letter that is still refused has nowhere to go")
                .remedy("set on_error = \"dead-letter\"")
        })?;
        let batch = self.instance.config.batch;
        let room = Room::take(&self.instance.budget, room(batch));
        let mut order = ticket.order.clone();
        let topic = &self.hold.partition().topic;
        let facts = self.until_done(On::Kafka, || self.cluster.topic(topic));
        let takes_keyless = facts.await?.partitions == 1;
        #[cfg(test)]
        if crate::outside::given::has(crate::outside::given::Flaw::EarlyReplayed) {
            letters.note_replayed(&ticket.order).await?;
        }
        while !order.letters.is_empty() {
            let search = Search {
                order: order.clone(),
                until: self.start,
                takes_keyless,
                bytes_max: room.bytes,
                keys_max: batch.rows,
                cancel: self.hold.leave.clone(),
            };
            let pass = self.until_done(On::Kafka, || letters.gather(search.clone()));
            let pass = pass.await?;
            order.letters.clone_from(&pass.rest);
            self.write(pass).await?;
        }
        if let Some(error) = self.unswept.take() {
            return Err(error);
        }
        self.until_done(On::DeadLetters, || letters.note_replayed(&ticket.order))
            .await
    }

    /// Writes what a pass has found.
    async fn write(&mut self, mut pass: Pass) -> Result<()> {
        let mark = self.until_done(On::Target, || self.ground.mark()).await?;
        let partition = self.hold.partition();
        let mark = mark.map_err(|_| is_another(&partition.topic))?;
        let versions = match () {
            () if pass.is_versioned => Versions::Header,
            () if mark.versions_are_offsets => Versions::Offset,
            () if pass.has_versions => Versions::Header,
            () => Versions::Open,
        };
        if pass.is_mixed && versions != Versions::Header {
            return Err(Error::stop_msg(format_args!(
                "{partition} has records under keys of more than one schema, so what is newest of a row may stand under another key than \
                 its letter's"
            ))
            .remedy("build the target again, under a new `name`"));
        }
        let completed = self.complete(&pass).await?;
        let emptied_at = emptied_at(&pass.keyless, &completed);
        self.lost.append(&mut pass.lost);
        let (records, are_letters) = pass.records(emptied_at);
        if records.len() > 0 {
            let share = Share {
                source: Arc::clone(&self.hold.source),
                history: History::with(versions),
                records,
                is_replay: true,
            };
            self.run(share, &are_letters, &mut pass.counts).await?;
        }
        self.counts += pass.counts;
        Ok(())
    }

    /// What is needed to read the records without a key.
    async fn complete(&self, pass: &Pass) -> Result<Plans> {
        let schemas = &self.instance.schemas;
        self.until_done(On::Registry, || async {
            let mut plans = Plans::default();
            schemas.complete(&mut plans, &pass.keyless).await?;
            Ok(plans)
        })
        .await
    }

    /// Writes records as those are that have just come, but for where they stand.
    async fn run(
        &mut self,
        share: Share,
        are_letters: &BTreeMap<i64, bool>,
        counts: &mut Counts,
    ) -> Result<()> {
        let job = Job {
            instance: Arc::clone(self.instance),
            cluster: self.cluster.clone(),
            ground: Arc::clone(self.ground),
            topic: Arc::from(self.hold.partition().topic.as_str()),
            figures: Arc::clone(&self.figures),
            work: Work::new(vec![share]),
            plans: std::mem::take(&mut self.plans),
            cancel: self.hold.leave.clone(),
            failed: Arc::clone(&self.failed),
            turn: Turn::Alone(Arc::clone(&self.turns)),
        };
        let ended = Box::pin(job.run()).await;
        self.plans = ended.plans;
        let written = ended.outcome?;
        if written == Written::Accepted {
            let alone = Turn::Alone(Arc::clone(&self.turns));
            self.until_done(On::Target, || async {
                let _taking = alone.take().await;
                self.instance.lease.held().await;
                self.ground.lane.settle().await
            })
            .await?;
        }
        for (batch, history) in ended.work.written() {
            // Where the batch empties nothing, what would is put aside again.
            let emptying = match batch.below() {
                Some(_) => emptying(&batch.records, &self.plans),
                None => BTreeSet::new(),
            };
            if let (Written::Unswept, Some(offset)) = (written, emptying.first()) {
                let error = still_to_sweep(batch.partition(), *offset);
                self.unswept.get_or_insert(error);
                continue;
            }
            for (&offset, &is_letter) in are_letters {
                let is_written = batch.has(offset) || emptying.contains(&offset);
                let count = match (is_written, is_letter) {
                    (false, _) => &mut counts.put_aside,
                    (true, true) => &mut counts.applied,
                    (true, false) => &mut counts.superseded,
                };
                *count += 1;
            }
            if history.versions_are_offsets() {
                self.until_done(On::Target, || self.ground.note(&[Note::VersionsAreOffsets]))
                    .await?;
            }
        }
        Ok(())
    }

    /// Tries until it works, an error stops, or the partition is to be let go.
    async fn until_done<A, F: Future<Output = Result<A>>>(
        &self,
        on: On,
        mut attempt: impl FnMut() -> F,
    ) -> Result<A> {
        let who = self.hold.partition().to_string();
        let mut attempts = Attempts::new(&who, &self.instance.status, &self.hold.leave);
        loop {
            let done = attempts.unless_cancelled(attempt()).await?;
            match done.doing(|| format!("replay letters of {who}")) {
                Ok(done) => {
                    attempts.succeeded();
                    return Ok(done);
                }
                Err(error) => attempts.wait_after(on, error).await?,
            }
        }
    }
}

/// A sweep belongs to the flow, in front of whose end the offset stays.
fn still_to_sweep(partition: &TopicPartition, offset: i64) -> Error {
    Error::stop_msg(format_args!(
        "{partition} offset {offset}: the letter says that the table was emptied, and a replay deletes nothing from this target"
    ))
    .remedy("build the target again: see Replaying")
}

/// What is to be said of letters without a key that have no record in the log any more.
fn lost(partition: &TopicPartition, offsets: &[i64]) -> Option<String> {
    let named = offsets.iter().take(LOST_NAMED).map(ToString::to_string);
    let named: Vec<_> = named.collect();
    let others = match offsets.len().saturating_sub(LOST_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!named.is_empty()).then(|| {
        format!(
            "{partition} offset {}{others}: the log has this record of a row without a key no more, so nothing tells whether the table was \
             emptied since; insert the row again in the source, should it be there: the dead-letter topic has it",
            named.join(", ")
        )
    })
}

/// What a replay may hold, taken from the budget of all as long as this lives.
struct Room<'a> {
    budget: &'a Budget,
    bytes: usize,
}

impl<'a> Room<'a> {
    fn take(budget: &'a Budget, bytes: usize) -> Self {
        budget.take(bytes);
        Self { budget, bytes }
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}
