//! Looks every few seconds whether the tables' topics are still those that progress speaks of. Kafka commits a
//! transaction whose records went with their topic, and takes the next ones for the topic that got its name.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tributary_runtime::Error;

use crate::log::progress::Progress;
use crate::log::table_topic::Registrar;
use crate::log::topics::DescribedTopic;
use crate::run::lost_topics::TopicIds;
use crate::run::pace::pause_behind;

/// The pause between two looks, at the least.
const INTERVAL: Duration = Duration::from_secs(5);
/// The pause at the most, with thousands of topics.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// What the brokers said, the ids that were asked about, and how long that took.
type Look = (
    TopicIds,
    Result<BTreeMap<String, DescribedTopic>, Error>,
    Duration,
);

/// The look that is under way.
pub(super) struct TopicWatch {
    registrar: Arc<Registrar>,
    looking: JoinSet<Look>,
    next: Instant,
}

impl TopicWatch {
    pub(super) fn new(registrar: Arc<Registrar>) -> Self {
        Self {
            registrar,
            looking: JoinSet::new(),
            next: Instant::now(),
        }
    }

    /// Takes over what a look has found, and begins the next one once it is due. Never waits.
    ///
    /// # Errors
    /// A topic is gone, or another one: what that means is for the next start to say, which compares.
    pub(super) fn attend(&mut self, progress: &Progress) -> Result<(), Error> {
        if let Some(Ok((asked, found, took))) = self.looking.try_join_next() {
            self.next = Instant::now() + pause_behind(took, INTERVAL, MAX_PAUSE);
            match found {
                Ok(found) => compare(&asked, &found, progress)?,
                // The producer waits for the same brokers.
                Err(error) => {
                    tracing::debug!(%error, "the topics cannot be looked at; trying again");
                }
            }
        }
        if self.looking.is_empty() && Instant::now() >= self.next {
            let (registrar, asked) = (Arc::clone(&self.registrar), ids(progress));
            self.looking.spawn(async move {
                let topics: Vec<String> = asked.keys().cloned().collect();
                let began = Instant::now();
                let found = registrar.described(&topics).await;
                (asked, found, began.elapsed())
            });
        }
        Ok(())
    }
}

/// The ids that progress has of the tables that are followed.
fn ids(progress: &Progress) -> TopicIds {
    let tables = progress.tables.iter();
    let followed = tables.filter(|(_, table)| !table.followed.absent);
    followed
        .filter_map(|(topic, table)| Some((topic.clone(), table.topic_id.clone()?)))
        .collect()
}

fn compare(
    asked: &TopicIds,
    found: &BTreeMap<String, DescribedTopic>,
    progress: &Progress,
) -> Result<(), Error> {
    for (topic, id) in asked {
        let known = progress.tables.get(topic);
        let known = known.filter(|table| !table.followed.absent);
        // Meanwhile the stream may have taken another one over.
        if known.is_none_or(|table| table.topic_id.as_ref() != Some(id)) {
            continue;
        }
        match found.get(topic) {
            Some(found) if found.id.as_ref().is_none_or(|found| found == id) => {}
            Some(_) => {
                return Err(Error::retry_msg(format!(
                    "topic '{topic}' is another one than before: it was deleted and created again"
                )));
            }
            None => return Err(Error::retry_msg(format!("topic '{topic}' is gone"))),
        }
    }
    Ok(())
}
