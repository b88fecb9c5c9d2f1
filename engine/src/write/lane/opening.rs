//! A partition is opened: its lane, its place in the target, its place in the log.

use std::sync::Arc;

use tokio::sync::OnceCell;
use tributary_runtime::{Result, ResultExt};

use crate::cluster::Cluster;
use crate::target::{Lane as _, Target};
use crate::write::attempts::Attempts;
use crate::write::hold::Hold;
use crate::write::instance::Instance;
use crate::write::start;

/// Opens one partition.
pub(super) struct Opening<T: Target, C> {
    pub(super) instance: Arc<Instance<T>>,
    pub(super) cluster: C,
    pub(super) lane: Arc<OnceCell<Arc<T::Lane>>>,
    pub(super) hold: Arc<Hold>,
}

impl<T: Target, C: Cluster> Opening<T, C> {
    /// Tries until it works, an error stops, or the partition is to be let go. Returns the offset to begin with.
    pub(super) async fn run(self) -> (Arc<Hold>, Result<i64>) {
        let opened = self.open().await;
        (self.hold, opened)
    }

    async fn open(&self) -> Result<i64> {
        let who = self.hold.partition().to_string();
        let mut attempts = Attempts::new(&who, &self.instance.status, &self.hold.leave);
        loop {
            match attempts.unless_cancelled(self.attempt()).await? {
                Ok(start) => {
                    attempts.succeeded();
                    return Ok(start);
                }
                Err(error) => attempts.wait_after(error).await?,
            }
        }
    }

    async fn attempt(&self) -> Result<i64> {
        let source = &self.hold.source;
        let partition = &source.partition;
        let doing = || format!("open the target of {partition}");
        let lane = self.lane.get_or_try_init(async || {
            let target = &self.instance.target;
            let lane = target.lane(&partition.topic, &source.table).await;
            lane.map(Arc::new)
        });
        let lane = lane.await.doing(doing)?;
        let start = lane.take(partition.partition).await.doing(doing)?;
        start::find(&self.cluster, partition, start).await
    }
}
