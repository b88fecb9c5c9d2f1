//! A sink's group, as an administrator sees it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};

/// How long one answer of the broker may take.
const ANSWER: Duration = Duration::from_secs(15);
/// A killed member stays for as long as its session does.
const EMPTY_WITHIN: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(200);

/// A consumer group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) kafka: String,
}

impl Group {
    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.kafka)
            .set("group.id", &self.name);
        client
    }

    /// Sets each partition's offset to so many thousandths of itself; what it says beside the offset stays. No member may
    /// live.
    pub(super) fn set_back(&self, topics: &[String], partitions: i32, parts: &[i64]) -> Result<()> {
        let consumer: BaseConsumer = self.client().create()?;
        let mut all = TopicPartitionList::new();
        for topic in topics {
            all.add_partition_range(topic, 0, partitions - 1);
        }
        let committed = consumer.committed_offsets(all, ANSWER)?;
        let mut earlier = TopicPartitionList::new();
        for (element, part) in committed.elements().iter().zip(parts.iter().cycle()) {
            if let Offset::Offset(offset) = element.offset() {
                let mut set = earlier.add_partition(element.topic(), element.partition());
                set.set_offset(Offset::Offset(offset * part / 1_000))?;
                set.set_metadata(element.metadata());
            }
        }
        if earlier.count() == 0 {
            return Ok(());
        }
        let deadline = Instant::now() + EMPTY_WITHIN;
        while let Err(error) = consumer.commit(&earlier, CommitMode::Sync) {
            ensure!(Instant::now() < deadline, "set {} back: {error}", self.name);
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Deletes it. No member may live.
    pub(super) async fn delete(&self) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        let deadline = Instant::now() + EMPTY_WITHIN;
        loop {
            let deleted = admin
                .delete_groups(&[&self.name], &AdminOptions::new())
                .await?;
            let code = match deleted.into_iter().next().context("no answer")? {
                Ok(_) => return Ok(()),
                Err((_, code)) => code,
            };
            ensure!(
                Instant::now() < deadline,
                "delete group {}: {code}",
                self.name
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// The groups of its reindexes.
    pub(super) fn of_reindexes(&self) -> Result<Vec<String>> {
        let client: BaseConsumer = self.client().create()?;
        let groups = client.fetch_group_list(None, ANSWER)?;
        let names = groups.groups().iter().map(|group| group.name().to_owned());
        let begin = format!("{}.reindex.", self.name);
        Ok(names.filter(|name| name.starts_with(&begin)).collect())
    }
}
