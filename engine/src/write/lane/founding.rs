//! The target of a topic that has no rows yet is made in the form that they will have, so that whoever asks it gets an answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tributary_runtime::{Error, Policy, Result};

use crate::flow::form;
use crate::target::Target;
use crate::write::ground::Ground;
use crate::write::instance::Instance;

/// How long to wait before asking again for the form of a topic's rows, as a part of the time that has passed; a topic's subjects
/// come soon after it, or never.
const WAIT_SHARE: u32 = 4;
const WAIT_MIN: Duration = Duration::from_millis(250);
const WAIT_MAX: Duration = Duration::from_secs(60);

/// What makes the target of a lane, as long as it has no rows. It ends with the lane.
#[derive(Debug, Default)]
pub(super) struct Founding {
    task: JoinSet<()>,
    has_begun: bool,
}

impl Founding {
    /// Begins, once a partition of the lane is open.
    pub(super) fn begin<T: Target>(
        &mut self,
        instance: &Arc<Instance<T>>,
        ground: &Arc<Ground<T::Lane>>,
        topic: &Arc<str>,
    ) {
        if !std::mem::replace(&mut self.has_begun, true) && ground.is_untouched() {
            let (instance, ground) = (Arc::clone(instance), Arc::clone(ground));
            self.task.spawn(found(instance, ground, Arc::clone(topic)));
        }
    }
}

/// Asks until the form is known, or a row has come first. What is in the way is in the way of rows as well, which say so; without rows
/// nothing is missing but an empty table.
async fn found<T: Target>(
    instance: Arc<Instance<T>>,
    ground: Arc<Ground<T::Lane>>,
    topic: Arc<str>,
) {
    let begun = Instant::now();
    let mut is_second_look = false;
    while ground.is_untouched() {
        match attempt(&instance, &ground, &topic, &mut is_second_look).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) if error.policy() == Policy::Stop => {
                tracing::warn!(%topic, %error, "could not make the target of a topic without rows; its first row makes it");
                return;
            }
            Err(error) => {
                tracing::info!(%topic, %error, "could not make the target of a topic without rows yet");
            }
        }
        let wait = (begun.elapsed() / WAIT_SHARE).clamp(WAIT_MIN, WAIT_MAX);
        tokio::time::sleep(wait).await;
    }
}

/// Whether the target was made.
async fn attempt<T: Target>(
    instance: &Instance<T>,
    ground: &Ground<T::Lane>,
    topic: &str,
    is_second_look: &mut bool,
) -> Result<bool> {
    let _turn = instance.founding.acquire().await.map_err(Error::stop)?;
    let Some(form) = form::of_topic(&instance.schemas, topic).await? else {
        return Ok(false);
    };
    // A source may register both subjects at the same time. A compacted topic has a key, whatever the registry knows yet.
    let may_lack_key = ground.tombstones_live.is_none() && *is_second_look;
    if form.key_type.is_none() && !may_lack_key {
        *is_second_look = true;
        return Ok(false);
    }
    if ground.is_untouched() {
        ground.found(&form).await?;
    }
    Ok(true)
}
