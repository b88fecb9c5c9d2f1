//! Two indices that are made from one log have all that is in it at a time.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tributary_engine::Log;
use tributary_runtime::{Error, Result};

use super::reading::{Reading, interrupted};

const LOOK_AT_SERVICE: Duration = Duration::from_millis(200);
/// How long the service may read nothing that there is.
const SERVICE_WAIT: Duration = Duration::from_secs(60);

/// The log, which both indices are made from.
pub(super) trait Level {
    /// Waits until both have all that is in the log now.
    async fn level(&mut self) -> Result<()>;
}

/// Who reads the topic into both indices.
#[derive(Debug)]
pub(super) struct Both<'a, 'r> {
    pub(super) reading: &'a mut Reading<'r>,
    pub(super) log: &'a Log,
    /// Of both.
    pub(super) generation: &'a str,
    pub(super) old: &'a str,
    pub(super) new: &'a str,
    pub(super) stop: &'a CancellationToken,
}

impl Level for Both<'_, '_> {
    async fn level(&mut self) -> Result<()> {
        let log = self.log;
        let ends = log.ends().await?;
        self.reading.until(&ends, None).await?;
        let (written, mut since, mut seen) = (self.reading.written(), Instant::now(), None);
        loop {
            let unread = log.unread_below(self.generation, &written).await?;
            if unread == 0 {
                return Ok(());
            }
            if seen != Some(unread) {
                (since, seen) = (Instant::now(), Some(unread));
            } else if since.elapsed() >= SERVICE_WAIT {
                return Err(stands_still(self.old));
            }
            tokio::select! {
                () = self.stop.cancelled() => return Err(interrupted(self.new)),
                () = tokio::time::sleep(LOOK_AT_SERVICE) => {}
            }
        }
    }
}

fn stands_still(old: &str) -> Error {
    Error::stop_msg(format_args!(
        "the service has read nothing for {} s, and '{old}' lacks what is in the log: its documents cannot be compared",
        SERVICE_WAIT.as_secs()
    ))
    .remedy("start the service, or see in its status what it waits for, and run the command again, which goes on; or with --compare counts")
}
