//! The engine as the target of the loop.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use tributary_engine::{
    Batch, Change, Destination, PartitionWriter, Progress, Rejection, Start, TableName,
    TopicPartition, WriteError,
};
use tributary_runtime::health::Health;
use tributary_runtime::{Error, Result};

use crate::bulk::Bulk;
use crate::chunk::{Chunk, Chunks};
use crate::client::Client;
use crate::config::ElasticConfig;
use crate::index::Index;
use crate::sweep;

/// Requests of one batch that are in flight together: their documents differ, so their order does not matter.
const IN_FLIGHT: usize = 2;
/// How long a busy engine's refusals are waited out before the loop backs off; the loop must stay able to stop.
const PATIENCE: Duration = Duration::from_secs(15);

/// A search engine that keeps an index per topic.
#[derive(Debug)]
pub struct Elastic {
    client: Arc<Client>,
    bulk: Arc<Bulk>,
    config: ElasticConfig,
    topics: Mutex<HashMap<String, Topic>>,
}

#[derive(Debug)]
struct Topic {
    index: Arc<Index>,
    /// The partitions that were opened since the index was found missing: each begins at the beginning once.
    rebuilt: Option<HashSet<i32>>,
}

/// Writes the rows of one partition into its topic's index.
#[derive(Debug)]
pub struct ElasticWriter {
    client: Arc<Client>,
    bulk: Arc<Bulk>,
    index: Arc<Index>,
    bulk_bytes: usize,
    next_offset: i64,
}

impl Elastic {
    /// A target; connects when it is first used.
    ///
    /// # Errors
    /// Stop: an address or the credentials are malformed.
    pub fn new(config: ElasticConfig) -> Result<Self> {
        Self::with_patience(config, PATIENCE)
    }

    pub(crate) fn with_patience(config: ElasticConfig, patience: Duration) -> Result<Self> {
        let client = Arc::new(Client::new(&config)?);
        Ok(Self {
            bulk: Arc::new(Bulk::new(Arc::clone(&client), patience)),
            client,
            config,
            topics: Mutex::new(HashMap::new()),
        })
    }

    /// Says from now on in the service's status which nodes fail.
    pub(crate) fn report_to(&self, health: Health) {
        self.client.report_to(health);
    }

    fn index(&self, topic: &str) -> Arc<Index> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let topic = topics.entry(topic.to_owned()).or_insert_with(|| Topic {
            index: Arc::new(Index::new(Arc::clone(&self.client), &self.config, topic)),
            rebuilt: None,
        });
        Arc::clone(&topic.index)
    }

    /// Where a partition begins: at the beginning while the index is not there yet, and once for each further
    /// partition after it was found missing, for the rows before the committed offset went with the index.
    fn start(&self, partition: &TopicPartition, is_missing: bool) -> Start {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(topic) = topics.get_mut(&partition.topic) else {
            return Start::Committed;
        };
        if is_missing {
            topic.rebuilt.get_or_insert_default();
        }
        let first = topic
            .rebuilt
            .as_mut()
            .is_some_and(|opened| opened.insert(partition.partition));
        if first {
            Start::Beginning
        } else {
            Start::Committed
        }
    }
}

impl Destination for Elastic {
    type Writer = ElasticWriter;

    async fn open(
        &self,
        partition: &TopicPartition,
        _table: &TableName,
    ) -> Result<(ElasticWriter, Start), Error> {
        let index = self.index(&partition.topic);
        let is_missing = index.find().await?.is_none();
        let writer = ElasticWriter {
            client: Arc::clone(&self.client),
            bulk: Arc::clone(&self.bulk),
            index,
            bulk_bytes: self.config.bulk_bytes,
            next_offset: 0,
        };
        Ok((writer, self.start(partition, is_missing)))
    }
}

impl ElasticWriter {
    async fn send(&self, chunk: Chunk) -> Result<Vec<Rejection>> {
        self.bulk.submit(&self.index, chunk).await
    }

    const fn progress(&self) -> Progress {
        Progress {
            accepted: self.next_offset,
            durable: self.next_offset,
        }
    }
}

impl ElasticWriter {
    /// Writes the rows of a batch, after the sweep that comes first.
    pub(crate) async fn apply<'a>(
        &self,
        partition: i32,
        below: Option<u64>,
        changes: impl Iterator<Item = Change<'a>> + Send + 'a,
    ) -> Result<(), WriteError> {
        if let Some(below) = below {
            sweep::run(&self.client, &self.bulk, &self.index, below).await?;
        }
        let failed = AtomicBool::new(false);
        let chunks = Chunks::new(changes, &self.index, partition, self.bulk_bytes);
        // After a failure nothing new is begun, but what is in flight is waited for: the loop will send the
        // same documents again, and two operations on one of them must not meet.
        let mut sending = stream::iter(chunks.take_while(|_| !failed.load(Ordering::Relaxed)))
            .map(|chunk| self.send(chunk))
            .buffer_unordered(IN_FLIGHT);
        let mut rejections = Vec::new();
        let mut first_error = None;
        while let Some(sent) = sending.next().await {
            match sent {
                Ok(rejected) => rejections.extend(rejected),
                Err(error) => {
                    failed.store(true, Ordering::Relaxed);
                    first_error.get_or_insert(error);
                }
            }
        }
        if let Some(error) = first_error {
            return Err(error.into());
        }
        if rejections.is_empty() {
            return Ok(());
        }
        rejections.sort_unstable_by_key(|rejection| rejection.offset);
        Err(WriteError::Rejected(rejections))
    }
}

impl PartitionWriter for ElasticWriter {
    async fn write(&mut self, batch: &Batch) -> Result<Progress, WriteError> {
        let partition = batch.partition().partition;
        self.apply(partition, batch.below(), batch.changes())
            .await?;
        self.next_offset = batch.next_offset();
        Ok(self.progress())
    }

    /// Nothing to do: an engine confirms what it has in its translog.
    async fn flush(&mut self) -> Result<Progress, Error> {
        Ok(self.progress())
    }
}
