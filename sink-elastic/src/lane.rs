//! The engine as the target of the sink.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{StreamExt, stream};
use tributary_engine::{
    Batch, Change, Known, Lane, Mark, Note, Rejection, RowForm, Stand, Swept, TableName, Target,
    WriteError, Written,
};
use tributary_runtime::health::Health;
use tributary_runtime::{Error, Result};

use crate::announced::Announced;
use crate::bulk::Bulk;
use crate::chunk::{Chunk, Chunks, Task, VersionType};
use crate::client::Client;
use crate::config::ElasticConfig;
use crate::failure;
use crate::index::Index;
use crate::kept::{self, have_one_key_type, is_incomplete};
use crate::metric;
use crate::renewals::Renewals;
use crate::sweep::Sweep;

/// Requests of one write that are in flight together: their documents differ, or their versions do, so their order does not matter.
const IN_FLIGHT: usize = 2;
/// How long a busy engine's refusals are waited out before the engine of the sink backs off; it must stay able to stop.
const PATIENCE: Duration = Duration::from_secs(15);

/// A search engine that keeps an index per topic.
#[derive(Debug, Clone)]
pub struct Elastic {
    client: Arc<Client>,
    bulk: Arc<Bulk>,
    config: ElasticConfig,
    announced: Arc<Announced>,
    renewals: Arc<Renewals>,
    /// The alias of the one index that is written, where that is not the topic's own.
    given: Option<String>,
}

/// Writes the rows of one topic into its index.
#[derive(Debug)]
pub struct ElasticLane {
    client: Arc<Client>,
    bulk: Arc<Bulk>,
    index: Index,
    /// What is being swept.
    sweep: Mutex<Option<Sweep>>,
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
            bulk: Arc::new(Bulk::new(Arc::clone(&client), config.compression, patience)),
            client,
            config,
            announced: Arc::default(),
            renewals: Arc::default(),
            given: None,
        })
    }

    /// The same, which writes the one index behind this alias.
    pub(crate) fn onto(self, alias: &str) -> Self {
        Self {
            given: Some(alias.to_owned()),
            ..self
        }
    }

    /// The same, of a service that has indices built again which cannot take what a column has become.
    pub(crate) fn renewed(self) -> Self {
        Self {
            renewals: Arc::new(Renewals::on()),
            ..self
        }
    }

    /// What is known of those.
    pub(crate) fn renewals(&self) -> Arc<Renewals> {
        Arc::clone(&self.renewals)
    }

    /// The index of a topic, not looked for yet.
    pub(crate) fn index(&self, topic: &str) -> Index {
        let index = Index::new(Arc::clone(&self.client), &self.config, topic)
            .announcing_to(Arc::clone(&self.announced), Arc::clone(&self.renewals));
        match &self.given {
            Some(alias) => index.given(alias, &self.config),
            None => index,
        }
    }

    /// Says from now on in the service's status which nodes fail, and how indices differ from what is asked for.
    pub(crate) fn report_to(&self, health: Health) {
        self.announced.report_to(health.clone());
        self.renewals.report_to(health.clone());
        self.client.report_to(health);
    }
}

impl Target for Elastic {
    type Lane = ElasticLane;

    async fn lane(&self, topic: &str, _table: &TableName) -> Result<ElasticLane, Error> {
        let index = self.index(topic);
        index.open().await?;
        self.renewals.look_at(topic);
        Ok(ElasticLane {
            client: Arc::clone(&self.client),
            bulk: Arc::clone(&self.bulk),
            index,
            sweep: Mutex::default(),
        })
    }
}

impl ElasticLane {
    fn sweeping(&self) -> MutexGuard<'_, Option<Sweep>> {
        self.sweep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, chunk: Result<Chunk>, is_replay: bool) -> Result<Vec<Rejection>> {
        let chunk = chunk?;
        if chunk.incomplete > 0 {
            metrics::counter!(metric::INCOMPLETE).increment(chunk.incomplete);
            tracing::warn!(
                alias = self.index.alias(),
                rows = chunk.incomplete,
                "writes null in the place of TOASTed values that neither the records nor the index have"
            );
        }
        self.bulk.submit(&self.index, chunk, is_replay).await
    }

    /// Brings documents up to date, by changes as they come or, `is_replay`, by letters.
    pub(crate) async fn apply<'a>(
        &self,
        tasks: impl Iterator<Item = Task<'a>> + Send + 'a,
        version_type: VersionType,
        is_replay: bool,
    ) -> Result<(), WriteError> {
        let failed = AtomicBool::new(false);
        let chunks = Chunks::new(tasks, &self.index, version_type);
        // After a failure nothing new is begun, but what is in flight is waited for: the same documents will be
        // sent again, and two operations on one of them must not meet.
        let mut sending = stream::iter(chunks.take_while(|_| !failed.load(Ordering::Relaxed)))
            .map(|chunk| self.send(chunk, is_replay))
            .buffer_unordered(IN_FLIGHT);
        let mut rejections = Vec::new();
        let mut first_error = None;
        while let Some(sent) = sending.next().await {
            match sent {
                Ok(rejected) => rejections.extend(rejected),
                Err(error) => {
                    failed.store(true, Ordering::Relaxed);
                    // Behind this one all is to be sent in another form, whatever else has failed.
                    if first_error.is_none() || failure::is_otherwise_mapped(&error) {
                        first_error = Some(error);
                    }
                }
            }
        }
        if let Some(error) = first_error {
            return Err(error.into());
        }
        if rejections.is_empty() {
            return Ok(());
        }
        if self.index.awaits_another() {
            return Err(failure::outgrown(self.index.alias()).into());
        }
        rejections.sort_unstable_by_key(|rejection| (rejection.partition, rejection.offset));
        Err(WriteError::Rejected(rejections))
    }
}

impl ElasticLane {
    /// The same, again where another index is found behind the alias that wants documents in another form.
    async fn apply_in_its_form<'a, I>(
        &self,
        tasks: impl Fn() -> I,
        is_replay: bool,
    ) -> Result<(), WriteError>
    where
        I: Iterator<Item = Task<'a>> + Send + 'a,
    {
        let first = self.apply(tasks(), VersionType::External, is_replay);
        match first.await {
            // What the other index has taken of it in the former one's form has these versions already.
            Err(WriteError::Target(error)) if failure::is_otherwise_mapped(&error) => {
                self.apply(tasks(), VersionType::ExternalGte, is_replay)
                    .await
            }
            written => written,
        }
    }

    /// Writes rows that lack values, with those of their documents. No other write of these keys is under way.
    async fn complete(&self, changes: &[Change<'_>], is_replay: bool) -> Result<(), WriteError> {
        let documents = kept::documents(&self.client, &self.index, changes).await?;
        let pairs = || changes.iter().zip(&documents);
        let tasks = || pairs().map(|(change, document)| Task::Complete(change, document.as_ref()));
        self.apply_in_its_form(tasks, is_replay).await
    }
}

impl Lane for ElasticLane {
    fn width(&self) -> usize {
        usize::MAX
    }

    fn passed_over(&self) -> u64 {
        self.index.conflicts()
    }

    fn held_back(&self) -> Option<String> {
        self.index.throttle().held_back()
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

    /// An engine confirms what it has in its translog. Versions make the order of a sweep and of what is written no matter.
    async fn write(&self, batches: &[Batch]) -> Result<Written, WriteError> {
        let lacks_values = batches.iter().any(Batch::lacks_values);
        let is_replay = batches.iter().any(Batch::is_replay);
        let whole = || {
            let gone = batches.iter().flat_map(Batch::gone).map(Task::KeepOut);
            let changes = batches.iter().flat_map(Batch::changes);
            let whole = changes.filter(move |change| !(lacks_values && is_incomplete(change)));
            gone.chain(whole.map(Task::Apply))
        };
        self.apply_in_its_form(whole, is_replay).await?;
        if lacks_values {
            let changes = batches.iter().flat_map(Batch::changes);
            let incomplete: Vec<_> = changes.filter(is_incomplete).collect();
            // A row may come under two types of key: the later one finds what the earlier one has written.
            for run in incomplete.chunk_by(have_one_key_type) {
                for some in run.chunks(kept::AT_ONCE) {
                    self.complete(some, is_replay).await?;
                }
            }
        }
        Ok(Written::Unswept)
    }

    async fn sweep(&self, below: u64) -> Result<Swept, Error> {
        let known = self.sweeping().take().filter(|sweep| sweep.is_below(below));
        let sweep = match known {
            Some(sweep) => Some(sweep),
            None => Sweep::begin(&self.client, &self.index, below).await?,
        };
        let Some(mut sweep) = sweep else {
            return Ok(Swept::All);
        };
        if !sweep.go_on(&self.client, &self.bulk, &self.index).await? {
            return Ok(Swept::All);
        }
        *self.sweeping() = Some(sweep);
        Ok(Swept::Some)
    }

    async fn settle(&self) -> Result<(), Error> {
        Ok(())
    }
}
