//! Has indices built again that cannot take what a column has become: one at a time, each by the command `reindex`, of which only one can
//! be at an index.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tributary_engine::{Forms, RowForm};
use tributary_runtime::{Error, Policy, Result};

use crate::attended::{Attended, Ended};
use crate::config::Config;
use crate::lane::Elastic;
use crate::renewals::Renewals;

/// When is looked again at an index that somebody else builds, or that could not be looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// When a reindex is tried again that has failed.
const TRY_AGAIN: Duration = Duration::from_secs(300);

/// For ever the same would come of building it once more.
const IN_VAIN: &str = "what was built does not take the columns either; if the configuration was changed, start the service with it";

/// What has the indices of a service built again.
#[derive(Debug)]
pub(crate) struct Renewing {
    elastic: Elastic,
    renewals: Arc<Renewals>,
    forms: Forms,
    file: PathBuf,
    /// By topic, the form of rows that an index which was built for them did not take.
    in_vain: BTreeMap<String, RowForm>,
}

impl Renewing {
    /// # Errors
    /// Stop: the registry's address is malformed, or nobody knows where the configuration is.
    pub(crate) fn new(config: &Config, elastic: Elastic) -> Result<Self> {
        let file = config.file.clone();
        Ok(Self {
            renewals: elastic.renewals(),
            elastic,
            forms: Forms::new(&config.engine())?,
            file: file.ok_or_else(|| Error::stop_msg("the configuration has no file"))?,
            in_vain: BTreeMap::new(),
        })
    }

    /// Goes on until the service ends.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let topic = tokio::select! {
                () = shutdown.cancelled() => return,
                topic = self.renewals.next() => topic,
            };
            if let Err(error) = self.renew(&topic, &shutdown).await {
                match error.policy() {
                    Policy::Stop => self.give_up(&topic, &error.to_string()),
                    Policy::Retry => {
                        let why = format!(
                            "cannot tell whether the index of topic {topic} takes its columns: {error}"
                        );
                        self.renewals.again(&topic, LOOK_AGAIN, why);
                    }
                }
            }
        }
    }

    /// Looks whether the index of this topic is outgrown, and has it built again if it is.
    async fn renew(&mut self, topic: &str, shutdown: &CancellationToken) -> Result<()> {
        let Some(form) = self.due(topic).await? else {
            self.renewals.is_fit(topic);
            return Ok(());
        };
        if self.in_vain.get(topic) == Some(&form) {
            self.give_up(topic, IN_VAIN);
            return Ok(());
        }
        tracing::warn!(
            topic,
            "the index cannot take what a column has become: has it built again from the beginning of the log"
        );
        let begins = format!("the index of topic {topic} is built again, by the service itself");
        self.renewals.say(topic, begins.clone());
        let (renewals, of) = (Arc::clone(&self.renewals), topic.to_owned());
        let mut attended = Attended::begin(&self.file, topic, move |line| {
            tracing::info!(topic = of, "reindex: {line}");
            renewals.say(&of, format!("{begins}: {line}"));
        })?;
        let ended = tokio::select! {
            () = shutdown.cancelled() => {
                attended.end().await;
                return Ok(());
            }
            ended = attended.ended() => ended?,
        };
        match ended {
            Ended::Done => self.look_behind(topic, &form).await?,
            Ended::Elsewhere => {
                let why = format!("the index of topic {topic} is built again, by another instance");
                self.renewals.again(topic, LOOK_AGAIN, why);
            }
            Ended::Passing(why) => {
                let why = format!("the index of topic {topic} is to be built again: {why}");
                self.renewals.again(topic, LOOK_AGAIN, why);
            }
            Ended::Failed(why) => self.give_up(topic, &why),
        }
        Ok(())
    }

    /// The index was built again for rows of this form.
    async fn look_behind(&mut self, topic: &str, form: &RowForm) -> Result<()> {
        match self.due(topic).await? {
            None => {
                tracing::info!(topic, "the index is built again, and in use");
                self.renewals.is_fit(topic);
            }
            Some(now) if now == *form => {
                self.in_vain.insert(topic.to_owned(), now);
                self.give_up(topic, IN_VAIN);
            }
            Some(_) => self.renewals.look_at(topic),
        }
        Ok(())
    }

    fn give_up(&self, topic: &str, why: &str) {
        tracing::error!(
            topic,
            "the index could not be built again, which is tried again later; until then on_error holds for rows that it refuses: {why}"
        );
        let why = format!("the index of topic {topic} could not be built again: {why}");
        self.renewals.fail(topic, TRY_AGAIN, why);
    }

    /// The form of the newest rows, where they have outgrown the index, or such a reindex has left it in the middle.
    async fn due(&self, topic: &str) -> Result<Option<RowForm>> {
        let Some(form) = self.forms.of(topic).await? else {
            return Ok(None);
        };
        let index = self.elastic.index(topic);
        let is_outgrown = index.is_outgrown(&form.row_type).await?;
        Ok(is_outgrown.then_some(form))
    }
}
