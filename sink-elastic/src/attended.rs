//! The command `reindex` as the service runs it: a process of its own, which ends when this one does.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tributary_runtime::{Error, Result, ResultExt};

use crate::reindex::{ATTENDED, NAME};

/// This program, also where its file was replaced by another version's meanwhile.
const OURSELVES: &str = "/proc/self/exe";

/// How long the process may take to end once it is asked to.
const END_WAIT: Duration = Duration::from_secs(10);

/// What has become of a reindex.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The index is in use.
    Done,
    /// Another one is at it.
    Elsewhere,
    /// Something passing was in the way.
    Passing(String),
    /// It has stopped, with what it said last.
    Failed(String),
}

/// A reindex that runs. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Attended {
    child: Arc<Mutex<Child>>,
    /// The process ends with the other end of this.
    stdin: Option<ChildStdin>,
    running: JoinHandle<Result<Ended>>,
}

impl Attended {
    /// Begins to build the index of a topic again, by the configuration in this file. `tell` hears each line that is said.
    ///
    /// # Errors
    /// Stop: no process can be started.
    pub(crate) fn begin(
        file: &Path,
        topic: &str,
        tell: impl Fn(&str) + Send + 'static,
    ) -> Result<Self> {
        let doing = || format!("start `{NAME} --topic {topic}`");
        let mut command = Command::new(OURSELVES);
        command
            .args([
                NAME, "--topic", topic, ATTENDED, "--output", "json", "--config",
            ])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(Error::stop).doing(doing)?;
        let stdin = child.stdin.take();
        let (out, errors) = (child.stdout.take(), child.stderr.take());
        let child = Arc::new(Mutex::new(child));
        let ending = Arc::clone(&child);
        let running = tokio::task::spawn_blocking(move || {
            let mut last = String::new();
            for line in errors
                .into_iter()
                .flat_map(|errors| BufReader::new(errors).lines())
            {
                last = line.map_err(Error::retry)?;
                tell(&last);
            }
            let mut answer = String::new();
            if let Some(mut out) = out {
                out.read_to_string(&mut answer).map_err(Error::retry)?;
            }
            let mut child = ending.lock().unwrap_or_else(PoisonError::into_inner);
            let status = child.wait().map_err(Error::retry)?;
            Ok(ended(status.success(), &answer, last))
        });
        Ok(Self {
            child,
            stdin,
            running,
        })
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// Retry: it cannot be heard.
    pub(crate) async fn ended(&mut self) -> Result<Ended> {
        (&mut self.running).await.map_err(Error::retry)?
    }

    /// Has it end: what it has done is gone on with by the next one.
    pub(crate) async fn end(mut self) {
        self.stdin = None;
        let _ = timeout(END_WAIT, &mut self.running).await;
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        self.stdin = None;
        if !self.running.is_finished() {
            // Whoever reads what it says holds no lock until that is over; then it has ended.
            if let Ok(mut child) = self.child.try_lock() {
                let _ = child.kill();
            }
        }
    }
}

fn ended(is_success: bool, answer: &str, last: String) -> Ended {
    let answer: Value = serde_json::from_str(answer).unwrap_or_default();
    let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
    if !is_success {
        return Ended::Failed(text("error").unwrap_or(last));
    }
    match (answer.get("elsewhere"), text("passing")) {
        (Some(Value::Bool(true)), _) => Ended::Elsewhere,
        (_, Some(why)) => Ended::Passing(why),
        _ => Ended::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::{Ended, ended};

    #[test]
    fn the_answer_tells_what_has_become_of_it() {
        let last = || "last".to_owned();
        assert_eq!(
            ended(true, "{\"ok\": true, \"index\": \"a-2\"}", last()),
            Ended::Done
        );
        assert_eq!(
            ended(true, "{\"elsewhere\": true}", last()),
            Ended::Elsewhere
        );
        assert_eq!(
            ended(true, "{\"passing\": \"Kafka is away\"}", last()),
            Ended::Passing("Kafka is away".to_owned())
        );
        let failed = Ended::Failed("why".to_owned());
        assert_eq!(
            ended(false, "{\"ok\": false, \"error\": \"why\"}", last()),
            failed
        );
        // It was killed.
        assert_eq!(ended(false, "", last()), Ended::Failed(last()));
    }
}
