//! A target is built again beside the one that is in use: one topic is read from its beginning, in a consumer group of its own, by
//! the same lanes as ever. Who asks for it says when it is enough.

pub(crate) mod log;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tributary_runtime::cli::Context;
use tributary_runtime::health::Health;
use tributary_runtime::registry::Registry;
use tributary_runtime::shutdown::Gate;
use tributary_runtime::{Error, Result};

use crate::config::{OnUnfitTarget, SinkConfig};
use crate::run::live;
use crate::target::Target;
use crate::topics::Subscription;
use crate::write::hold::Hold;
use crate::write::instance::{Instance, Lasting, letters_of};
use crate::write::judge::REBUILD;
use log::Ends;

/// How soon is noticed that nothing is left but control records: whoever waits for the end of the log waits for that.
const SURVEY_INTERVAL: Duration = Duration::from_millis(50);

/// A rebuild that runs. It ends when this is dropped.
#[derive(Debug)]
pub struct Rebuild {
    lasting: Lasting,
    health: Health,
    stop: CancellationToken,
    running: JoinHandle<Result<()>>,
    _end_with_this: DropGuard,
}

/// How far a rebuild has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advance {
    /// Offsets that it has passed since it was begun in this process.
    pub done: u64,
    /// Offsets that are left to the ends asked for; `None` while not all partitions are open.
    pub left: Option<u64>,
    /// What is in the way.
    pub waits_for: Option<String>,
}

/// Whether an error says that a target does not fit its log, and has to be built anew.
pub fn is_unfit(error: &Error) -> bool {
    error.remedy_text() == Some(REBUILD)
}

impl Rebuild {
    /// Begins to read `topic` into `target`, as the service with this configuration would, but in the consumer group `group`. A target
    /// that does not fit its log is never discarded. Records that are put aside are the service's own letters.
    ///
    /// # Errors
    /// Stop: the configuration is not valid.
    pub fn begin<T: Target>(
        config: &SinkConfig,
        topic: &str,
        group: &str,
        target: T,
    ) -> Result<Self> {
        let own = SinkConfig {
            name: group.to_owned(),
            topics: vec![topic.to_owned()],
            on_unfit_target: OnUnfitTarget::Stop,
            ..config.clone()
        };
        let subscription =
            Subscription::new(&own.topics).map_err(|_| Error::stop_msg("`topics`"))?;
        let context = Context {
            shutdown: CancellationToken::new(),
            health: Health::new(),
            gate: Gate::new(),
        };
        let lasting = Lasting::default();
        let (health, stop) = (context.health.clone(), context.shutdown.clone());
        let run = run(
            config.clone(),
            own,
            subscription,
            Arc::new(target),
            lasting.clone(),
            context,
        );
        Ok(Self {
            lasting,
            health,
            running: tokio::spawn(run),
            _end_with_this: stop.clone().drop_guard(),
            stop,
        })
    }

    /// Whether everything below these ends is in the target for good.
    pub fn has_reached(&self, ends: &Ends) -> bool {
        let holds = self.holds();
        // Control records before an end are looked for only where it is known: each hears of its own at once.
        for (partition, end) in ends.iter() {
            if let Some(hold) = holds.get(&partition) {
                hold.raise_end(end, ends.at_ms());
            }
        }
        ends.iter().all(|(partition, end)| {
            let done = holds.get(&partition).and_then(|hold| hold.done());
            done.is_some_and(|done| done >= end)
        })
    }

    /// How far it is from these ends.
    pub fn advance(&self, ends: &Ends) -> Advance {
        let holds = self.holds();
        let of = |partition| {
            let hold: &Arc<Hold> = holds.get(&partition)?;
            Some((hold.start()?, hold.done()?))
        };
        let passed = holds.keys().filter_map(|&partition| of(partition));
        let left = ends.iter().map(|(partition, end)| {
            let (_, done) = of(partition)?;
            Some((end - done).max(0).cast_unsigned())
        });
        Advance {
            done: passed
                .map(|(start, done)| (done - start).max(0).cast_unsigned())
                .sum(),
            left: left.sum(),
            waits_for: self.health.not_ready(),
        }
    }

    /// Up to where records are in the target, by partition: a group that has committed as much has read the same ones. Control records
    /// behind them are not counted, which nobody commits.
    pub fn written(&self) -> BTreeMap<i32, i64> {
        let holds = self.holds().into_iter();
        holds
            .filter_map(|(partition, hold)| Some((partition, hold.durable()?)))
            .collect()
    }

    /// Waits until it ends by itself, which is an error.
    pub async fn failed(&mut self) -> Error {
        match (&mut self.running).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) => Error::interrupted("read the topic"),
            Err(error) => Error::stop(error),
        }
    }

    /// Finishes the writes under way, commits, and leaves the group.
    ///
    /// # Errors
    /// The first error that had stopped it.
    pub async fn end(self) -> Result<()> {
        self.stop.cancel();
        match self.running.await {
            Ok(Err(error)) if !error.is_interrupted() => Err(error),
            Ok(_) => Ok(()),
            Err(error) => Err(Error::stop(error)),
        }
    }

    fn holds(&self) -> BTreeMap<i32, Arc<Hold>> {
        let holds = self.lasting.accounts.holds().into_iter();
        holds
            .map(|hold| (hold.partition().partition, hold))
            .collect()
    }
}

async fn run<T: Target>(
    service: SinkConfig,
    own: SinkConfig,
    subscription: Subscription,
    target: Arc<T>,
    lasting: Lasting,
    context: Context,
) -> Result<()> {
    loop {
        let (registry, letters) = (Registry::new(&own.kafka.registry)?, letters_of(&service));
        let mut instance = Instance::with(
            own.clone(),
            Arc::clone(&target),
            lasting.clone(),
            &context,
            registry,
            letters,
        );
        instance.survey_interval = SURVEY_INTERVAL;
        let instance = Arc::new(instance);
        live(&instance, &subscription).await?;
        if !instance.failure.starts_over() || context.shutdown.is_cancelled() {
            return Ok(());
        }
    }
}
