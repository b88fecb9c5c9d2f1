//! One running instance of a sink: what its partitions share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::config::{OnError, OnUnfitTarget, SinkConfig};
use crate::flow::budget::Budget;
use crate::flow::plans::{SchemaCache, Schemas};
use crate::lock::lock;
use crate::status::Status;
use crate::write::account::Accounts;
use crate::write::dead_letter::{DeadLetters, Letters};
use crate::write::hold::Changed;
use crate::write::judge;
use crate::write::lease::Lease;
use crate::write::pauses::Pauses;
use crate::write::replay::Replays;
use tributary_runtime::cli::Context;
use tributary_runtime::registry::Registry;
use tributary_runtime::{Error, Result};

/// Who is not ready until the first assignment, in [`Status`].
pub(crate) const GROUP: &str = "consumer group";

/// So many targets of topics without rows are asked for and made at once; those with rows do not wait for them.
const FOUNDING_AT_ONCE: usize = 16;

/// How often all partitions are looked at: for control records that have moved reading, and for the lag.
const SURVEY_INTERVAL: Duration = Duration::from_secs(5);

/// What all partitions of an instance share.
#[derive(Debug)]
pub(crate) struct Instance<T> {
    pub(crate) config: SinkConfig,
    pub(crate) target: Arc<T>,
    /// The topics that are written, and the id that each had when its target was begun.
    pub(crate) topics: Mutex<BTreeMap<String, Option<String>>>,
    pub(crate) schemas: SchemaCache,
    /// `None`: a record that cannot be applied stops the service.
    pub(crate) letters: Option<Box<dyn Letters>>,
    pub(crate) lease: Lease,
    pub(crate) status: Status,
    pub(crate) lasting: Lasting,
    pub(crate) budget: Arc<Budget>,
    pub(crate) changed: Changed,
    /// Whose turn it is to make the target of a topic without rows.
    pub(crate) founding: Semaphore,
    /// How often all partitions are looked at.
    pub(crate) survey_interval: Duration,
    pub(crate) failure: Failure,
}

/// What outlives an instance, as long as the process runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lasting {
    /// What each topic has done.
    pub(crate) accounts: Arc<Accounts>,
    /// What is not to be written.
    pub(crate) pauses: Arc<Pauses>,
    /// What is to be replayed.
    pub(crate) replays: Arc<Replays>,
    /// How often in a row the group was left because a partition is nobody's.
    pub(crate) left_for_nobodys: Arc<AtomicU32>,
}

/// The first error that stops the instance.
#[derive(Debug)]
pub(crate) struct Failure {
    first: Mutex<Option<Error>>,
    starts_over: AtomicBool,
    /// Cancelled by the shutdown, by the first error, and to start over.
    pub(crate) stop: CancellationToken,
}

impl<T> Instance<T> {
    /// # Errors
    /// Stop: the registry's URL is not valid.
    pub(crate) fn new(
        config: SinkConfig,
        target: Arc<T>,
        lasting: Lasting,
        context: &Context,
    ) -> Result<Self> {
        let letters = letters_of(&config);
        let registry = Registry::new(&config.kafka.registry)?;
        Ok(Self::with(
            config, target, lasting, context, registry, letters,
        ))
    }

    /// The same, whoever knows the schemas and takes the letters.
    pub(crate) fn with(
        config: SinkConfig,
        target: Arc<T>,
        lasting: Lasting,
        context: &Context,
        schemas: impl Schemas + 'static,
        letters: Option<Box<dyn Letters>>,
    ) -> Self {
        Self {
            schemas: SchemaCache::new(schemas),
            letters,
            lease: Lease::new(),
            status: Status::new(context.health.clone(), GROUP),
            lasting,
            budget: Arc::new(Budget::new(config.batch.buffer_bytes)),
            changed: Changed::default(),
            topics: Mutex::default(),
            founding: Semaphore::new(FOUNDING_AT_ONCE),
            survey_interval: SURVEY_INTERVAL,
            failure: Failure {
                first: Mutex::default(),
                starts_over: AtomicBool::new(false),
                stop: context.shutdown.child_token(),
            },
            target,
            config,
        }
    }

    /// A target does not fit its log.
    ///
    /// # Errors
    /// Stop, with the remedy, unless it is to be built again.
    pub(crate) fn unfit(&self, reason: &str) -> Result<()> {
        match self.config.on_unfit_target {
            OnUnfitTarget::Stop => Err(judge::unfit(reason.to_owned())),
            OnUnfitTarget::Rebuild => {
                tracing::warn!(
                    reason,
                    "deletes what the target holds, and builds it again from the beginning of the log"
                );
                Ok(())
            }
        }
    }

    /// What each topic does, for `status`.
    pub(crate) fn details(&self) -> Value {
        let Lasting {
            accounts,
            pauses,
            replays,
            ..
        } = &self.lasting;
        json!({
            "buffered_bytes": self.budget.held(),
            "paused": pauses.report(),
            "replay": replays.report(),
            "topics": accounts.report(&self.status, pauses),
        })
    }

    /// The topic is written, or not any more.
    pub(crate) fn note_topic(&self, topic: &str, id: Option<Option<String>>) {
        let mut topics = lock(&self.topics);
        match id {
            Some(id) => topics.insert(topic.to_owned(), id),
            None => topics.remove(topic),
        };
    }
}

/// Where a service with this configuration puts records aside, if it does.
pub(crate) fn letters_of(config: &SinkConfig) -> Option<Box<dyn Letters>> {
    let topic = match config.on_error {
        OnError::Stop => None,
        OnError::DeadLetter => config.dead_letter_topic(),
    };
    Some(Box::new(DeadLetters::new(config, topic?)))
}

impl Failure {
    /// Stops the instance. The first error is the one that it reports; later ones are consequences.
    pub(crate) fn stop_with(&self, error: Error) {
        if error.is_interrupted() {
            return;
        }
        let mut first = lock(&self.first);
        if first.is_none() {
            *first = Some(error);
        } else {
            tracing::warn!(%error, "a further error while the sink stops");
        }
        self.stop.cancel();
    }

    /// Ends the instance, so that another one in its place asks each target anew where it stands.
    pub(crate) fn start_over(&self, reason: &str) {
        tracing::warn!(reason, "leaves the group and joins it again");
        self.starts_over.store(true, Ordering::Release);
        self.stop.cancel();
    }

    /// Whether another instance is to take this one's place.
    pub(crate) fn starts_over(&self) -> bool {
        self.starts_over.load(Ordering::Acquire)
    }

    pub(crate) fn take(&self) -> Option<Error> {
        lock(&self.first).take()
    }
}
