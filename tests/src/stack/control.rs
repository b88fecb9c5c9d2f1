//! Starting and ending the parts of a stack, one by one and all together.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::part::Part;
use super::process::Process;
use super::state::{PartState, State, Status};
use super::{Stack, launch, ports, readiness, server};

/// How long a server may take to end by itself, in which time Postgres writes a checkpoint and Kafka its segments.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// How long the kernel may take to end a killed process.
const KILL_LIMIT: Duration = Duration::from_secs(20);

impl Stack {
    /// Starts a part that does not run, with its old data on its old port, and waits until it serves.
    ///
    /// # Errors
    /// As [`Stack::up`].
    pub fn start(&self, part: Part) -> Result<()> {
        let lock = self.folder.lock()?;
        let started = self.launch(&[part]);
        drop(lock);
        self.wait(&started?)
    }

    /// Asks a part to end, and waits until it has.
    ///
    /// # Errors
    /// It still runs after a minute.
    pub fn stop(&self, part: Part) -> Result<()> {
        let Some(process) = self.process(part)? else {
            return Ok(());
        };
        // Postgres would wait for its clients to leave at SIGTERM ("smart shutdown"); SIGINT is the fast one.
        process.signal(if part == Part::Postgres {
            libc::SIGINT
        } else {
            libc::SIGTERM
        })?;
        process.signal_tree(libc::SIGCONT)?;
        if !process.wait_gone(STOP_LIMIT) {
            let (seconds, log) = (STOP_LIMIT.as_secs(), self.log_path(part));
            bail!(
                "{part} did not stop within {seconds} s: see {}, or kill it",
                log.display()
            );
        }
        Ok(())
    }

    /// Ends a part as a power cut would: all its processes at once, by SIGKILL.
    ///
    /// # Errors
    /// The kernel refuses, or the process does not go.
    pub fn kill(&self, part: Part) -> Result<()> {
        let Some(process) = self.process(part)? else {
            return Ok(());
        };
        if !process.kill_tree(KILL_LIMIT)? {
            bail!(
                "{part}, process {}, is still there {} s after SIGKILL",
                process.pid,
                KILL_LIMIT.as_secs()
            );
        }
        Ok(())
    }

    /// Freezes a part by SIGSTOP: its connections stay open, and nothing answers.
    ///
    /// # Errors
    /// The part does not run.
    pub fn pause(&self, part: Part) -> Result<()> {
        self.running(part)?.signal_tree(libc::SIGSTOP).map(drop)
    }

    /// Lets a frozen part go on.
    ///
    /// # Errors
    /// The part does not run.
    pub fn resume(&self, part: Part) -> Result<()> {
        self.running(part)?.signal_tree(libc::SIGCONT).map(drop)
    }

    /// Whether a part runs and serves.
    ///
    /// # Errors
    /// `stack.json` cannot be read.
    pub fn is_up(&self, part: Part) -> Result<bool> {
        Ok(self.process(part)?.is_some() && readiness::is_ready(part, self.known.part(part)?.port))
    }

    /// Stops every part, all at the same time.
    ///
    /// # Errors
    /// The first of the parts that did not stop; the others are stopped nevertheless.
    pub fn down(&self) -> Result<()> {
        in_parallel(&Part::ALL, |part| self.stop(part)).map(drop)
    }

    /// What there is to say of every part.
    ///
    /// # Errors
    /// `stack.json` cannot be read.
    pub fn status(&self) -> Result<Vec<Status>> {
        in_parallel(&Part::ALL, |part| {
            let entry = self.known.part(part)?;
            Ok(Status {
                part,
                up: self.is_up(part)?,
                url: entry.url.clone(),
                version: entry.version.clone(),
                pid: self.process(part)?.map(|process| process.pid),
                log: entry.log.clone(),
            })
        })
    }

    /// The process of a part, if it lives.
    pub(super) fn process(&self, part: Part) -> Result<Option<Process>> {
        let state = self.folder.read()?.context("stack.json is gone")?;
        Ok(state
            .part(part)?
            .process
            .filter(|process| process.is_alive()))
    }

    fn running(&self, part: Part) -> Result<Process> {
        self.process(part)?
            .with_context(|| format!("{part} does not run"))
    }

    /// Starts those of the parts that do not run, and notes their processes; the caller holds the lock. Returns all.
    pub(super) fn launch(&self, parts: &[Part]) -> Result<Vec<(Part, Process)>> {
        let mut state = self.folder.read()?.context("stack.json is gone")?;
        let before = state.clone();
        let results = in_parallel_each(parts, |part| {
            let entry = before.part(part)?;
            match entry.process.filter(|process| process.is_alive()) {
                Some(process) => Ok((part, process)),
                None => Ok((part, self.spawn(part, entry, &before)?)),
            }
        });
        // What did start is noted, whatever became of the others.
        let mut processes = Vec::new();
        let mut failure = None;
        for result in results {
            match result {
                Ok((part, process)) => {
                    processes.push((part, process));
                    state
                        .parts
                        .entry(part)
                        .and_modify(|entry| entry.process = Some(process));
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        self.folder.write(&state)?;
        match failure {
            Some(error) => Err(error),
            None => Ok(processes),
        }
    }

    fn spawn(&self, part: Part, entry: &PartState, state: &State) -> Result<Process> {
        for port in [Some(entry.port), entry.inner_port].into_iter().flatten() {
            // The threads of a killed process may hold its sockets for a moment longer than the process lives.
            if !ports::becomes_free(port, KILL_LIMIT) {
                bail!(
                    "port {port} of {part} is taken by another program: end that, or make a stack with other ports"
                );
            }
        }
        let context = || format!("cannot start {part}");
        let server = server::command(part, &self.folder, state).with_context(context)?;
        let process = launch::spawn(&server, &entry.log).with_context(context)?;
        self.started().push(process);
        Ok(process)
    }

    pub(super) fn wait(&self, started: &[(Part, Process)]) -> Result<()> {
        let processes: BTreeMap<Part, Process> = started.iter().copied().collect();
        let parts: Vec<Part> = processes.keys().copied().collect();
        in_parallel(&parts, |part| {
            let entry = self.known.part(part)?;
            readiness::wait(part, entry.port, processes[&part], &entry.log)
        })
        .map(drop)
    }

    /// Ends all servers at once. Postgres removes its shared memory if it is asked, the others need not be.
    pub(super) fn destroy(&self) -> Result<()> {
        let known = in_parallel(&Part::ALL, |part| self.end(part)).map(drop);
        for process in self.started().drain(..) {
            process.kill_tree(KILL_LIMIT)?;
        }
        known
    }

    fn end(&self, part: Part) -> Result<()> {
        let Some(process) = self.process(part)? else {
            return Ok(());
        };
        if part == Part::Postgres {
            process.signal(libc::SIGQUIT)?;
            process.signal_tree(libc::SIGCONT)?;
            if process.wait_gone(KILL_LIMIT) {
                return Ok(());
            }
        }
        self.kill(part)
    }

    fn started(&self) -> MutexGuard<'_, Vec<Process>> {
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does it for all parts at the same time, each to its end.
fn in_parallel_each<T: Send>(
    parts: &[Part],
    act: impl Fn(Part) -> Result<T> + Sync,
) -> Vec<Result<T>> {
    std::thread::scope(|scope| {
        let act = &act;
        let threads: Vec<_> = parts
            .iter()
            .map(|part| (*part, scope.spawn(move || act(*part))))
            .collect();
        threads
            .into_iter()
            .map(|(part, thread)| {
                thread.join().unwrap_or_else(|_| {
                    bail!("the thread for {part} panicked; see its message above")
                })
            })
            .collect()
    })
}

/// The same; the first error is the result.
fn in_parallel<T: Send>(parts: &[Part], act: impl Fn(Part) -> Result<T> + Sync) -> Result<Vec<T>> {
    in_parallel_each(parts, act).into_iter().collect()
}
