//! What all partitions of a lane stand on: the target, and which generation of it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use tributary_runtime::{Error, Result};

use crate::cluster::TopicFacts;
use crate::flow::form::RowForm;
use crate::lock::lock;
use crate::mark::{Known, Mark, Note};
use crate::outside::now_ms;
use crate::target::Lane;
use crate::write::judge;

/// A lane's target. It may not be there yet: one is begun once the registry has the schemas of a table's changes for the topic, or with
/// the first record of a table, for a topic that a pattern matches may carry none.
pub(crate) struct Ground<L> {
    pub(crate) lane: L,
    /// The topic's, as the mark has them.
    topic_id: Option<String>,
    partitions: i32,
    /// Which one it is, once it is there. Whoever commits offsets knows it by this, too.
    generation: Arc<OnceLock<String>>,
    /// The partitions of which it says that they were begun.
    begun: Mutex<BTreeSet<i32>>,
    /// The schemas of keys that it says its rows have.
    key_schemas: Mutex<BTreeSet<u32>>,
    /// How long a compacted topic keeps tombstones; `None` for one that is not compacted.
    pub(crate) tombstones_live: Option<Duration>,
}

impl<L: Lane> Ground<L> {
    pub(crate) fn new(lane: L, facts: &TopicFacts) -> Self {
        Self {
            lane,
            topic_id: facts.id.clone(),
            partitions: facts.partitions,
            generation: Arc::default(),
            begun: Mutex::default(),
            key_schemas: Mutex::default(),
            tombstones_live: facts.tombstones_live,
        }
    }

    /// Which generation the target is, set once it is there.
    pub(crate) const fn generation(&self) -> &Arc<OnceLock<String>> {
        &self.generation
    }

    /// What the target begins with, where it is not there: another generation with each attempt. One of which no answer has come may
    /// have begun a target, which others have written and somebody has dropped: what they say of that is not true of the next one.
    fn plan(&self) -> Mark {
        Mark::new(self.topic_id.clone(), self.partitions)
    }

    /// The target's mark, read anew; of one that is not there, what it will begin with.
    ///
    /// # Errors
    /// The target's; [`Lost`] inside where it is another one than before, or cannot be gone on with.
    pub(crate) async fn mark(&self) -> Result<Result<Mark, Lost>> {
        // Asked before: what is begun while the target answers is no other one.
        let was_there = self.generation.get().is_some();
        Ok(match self.lane.known().await? {
            Known::Marked(mark) => {
                let ours = self.generation.get_or_init(|| mark.generation.clone());
                if mark.generation == *ours {
                    self.begun().extend(mark.caught_up_ms.keys());
                    lock(&self.key_schemas).extend(&mark.key_schemas);
                    Ok(mark)
                } else {
                    Err(Lost::IsAnother)
                }
            }
            Known::Nothing if was_there => Err(Lost::IsAnother),
            Known::Nothing => Ok(self.plan()),
            Known::Unfit { generation, reason } => Err(Lost::Unfit { generation, reason }),
        })
    }

    /// Makes the target in the form that its rows will have. It says of no partition that it was begun: nothing was read of any, so
    /// each still begins at the log's start.
    ///
    /// # Errors
    /// The target's.
    pub(crate) async fn found(&self, form: &RowForm) -> Result<()> {
        self.lane.found(&self.plan(), form).await?;
        self.mark().await.map(drop)
    }

    /// Whether the target says that this partition was begun, as far as is known.
    pub(crate) fn has_begun(&self, partition: i32) -> bool {
        self.begun().contains(&partition)
    }

    /// Whether nothing was written to the target, as far as is known.
    pub(crate) fn is_untouched(&self) -> bool {
        self.begun().is_empty()
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
        if self.generation.get().is_none() {
            self.lane.begin(&self.plan()).await?;
        }
        let Ok(mark) = self.mark().await? else {
            return Ok(false);
        };
        if self.generation.get().is_none() {
            // Gone again already: it is begun at the next attempt.
            return Ok(false);
        }
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

    /// Makes sure that rows whose versions are offsets have keys of one schema, where the topic has more than one partition, and that
    /// the target says of which; whether it still is the same one. It is begun.
    ///
    /// # Errors
    /// Stop: they have more. Otherwise the target's.
    pub(crate) async fn admit_keys(&self, topic: &str, ids: &BTreeSet<u32>) -> Result<bool> {
        if self.partitions <= 1 || ids.is_subset(&lock(&self.key_schemas)) {
            return Ok(true);
        }
        let mut all = lock(&self.key_schemas).clone();
        all.extend(ids);
        judge::check_key_schemas(topic, &all)?;
        let notes: Vec<_> = ids.iter().map(|&id| Note::KeySchema(id)).collect();
        // Read again, since another instance may have noted another one: one of the two sees both.
        if !self.note(&notes).await? || self.mark().await?.is_err() {
            return Ok(false);
        }
        judge::check_key_schemas(topic, &lock(&self.key_schemas))?;
        Ok(true)
    }

    /// Adds notes to the mark; whether the target still is the same one.
    ///
    /// # Errors
    /// The target's.
    pub(crate) async fn note(&self, notes: &[Note]) -> Result<bool> {
        match self.generation.get() {
            Some(generation) => self.lane.note(generation, notes).await,
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

    fn begun(&self) -> MutexGuard<'_, BTreeSet<i32>> {
        lock(&self.begun)
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tributary_runtime::Error;

    use super::{Ground, Lost};
    use crate::cluster::TopicFacts;
    use crate::flow::batch::Batch;
    use crate::mark::{Known, Mark, Note};
    use crate::target::{Lane, Stand, WriteError, Written};

    /// A target that somebody else deletes.
    #[derive(Default)]
    struct Fragile {
        mark: Mutex<Option<Mark>>,
        /// So often, right behind its beginning.
        deletions: Mutex<u32>,
    }

    impl Lane for Fragile {
        fn width(&self) -> usize {
            1
        }

        async fn known(&self) -> Result<Known, Error> {
            let mark = self.mark.lock().unwrap().clone();
            Ok(mark.map_or(Known::Nothing, Known::Marked))
        }

        async fn begin(&self, mark: &Mark) -> Result<(), Error> {
            let mut deletions = self.deletions.lock().unwrap();
            if *deletions == 0 {
                self.mark.lock().unwrap().get_or_insert(mark.clone());
            }
            *deletions = deletions.saturating_sub(1);
            Ok(())
        }

        async fn note(&self, _generation: &str, notes: &[Note]) -> Result<bool, Error> {
            let mut mark = self.mark.lock().unwrap();
            let mark = mark.as_mut().unwrap();
            notes.iter().for_each(|note| mark.add(note));
            Ok(true)
        }

        async fn discard(&self, _generation: Option<&str>) -> Result<(), Error> {
            Ok(())
        }

        async fn take(&self, _partition: i32) -> Result<Stand, Error> {
            Ok(Stand::AsTheGroup)
        }

        async fn write(&self, _batches: &[Batch]) -> Result<Written, WriteError> {
            Ok(Written::Durable)
        }

        async fn settle(&self) -> Result<(), Error> {
            Ok(())
        }
    }

    fn ground() -> Ground<Fragile> {
        let facts = TopicFacts {
            id: None,
            partitions: 1,
            tombstones_live: None,
        };
        Ground::new(Fragile::default(), &facts)
    }

    #[tokio::test]
    async fn a_target_that_is_deleted_as_it_begins_is_begun_again() {
        let ground = ground();
        *ground.lane.deletions.lock().unwrap() = 1;
        assert!(!ground.begin(&[0]).await.unwrap());
        assert!(ground.begin(&[0]).await.unwrap());
        let mark = ground.mark().await.unwrap().unwrap();
        assert!(mark.caught_up_ms.contains_key(&0));
    }

    /// An attempt whose answer was lost, and a target that somebody else has written and somebody has dropped.
    #[tokio::test]
    async fn each_attempt_begins_another_generation() {
        let ground = ground();
        ground.lane.begin(&ground.plan()).await.unwrap();
        let first = ground.lane.mark.lock().unwrap().take().unwrap();
        assert!(ground.begin(&[0]).await.unwrap());
        let second = ground.mark().await.unwrap().unwrap();
        assert_ne!(first.generation, second.generation);
    }

    /// Its partitions have rows, whoever writes them: no form is asked for.
    #[tokio::test]
    async fn what_another_instance_has_begun_is_not_untouched() {
        let ground = ground();
        let mut mark = Mark::unknown();
        *ground.lane.mark.lock().unwrap() = Some(mark.clone());
        ground.mark().await.unwrap().unwrap();
        assert!(ground.is_untouched());
        mark.add(&Note::CaughtUp {
            partition: 1,
            at_ms: 1,
        });
        *ground.lane.mark.lock().unwrap() = Some(mark);
        ground.mark().await.unwrap().unwrap();
        assert!(!ground.is_untouched() && ground.has_begun(1) && !ground.has_begun(0));
    }

    #[tokio::test]
    async fn another_target_in_its_place_and_none_are_lost() {
        let ground = ground();
        assert!(ground.is_the_same().await.unwrap(), "there is none yet");
        assert!(ground.begin(&[0]).await.unwrap());
        assert!(ground.is_the_same().await.unwrap());
        *ground.lane.mark.lock().unwrap() = Some(Mark::unknown());
        assert_eq!(ground.mark().await.unwrap(), Err(Lost::IsAnother));
        *ground.lane.mark.lock().unwrap() = None;
        assert_eq!(ground.mark().await.unwrap(), Err(Lost::IsAnother));
    }
}
