//! The topic is read into the new index.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tributary_engine::{Ends, Rebuild, is_unfit};
use tributary_runtime::{Error, Result, ResultExt, failpoint};

use super::building::Succession;
use super::moments::READING;
use super::site::Site;
use super::voice::Teller;
use crate::config::Config;
use crate::lane::Elastic;

const LOOK: Duration = Duration::from_millis(10);

/// Reads until it is ended.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    rebuild: Rebuild,
    new: &'a str,
    stop: &'a CancellationToken,
}

impl<'a> Reading<'a> {
    /// # Errors
    /// Stop: the configuration is not valid.
    pub(super) fn begin(
        config: &Config,
        site: &Site,
        task: &'a Succession,
        stop: &'a CancellationToken,
    ) -> Result<Self> {
        let target = Elastic::new(config.elasticsearch.clone())?.onto(&task.build.alias);
        let group = &task.build.group;
        Ok(Self {
            rebuild: Rebuild::begin(&config.engine(), &site.topic, group, target)?,
            new: &task.new,
            stop,
        })
    }

    /// Waits until everything below these ends is in the index.
    ///
    /// # Errors
    /// What stops the reading; that the command is interrupted.
    pub(super) async fn until(
        &mut self,
        ends: &Ends,
        mut teller: Option<&mut Teller>,
    ) -> Result<()> {
        while !self.rebuild.has_reached(ends) {
            let advance = self.rebuild.advance(ends);
            if advance.done > 0 {
                failpoint::hit(READING);
            }
            if let Some(teller) = &mut teller {
                teller.tell(&advance);
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(interrupted(self.new)),
                error = self.rebuild.failed() => {
                    return Err(begun_anew(error)).doing(|| format!("read the topic into '{}'", self.new));
                }
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        if let Some(teller) = teller {
            teller.tell(&self.rebuild.advance(ends));
        }
        Ok(())
    }

    /// Commits, and leaves the group.
    ///
    /// # Errors
    /// What had stopped it.
    pub(super) async fn end(self) -> Result<()> {
        self.rebuild.end().await
    }
}

/// What the service would be told to do about an index that does not fit the log is not to be done about one that nobody uses yet.
pub(super) fn begun_anew(error: Error) -> Error {
    if is_unfit(&error) {
        return error.remedy(
            "run `reindex` with --abandon --yes, and again without; where reading takes longer than the topic's delete.retention.ms, raise that before",
        );
    }
    error
}

/// Somebody wants the command to end.
pub(super) fn interrupted(new: &str) -> Error {
    Error::stop_msg(format_args!("interrupted: '{new}' is not finished"))
        .remedy("run the command again, which goes on; or with --abandon --yes, which deletes it")
}
