//! The engine as the target of the sink.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{StreamExt, stream};
use tributary_engine::{
    Batch, Change, Known, Lane, Mark, Note, Rejection, RowForm, Stand, TableName, Target,
    WriteError, Written,
};
use tributary_runtime::health::Health;
use tributary_runtime::{Error, Result};

use crate::bulk::Bulk;
use crate::chunk::{Chunk, Chunks};
use crate::client::Client;
use crate::config::ElasticConfig;
use crate::index::Index;
use crate::sweep;

/// Requests of one write that are in flight together: their documents differ, or their versions do, so their order does not matter.
const IN_FLIGHT: usize = 2;
/// How long a busy engine's refusals are waited out before the engine of the sink backs off; it must stay able to stop.
const PATIENCE: Duration = Duration::from_secs(15);

/// A search engine that keeps an index per topic.
#[derive(Debug)]
pub struct Elastic {
    client: Arc<Client>,
    bulk: Arc<Bulk>,
    config: ElasticConfig,
}

/// Writes the rows of one topic into its index.
#[derive(Debug)]
pub struct ElasticLane {
    client: Arc<Client>,
    bulk: Arc<Bulk>,
    index: Index,
    bulk_bytes: usize,
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
        })
    }

    /// The index of a topic, not looked for yet.
    pub(crate) fn index(&self, topic: &str) -> Index {
        Index::new(Arc::clone(&self.client), &self.config, topic)
    }

    /// Says from now on in the service's status which nodes fail.
    pub(crate) fn report_to(&self, health: Health) {
        self.client.report_to(health);
    }
}

impl Target for Elastic {
    type Lane = ElasticLane;

    async fn lane(&self, topic: &str, _table: &TableName) -> Result<ElasticLane, Error> {
        Ok(ElasticLane {
            client: Arc::clone(&self.client),
            bulk: Arc::clone(&self.bulk),
            index: self.index(topic),
            bulk_bytes: self.config.bulk_bytes,
        })
    }
}

impl ElasticLane {
    async fn send(&self, chunk: Chunk) -> Result<Vec<Rejection>> {
        self.bulk.submit(&self.index, chunk).await
    }

    /// Writes changes, after the sweep that comes first.
    pub(crate) async fn apply<'a>(
        &self,
        below: Option<u64>,
        changes: impl Iterator<Item = Change<'a>> + Send + 'a,
    ) -> Result<(), WriteError> {
        if let Some(below) = below {
            sweep::run(&self.client, &self.bulk, &self.index, below).await?;
        }
        let failed = AtomicBool::new(false);
        let chunks = Chunks::new(changes, &self.index, self.bulk_bytes);
        // After a failure nothing new is begun, but what is in flight is waited for: the same documents will be
        // sent again, and two operations on one of them must not meet.
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
        rejections.sort_unstable_by_key(|rejection| (rejection.partition, rejection.offset));
        Err(WriteError::Rejected(rejections))
    }
}

impl Lane for ElasticLane {
    fn width(&self) -> usize {
        usize::MAX
    }

    fn passed_over(&self) -> u64 {
        self.index.conflicts()
    }

    async fn known(&self) -> Result<Known, Error> {
        self.index.known().await
    }

    async fn begin(&self, mark: &Mark) -> Result<(), Error> {
        self.index.begin(mark).await
    }

    async fn found(&self, mark: &Mark, form: &RowForm) -> Result<(), Error> {
        self.index.begin_empty(mark, &form.row_type).await
    }

    async fn note(&self, generation: &str, notes: &[Note]) -> Result<bool, Error> {
        self.index.note(generation, notes).await
    }

    async fn discard(&self, generation: Option<&str>) -> Result<(), Error> {
        self.index.discard(generation).await
    }

    async fn take(&self, _partition: i32) -> Result<Stand, Error> {
        Ok(Stand::AsTheGroup)
    }

    /// An engine confirms what it has in its translog.
    async fn write(&self, batches: &[Batch]) -> Result<Written, WriteError> {
        let below = batches.iter().filter_map(Batch::below).max();
        self.apply(below, batches.iter().flat_map(Batch::changes))
            .await?;
        Ok(Written::Durable)
    }

    async fn settle(&self) -> Result<(), Error> {
        Ok(())
    }
}
