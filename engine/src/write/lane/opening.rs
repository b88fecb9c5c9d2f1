//! A partition is opened: its target, its place in it, its place in the log.

use std::sync::Arc;

use tokio::sync::OnceCell;
use tributary_runtime::{Error, Result, ResultExt};

use crate::cluster::{Cluster, TopicFacts};
use crate::outside::now_ms;
use crate::status::On;
use crate::target::{Lane as _, Stand, Target};
use crate::write::attempts::Attempts;
use crate::write::ground::{Ground, Lost};
use crate::write::hold::Hold;
use crate::write::instance::Instance;
use crate::write::judge::{Case, Judgement};

use super::replaying::Replaying;

/// Opens one partition.
pub(super) struct Opening<T: Target, C> {
    pub(super) instance: Arc<Instance<T>>,
    pub(super) cluster: C,
    pub(super) ground: Arc<OnceCell<Arc<Ground<T::Lane>>>>,
    pub(super) hold: Arc<Hold>,
    pub(super) replay: Option<Replaying>,
}

impl<T: Target, C: Cluster> Opening<T, C> {
    /// Tries until it works, an error stops, or the partition is to be let go; then replays letters, if that is asked for. Returns the
    /// offset to begin with.
    pub(super) async fn run(mut self) -> (Arc<Hold>, Result<i64>) {
        let opened = self.open().await;
        if let (Some(replay), Ok(start), Some(ground)) =
            (self.replay.take(), &opened, self.ground.get())
        {
            let (instance, cluster) = (&self.instance, self.cluster.clone());
            Box::pin(replay.run(instance, cluster, ground, &self.hold, *start)).await;
        }
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
                Err(error) => attempts.wait_after(On::Opening, error).await?,
            }
        }
    }

    async fn attempt(&self) -> Result<i64> {
        let partition = self.hold.partition();
        let facts = self.cluster.topic(&partition.topic).await?;
        let ground = self.ground.get_or_try_init(|| self.ground(&facts)).await?;
        let mark = match ground.mark().await? {
            Ok(mark) => mark,
            Err(Lost::IsAnother) => {
                return Err(self.start_over("its target is another one than before"));
            }
            Err(Lost::Unfit { generation, reason }) => {
                return Err(self.discard(ground, generation.as_deref(), &reason).await?);
            }
        };
        self.hold.stand_on(Arc::clone(ground.generation()));
        // A member that may have lost its partitions without knowing does not take them from who has them.
        self.instance.lease.held().await;
        let stand = ground.lane.take(partition.partition).await?;
        let stands_at = match stand {
            Stand::At(offset) => Some(offset),
            Stand::Nowhere => None,
            Stand::AsTheGroup => {
                let committed = self.cluster.committed(partition).await?;
                committed.and_then(|committed| committed.of(&mark.generation))
            }
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
                if stand == Stand::AsTheGroup && stands_at != Some(start) {
                    // Before the target says that it was begun: what an earlier target of the group has left would count.
                    self.cluster.commit(partition, start).await?;
                }
                Ok(start)
            }
            Judgement::Unfit(reason) => Err(self
                .discard(ground, Some(&mark.generation), &reason)
                .await?),
        }
    }

    async fn ground(&self, facts: &TopicFacts) -> Result<Arc<Ground<T::Lane>>> {
        let source = &self.hold.source;
        let topic = &source.partition.topic;
        let lane = self.instance.target.lane(topic, &source.table).await?;
        self.instance.note_topic(topic, Some(facts.id.clone()));
        Ok(Arc::new(Ground::new(lane, facts)))
    }

    /// Drops a target that does not fit its log, if that is asked for. Returns what interrupts the opening then: all partitions begin anew.
    async fn discard(
        &self,
        ground: &Ground<T::Lane>,
        generation: Option<&str>,
        reason: &str,
    ) -> Result<Error> {
        self.instance.unfit(reason)?;
        ground.lane.discard(generation).await?;
        Ok(self.start_over(reason))
    }

    fn start_over(&self, reason: &str) -> Error {
        let topic = &self.hold.partition().topic;
        self.instance
            .failure
            .start_over(&format!("{topic}: {reason}"));
        Error::interrupted(reason)
    }
}
