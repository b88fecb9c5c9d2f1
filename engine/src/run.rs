//! The engine from its start to its end.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use crate::config::SinkConfig;
use crate::control;
use crate::group::log_ends;
use crate::group::membership::Membership;
use crate::group::poll::{Poll, SHUTDOWN_WAIT};
use crate::group::queries::Queries;
use crate::group::topic_watch;
use crate::metrics;
use crate::target::Target;
use crate::topics::Subscription;
use crate::write::instance::{Instance, Lasting};
use tributary_runtime::cli::Context;
use tributary_runtime::{Error, Result};

/// How long the poll thread may take for the last commit and to leave the group, beyond the writers' time.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// Reads the topics into the target until `context.shutdown` is cancelled or an error stops the sink.
///
/// Either way the writes under way are finished, made durable and committed, and the group is left, within
/// 25 seconds.
///
/// # Errors
/// The first error that stops: of the configuration, of Kafka, of the registry, of the target, or a record that
/// cannot be applied (with `on_error = "stop"`).
pub async fn run<T: Target>(config: SinkConfig, target: T, context: &Context) -> Result<()> {
    if let Some(problem) = config.validate().into_iter().next() {
        return Err(Error::stop_msg(problem));
    }
    let subscription =
        Subscription::new(&config.topics).map_err(|_| Error::stop_msg("`topics`"))?;
    metrics::describe();
    let _inside = context.gate.enter("the engine");
    let target = Arc::new(target);
    let lasting = Lasting::default();
    control::serve(&lasting, &subscription, config.on_error, context);
    loop {
        let instance = Instance::new(
            config.clone(),
            Arc::clone(&target),
            lasting.clone(),
            context,
        )?;
        let instance = Arc::new(instance);
        let reported = Arc::downgrade(&instance);
        context.health.set_details(move || {
            let instance = reported.upgrade();
            instance.map_or(Value::Null, |instance| instance.details())
        });
        live(&instance, &subscription).await?;
        if !instance.failure.starts_over() || context.shutdown.is_cancelled() {
            return Ok(());
        }
    }
}

/// One membership in the group, from joining to leaving.
///
/// # Errors
/// What has stopped the instance.
pub(crate) async fn live<T: Target>(
    instance: &Arc<Instance<T>>,
    subscription: &Subscription,
) -> Result<()> {
    // A caller that drops this future ends the thread as well.
    let stop = instance.failure.stop.clone();
    let _end_with_the_future = stop.clone().drop_guard();
    let queries = Queries::new(&instance.config)?;
    let topics = queries.topics(subscription).await;
    let topics = topics.inspect_err(|error| {
        tracing::info!(%error, "could not count the partitions: takes them for few");
    });
    let partitions = topics.unwrap_or_default().values().sum();
    let member = Membership::join(&instance.config, subscription, partitions)?;
    let queries = queries.of(&member);
    let watching = topic_watch::watch(Arc::clone(instance), queries.clone(), subscription.clone());
    let _watching = AbortOnDropHandle::new(tokio::spawn(watching));
    let asking = log_ends::watch(Arc::clone(instance), queries.clone());
    let _asking = AbortOnDropHandle::new(tokio::spawn(asking));
    let poll = Poll::new(Arc::clone(instance), member, queries, Handle::current());
    let (ended, end) = oneshot::channel();
    std::thread::Builder::new()
        .name("sink-poll".to_owned())
        .spawn(move || {
            poll.run();
            let _ = ended.send(());
        })
        .map_err(Error::stop)?;
    let deadline = async {
        stop.cancelled().await;
        tokio::time::sleep(SHUTDOWN_WAIT + CLOSE_WAIT).await;
    };
    let ended = tokio::select! {
        ended = end => ended.map_err(|_| Error::stop_msg("the poll thread has ended without a word")),
        () = deadline => {
            tracing::warn!("the group could not be left in time; it will miss this member after a while");
            Ok(())
        }
    };
    match instance.failure.take() {
        Some(error) => Err(error),
        None => ended,
    }
}
