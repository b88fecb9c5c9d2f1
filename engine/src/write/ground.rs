//! What all partitions of a lane stand on: the target, and which generation of it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex as StdMutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;
use tributary_runtime::{Error, Result};

use crate::cluster::TopicFacts;
use crate::mark::{Known, Mark, Note, now_ms};
use crate::target::Lane;

/// A lane's target. It may not be there yet: one is begun with the first record of a table, for a topic that a pattern matches may carry
/// none.
pub(crate) struct Ground<L> {
    pub(crate) lane: L,
    /// What it begins with, where it is not there.
    planned: Mark,
    /// Which one it is, once it is there.
    generation: Mutex<Option<String>>,
    /// The same, for those who commit.
    told: Arc<OnceLock<String>>,
    /// The partitions of which it says that they were begun.
    begun: StdMutex<BTreeSet<i32>>,
    /// How long a compacted topic keeps tombstones; `None` for one that is not compacted.
    pub(crate) tombstones_live: Option<Duration>,
}

impl<L: Lane> Ground<L> {
    pub(crate) fn new(lane: L, facts: &TopicFacts) -> Self {
        Self {
            lane,
            planned: Mark::new(facts.id.clone(), facts.partitions),
            generation: Mutex::new(None),
            told: Arc::default(),
            begun: StdMutex::default(),
            tombstones_live: facts.tombstones_live,
        }
    }

    /// Which generation the target is, if it is there.
    pub(crate) async fn generation(&self) -> Option<String> {
        self.generation.lock().await.clone()
    }

    /// Which generation the target is, told once it is there.
    pub(crate) fn told(&self) -> Arc<OnceLock<String>> {
        Arc::clone(&self.told)
    }

    /// The target's mark, read anew; of one that is not there, what it will begin with.
    ///
    /// # Errors
    /// The target's; [`Lost`] inside where it is another one than before, or cannot be gone on with.
    pub(crate) async fn mark(&self) -> Result<Result<Mark, Lost>> {
        let mut generation = self.generation.lock().await;
        Ok(match (self.lane.known().await?, &*generation) {
            (Known::Marked(mark), Some(before)) if mark.generation == *before => Ok(mark),
            (Known::Marked(mark), None) => {
                *generation = Some(mark.generation.clone());
                // Set once: from now on another one is taken for lost.
                let _ = self.told.set(mark.generation.clone());
                Ok(mark)
            }
            (Known::Nothing, None) => Ok(self.planned.clone()),
            (Known::Unfit { generation, reason }, _) => Err(Lost::Unfit { generation, reason }),
            _ => Err(Lost::IsAnother),
        })
    }

    /// Makes sure that the target is there and says that these partitions were begun; whether it still is the same one.
    ///
    /// # Errors
    /// The target's.
    pub(crate) async fn begin(&self, partitions: &[i32]) -> Result<bool> {
        let is_known = {
            let begun = self.begun();
            partitions.iter().all(|partition| begun.contains(partition))
        };
        if is_known {
            return Ok(true);
        }
        if self.generation().await.is_none() {
            self.lane.begin(&self.planned).await?;
        }
        let Ok(mark) = self.mark().await? else {
            return Ok(false);
        };
        let at_ms = now_ms();
        let missing = partitions
            .iter()
            .filter(|partition| !mark.caught_up_ms.contains_key(partition));
        let notes: Vec<_> = missing
            .map(|&partition| Note::CaughtUp { partition, at_ms })
            .collect();
        if !notes.is_empty() && !self.note(&notes).await? {
            return Ok(false);
        }
        self.begun().extend(partitions);
        Ok(true)
    }

    /// Adds notes to the mark; whether the target still is the same one.
    ///
    /// # Errors
    /// The target's.
    pub(crate) async fn note(&self, notes: &[Note]) -> Result<bool> {
        match self.generation().await {
            Some(generation) => self.lane.note(&generation, notes).await,
            None => Ok(true),
        }
    }

    /// Whether the target still is the same one.
    ///
    /// # Errors
    /// The target's.
    pub(crate) async fn is_the_same(&self) -> Result<bool> {
        Ok(self.mark().await?.is_ok())
    }

    /// Drops the target.
    ///
    /// # Errors
    /// The target's.
    pub(crate) async fn discard(&self, generation: Option<&str>) -> Result<()> {
        self.lane.discard(generation).await
    }

    fn begun(&self) -> std::sync::MutexGuard<'_, BTreeSet<i32>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a target cannot be gone on with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// It is another one than before, or gone.
    IsAnother,
    /// It is not whole.
    Unfit {
        generation: Option<String>,
        reason: String,
    },
}

/// What is said of a target that is another one than before.
pub(crate) fn is_another(topic: &str) -> Error {
    Error::retry_msg(format_args!(
        "the target of {topic} is another one than before, or gone"
    ))
}
