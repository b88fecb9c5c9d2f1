//! Runs the reindex command to what becomes of it.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::history::{Fate, Moment};

/// The command for one topic.
#[derive(Debug, Clone)]
pub(super) struct Reindex {
    pub(super) binary: PathBuf,
    pub(super) config: PathBuf,
    pub(super) topic: String,
}

impl Reindex {
    /// Runs it to this end.
    ///
    /// # Errors
    /// It is refused, or fails.
    pub(super) async fn meets(&self, fate: &Fate) -> Result<()> {
        let done = match fate {
            Fate::Done => self.complete().await,
            Fate::Killed(moments) => self.killed(moments).await,
            Fate::Abandoned(moment) => self.abandoned(moment).await,
        };
        done.with_context(|| format!("reindex of {}: {fate:?}", self.topic))
    }

    async fn complete(&self) -> Result<()> {
        let mut output = ended(self.start(&[], None)?).await?;
        if is_refused_for_counts(&output) {
            output = ended(self.start(&["--verify-counts", "false"], None)?).await?;
        }
        ensure!(output.status.success(), "{}", told(&output));
        Ok(())
    }

    async fn killed(&self, moments: &[Moment]) -> Result<()> {
        for moment in moments {
            self.kill_at(moment).await?;
        }
        self.complete().await
    }

    async fn abandoned(&self, moment: &Moment) -> Result<()> {
        self.kill_at(moment).await?;
        let output = ended(self.start(&["--abandon", "--yes"], None)?).await?;
        if output.status.success() {
            return Ok(());
        }
        // It came too far.
        let told = told(&output);
        ensure!(told.contains("there is nothing to abandon"), "{told}");
        self.complete().await
    }

    /// A reindex that is over before it comes there has not been killed, and is as good.
    async fn kill_at(&self, moment: &Moment) -> Result<()> {
        let output = match moment {
            Moment::Failpoint(name) => ended(self.start(&[], Some(name))?).await?,
            Moment::AfterMs(ms) => {
                let mut child = self.start(&[], None)?;
                tokio::time::sleep(Duration::from_millis(*ms)).await;
                child.kill()?;
                ended(child).await?
            }
        };
        match output.status.code() {
            None | Some(0) => Ok(()),
            Some(_) if is_refused_for_counts(&output) => Ok(()),
            Some(_) => bail!("until {moment:?}: {}", told(&output)),
        }
    }

    fn start(&self, words: &[&str], failpoint: Option<&str>) -> Result<Child> {
        Command::new(&self.binary)
            .args(["reindex", "--topic", &self.topic, "--output", "json"])
            .args(words)
            .arg("--config")
            .arg(&self.config)
            .envs(failpoint.map(|name| ("TRIBUTARY_FAILPOINT", name)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start the reindex")
    }
}

async fn ended(child: Child) -> Result<Output> {
    Ok(tokio::task::spawn_blocking(|| child.wait_with_output()).await??)
}

/// Behind a truncate that the service has not come to, the old index has more documents than the records in between explain; docs/search.md
/// says what to do.
fn is_refused_for_counts(output: &Output) -> bool {
    !output.status.success() && told(output).contains("--verify-counts false")
}

fn told(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    format!("{}: {}", output.status, String::from_utf8_lossy(&text))
}
