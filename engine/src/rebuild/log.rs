//! What whoever rebuilds a target asks of the topic and of the groups that read it.

use std::collections::BTreeMap;
use std::fmt;

use tributary_runtime::registry::Registry;
use tributary_runtime::{Error, Result, ResultExt};

use crate::cluster::Cluster;
use crate::config::SinkConfig;
use crate::flow::form::{self, RowForm};
use crate::flow::plans::SchemaCache;
use crate::group::queries::Queries;
use crate::mark::Mark;
use crate::outside::now_ms;
use crate::topics::{self, Subscription, TableName, TopicPartition};
use crate::write::judge::{self, Case, Judgement};

/// A topic, and the consumer groups that read it.
pub struct Log {
    topic: String,
    queries: Queries,
    schemas: SchemaCache,
}

/// Where each partition of a topic ends for whoever reads committed records, at one time: what an open transaction holds is not
/// below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ends {
    /// By partition.
    offsets: Vec<i64>,
    /// Before they were asked for: milliseconds since 1970.
    at_ms: i64,
}

impl Ends {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (i32, i64)> {
        (0..).zip(self.offsets.iter().copied())
    }

    /// When they were asked for, in milliseconds since 1970: everything that was in the log then is below.
    pub const fn at_ms(&self) -> i64 {
        self.at_ms
    }

    /// How many partitions the topic has.
    pub const fn partitions(&self) -> usize {
        self.offsets.len()
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("topic", &self.topic).finish()
    }
}

impl Log {
    /// The topics that a service with this configuration reads.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses.
    pub async fn topics(config: &SinkConfig) -> Result<Vec<String>> {
        let subscription =
            Subscription::new(&config.topics).map_err(|_| Error::stop_msg("`topics`"))?;
        let topics = Queries::new(config)?.topics(&subscription).await?;
        Ok(topics.into_keys().collect())
    }

    /// A topic that the service with this configuration reads. Joins no group.
    ///
    /// # Errors
    /// Stop: the configuration is not valid.
    pub fn of(config: &SinkConfig, topic: &str) -> Result<Self> {
        Ok(Self {
            topic: topic.to_owned(),
            queries: Queries::new(config)?,
            schemas: SchemaCache::new(Registry::new(&config.kafka.registry)?),
        })
    }

    /// The same, with ends behind what transactions under way have written: when its producer is told that a transaction is committed,
    /// the brokers have yet to mark it so, and a reader of committed records does not see it at once.
    ///
    /// # Errors
    /// As [`Log::of`].
    pub fn of_all_written(config: &SinkConfig, topic: &str) -> Result<Self> {
        Ok(Self {
            queries: Queries::of_all_written(config)?,
            ..Self::of(config, topic)?
        })
    }

    /// The table that the topic carries, by its name.
    pub fn table(&self) -> TableName {
        topics::table_of(&self.topic)
    }

    /// Whether a target with this mark, which is read to its end now, fits the log.
    ///
    /// # Errors
    /// Stop: it does not ([`is_unfit`](crate::is_unfit)), or building it again would not help. Otherwise Kafka's.
    pub async fn check(&self, mark: &Mark) -> Result<()> {
        let facts = self.queries.topic(&self.topic).await?;
        for number in 0..facts.partitions {
            let partition = self.at(number);
            let case = Case {
                partition: &partition,
                facts: &facts,
                mark,
                // All that was missed counts.
                stands_at: Some(0),
                low: 0,
                high: 1,
                now_ms: now_ms(),
            };
            if let Judgement::Unfit(reason) = case.judge()? {
                return Err(judge::unfit(reason));
            }
        }
        Ok(())
    }

    /// Whether a target with this mark, which holds all that is below these offsets of the partitions, can be read on from there.
    ///
    /// # Errors
    /// As [`Log::check`].
    pub async fn check_from(&self, mark: &Mark, offsets: &BTreeMap<i32, i64>) -> Result<()> {
        let facts = self.queries.topic(&self.topic).await?;
        for number in 0..facts.partitions {
            let partition = self.at(number);
            let (low, high) = self.queries.log_of(&partition).await?;
            let case = Case {
                partition: &partition,
                facts: &facts,
                mark,
                stands_at: offsets.get(&number).copied(),
                low,
                high,
                now_ms: now_ms(),
            };
            if let Judgement::Unfit(reason) = case.judge()? {
                return Err(judge::unfit(reason));
            }
        }
        Ok(())
    }

    /// The form of the topic's rows by the newest schemas; `None` where the registry has none of a table's changes.
    ///
    /// # Errors
    /// The registry's.
    pub async fn form(&self) -> Result<Option<RowForm>> {
        form::of_topic(&self.schemas, &self.topic).await
    }

    /// Where the partitions end now.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses.
    pub async fn ends(&self) -> Result<Ends> {
        let doing = || format!("ask where topic '{}' ends", self.topic);
        let facts = self.queries.topic(&self.topic).await.doing(doing)?;
        let at_ms = now_ms();
        let partitions: Vec<_> = (0..facts.partitions)
            .map(|number| self.at(number))
            .collect();
        let ends = self.queries.ends(&partitions).await.doing(doing)?;
        let offsets: Option<Vec<i64>> = ends.into_iter().collect();
        let offsets = offsets
            .ok_or_else(|| Error::retry_msg("Kafka does not answer for all partitions"))
            .doing(doing)?;
        Ok(Ends { offsets, at_ms })
    }

    /// How many offsets lie between what the service's group has committed for this generation of its target, and these ends.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses.
    pub async fn unread(&self, generation: &str, ends: &Ends) -> Result<u64> {
        // Of all partitions at once: writes to the target in use wait for the answer. One that never had a record lacks none.
        let ends = ends.iter().filter(|&(_, end)| end > 0);
        let (places, ends): (Vec<_>, Vec<_>) =
            ends.map(|(number, end)| (self.at(number), end)).unzip();
        let all = self.queries.all_committed(places.clone()).await;
        let all = all.doing(|| "ask for what the service has committed")?;
        let mut unread = 0;
        for ((partition, end), committed) in places.iter().zip(ends).zip(all) {
            let from = match committed.and_then(|committed| committed.of(generation)) {
                Some(offset) => offset,
                None => self.queries.log_of(partition).await?.0,
            };
            unread += (end - from).max(0).cast_unsigned();
        }
        Ok(unread)
    }

    /// Up to where the service's group has read for this generation of its target, by partition: nothing of one that it has committed
    /// nothing of.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses.
    pub async fn read_to(&self, generation: &str) -> Result<BTreeMap<i32, i64>> {
        let facts = self.queries.topic(&self.topic).await?;
        let places: Vec<_> = (0..facts.partitions)
            .map(|number| self.at(number))
            .collect();
        let all = self.queries.all_committed(places).await;
        let all = all.doing(|| "ask for what the service has committed")?;
        let offsets = (0..).zip(all).filter_map(|(number, committed)| {
            let offset = committed.and_then(|committed| committed.of(generation))?;
            Some((number, offset))
        });
        Ok(offsets.collect())
    }

    /// How many offsets below these the service's group has yet to read for this generation of its target.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses.
    pub async fn unread_below(
        &self,
        generation: &str,
        offsets: &BTreeMap<i32, i64>,
    ) -> Result<u64> {
        let read = self.read_to(generation).await?;
        let mut unread = 0;
        for (&number, &offset) in offsets {
            let mut from = read.get(&number).copied().unwrap_or_default();
            if from < offset {
                // What the log has no more nobody has to read.
                from = from.max(self.queries.log_of(&self.at(number)).await?.0);
            }
            unread += (offset - from).max(0).cast_unsigned();
        }
        Ok(unread)
    }

    /// The mark of a target that is in no other one's line: the service's group has read nothing for it yet.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses.
    pub async fn new_mark(&self) -> Result<Mark> {
        let facts = self.queries.topic(&self.topic).await?;
        Ok(Mark::new(facts.id, facts.partitions))
    }

    /// Has the service's group go on at these ends with this generation of its target, which holds everything below. Kafka lets nobody
    /// else do that while the group has members.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses.
    pub async fn hand_to_service(&self, generation: &str, ends: &Ends) -> Result<()> {
        let ends = ends.iter().collect();
        self.go_on_from(generation, &ends).await
    }

    /// As [`Log::hand_to_service`], at offsets of one's own.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses.
    pub async fn go_on_from(&self, generation: &str, offsets: &BTreeMap<i32, i64>) -> Result<()> {
        let places = offsets.iter();
        let places = places.map(|(&number, &offset)| (self.at(number), offset));
        self.queries
            .commit_for_service(generation, places.collect())
            .await
    }

    /// Who is in a group: the hosts of its members.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses.
    pub async fn members(&self, group: &str) -> Result<Vec<String>> {
        Ok(self.queries.members(group).await?.hosts)
    }

    /// Deletes a group of which nobody is a member, and what it has committed; one that is gone is fine.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses; retry where the group still has a member.
    pub async fn forget(&self, group: &str) -> Result<()> {
        self.queries.forget(group).await
    }

    fn at(&self, partition: i32) -> TopicPartition {
        TopicPartition {
            topic: self.topic.clone(),
            partition,
        }
    }
}
