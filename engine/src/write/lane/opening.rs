//! A partition is opened: its target, its place in it, its place in the log.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;
use tributary_runtime::{Error, Result, ResultExt};

use crate::cluster::{Cluster, TopicFacts};
use crate::mark::{Known, Mark, Note, now_ms};
use crate::target::{Lane as _, Stand, Target};
use crate::write::attempts::Attempts;
use crate::write::hold::Hold;
use crate::write::instance::Instance;
use crate::write::judge::{Case, Judgement};

/// What all partitions of a lane stand on.
#[derive(Debug)]
pub(super) struct Ground<L> {
    pub(super) lane: Arc<L>,
    /// The target's, as long as the lane lives.
    pub(super) generation: String,
    pub(super) versions_are_offsets: bool,
    pub(super) tombstones_live: Option<Duration>,
}

/// Opens one partition.
pub(super) struct Opening<T: Target, C> {
    pub(super) instance: Arc<Instance<T>>,
    pub(super) cluster: C,
    pub(super) ground: Arc<OnceCell<Ground<T::Lane>>>,
    pub(super) hold: Arc<Hold>,
}

impl<T: Target, C: Cluster> Opening<T, C> {
    /// Tries until it works, an error stops, or the partition is to be let go. Returns the offset to begin with.
    pub(super) async fn run(self) -> (Arc<Hold>, Result<i64>) {
        let opened = self.open().await;
        (self.hold, opened)
    }

    async fn open(&self) -> Result<i64> {
        let partition = self.hold.partition();
        let who = partition.to_string();
        let mut attempts = Attempts::new(&who, &self.instance.status, &self.hold.leave);
        loop {
            let opened = attempts.unless_cancelled(self.attempt()).await?;
            match opened.doing(|| format!("open the target of {partition}")) {
                Ok(start) => {
                    attempts.succeeded();
                    return Ok(start);
                }
                Err(error) => attempts.wait_after(error).await?,
            }
        }
    }

    async fn attempt(&self) -> Result<i64> {
        let partition = self.hold.partition();
        let facts = self.facts().await?;
        let ground = self.ground.get_or_try_init(|| self.ground(&facts)).await?;
        let lane = &ground.lane;
        let mark = match lane.known().await? {
            Known::Marked(mark) if mark.generation == ground.generation => mark,
            _ => return Err(self.start_over("the target is another one than before")),
        };
        let stand = lane.take(partition.partition).await?;
        let stands_at = match stand {
            Stand::At(offset) => Some(offset),
            Stand::Nowhere => None,
            Stand::AsTheGroup => self.cluster.committed(partition).await?,
        };
        let (low, high) = self.cluster.log_of(partition).await?;
        let case = Case {
            partition,
            facts: &facts,
            mark: &mark,
            stands_at,
            low,
            high,
            now_ms: now_ms(),
        };
        match case.judge()? {
            Judgement::GoOn(start) => Ok(start),
            Judgement::Begin(start) => {
                if stand == Stand::AsTheGroup {
                    // Before the target says that it was begun: what an earlier target of the group has left would count.
                    self.cluster.commit(partition, start).await?;
                }
                let note = Note::CaughtUp {
                    partition: partition.partition,
                    at_ms: now_ms(),
                };
                if !lane.note(&ground.generation, &[note]).await? {
                    return Err(self.start_over("the target is another one than before"));
                }
                Ok(start)
            }
            Judgement::Unfit(reason) => {
                self.instance.unfit(&reason)?;
                lane.discard(Some(&ground.generation)).await?;
                Err(self.start_over(&reason))
            }
        }
    }

    async fn facts(&self) -> Result<TopicFacts> {
        let topic = &self.hold.partition().topic;
        let facts = self.cluster.topic(topic).await?;
        facts.ok_or_else(|| Error::retry_msg(format_args!("Kafka does not know topic '{topic}'")))
    }

    /// The target, made where it is missing.
    async fn ground(&self, facts: &TopicFacts) -> Result<Ground<T::Lane>> {
        let source = &self.hold.source;
        let topic = &source.partition.topic;
        let lane = self.instance.target.lane(topic, &source.table).await?;
        loop {
            match lane.known().await? {
                Known::Marked(mark) => {
                    self.instance.note_topic(topic, Some(mark.topic_id));
                    return Ok(Ground {
                        lane: Arc::new(lane),
                        generation: mark.generation,
                        versions_are_offsets: mark.versions_are_offsets,
                        tombstones_live: facts.tombstones_live,
                    });
                }
                Known::Nothing => {
                    let mark = Mark::new(facts.id.clone(), facts.partitions);
                    lane.begin(&mark).await?;
                }
                Known::Unfit { generation, reason } => {
                    self.instance.unfit(&reason)?;
                    lane.discard(generation.as_deref()).await?;
                }
            }
        }
    }

    fn start_over(&self, reason: &str) -> Error {
        self.instance.failure.start_over(reason);
        Error::interrupted(reason)
    }
}
