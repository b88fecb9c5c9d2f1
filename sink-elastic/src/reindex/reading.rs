//! The topic is read into the new index.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tributary_engine::{Ends, Rebuild, is_unfit};
use tributary_runtime::{Error, Result, ResultExt, failpoint};

use super::building::{Succession, goes_on_elsewhere};
use super::moments::READING;
use super::site::Site;
use crate::config::Config;
use crate::lane::Elastic;
use crate::voice::Teller;

const LOOK: Duration = Duration::from_millis(10);
/// How often is looked whether another reindex has gone on with the same index.
const LOOK_FOR_OTHERS: Duration = Duration::from_secs(3);

/// Reads until it is ended.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    rebuild: Rebuild,
    site: &'a Site,
    task: &'a Succession,
    stop: &'a CancellationToken,
}

impl<'a> Reading<'a> {
    /// # Errors
    /// Stop: the configuration is not valid.
    pub(super) fn begin(
        config: &Config,
        site: &'a Site,
        task: &'a Succession,
        stop: &'a CancellationToken,
    ) -> Result<Self> {
        let target = Elastic::new(config.elasticsearch.clone())?.onto(&task.build.alias);
        let group = &task.build.group;
        Ok(Self {
            rebuild: Rebuild::begin(&config.engine(), &site.topic, group, target)?,
            site,
            task,
            stop,
        })
    }

    /// Waits until everything below these ends is in the index.
    ///
    /// # Errors
    /// What stops the reading; that the command is interrupted, or another one goes on with the index.
    pub(super) async fn until(
        &mut self,
        ends: &Ends,
        mut teller: Option<&mut Teller>,
    ) -> Result<()> {
        let (new, overtaken) = (&self.task.new, overtaken(self.site, self.task));
        tokio::pin!(overtaken);
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
                () = self.stop.cancelled() => return Err(interrupted(new)),
                error = self.rebuild.failed() => {
                    return Err(begun_anew(error)).doing(|| format!("read the topic into '{new}'"));
                }
                error = &mut overtaken => return Err(error),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        if let Some(teller) = teller {
            teller.tell(&self.rebuild.advance(ends));
        }
        Ok(())
    }

    /// As [`Rebuild::written`].
    pub(super) fn written(&self) -> BTreeMap<i32, i64> {
        self.rebuild.written()
    }

    /// Commits, and leaves the group.
    ///
    /// # Errors
    /// What had stopped it.
    pub(super) async fn end(self) -> Result<()> {
        self.rebuild.end().await
    }
}

/// Waits until another reindex goes on with the index. Both are in one group then, and each is given a part of the partitions, so that
/// neither would see all of them read.
async fn overtaken(site: &Site, task: &Succession) -> Error {
    loop {
        tokio::time::sleep(LOOK_FOR_OTHERS).await;
        // Where the engine does not answer, reading says so.
        let index = site.index(&task.new).await.ok().flatten();
        let build = index.and_then(|index| index.build());
        if build.is_some_and(|build| build.runner != task.build.runner) {
            return goes_on_elsewhere(&task.new);
        }
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
