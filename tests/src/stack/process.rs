//! A server's process: who it is, whether it still lives, and signals to it and to all that it started.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// How often a wait looks again, in a loop that has a deadline.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A process that we started. A pid alone could belong to somebody else by now; with its start time it cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    /// The process id.
    pub(super) pid: i32,
    /// When it was started, in clock ticks since boot (`/proc/PID/stat`, field 22).
    started_ticks: u64,
}

impl Process {
    /// The process that has this pid now.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn of(pid: u32) -> Result<Self> {
        let pid = i32::try_from(pid)?;
        let stat = Stat::read(pid).with_context(|| format!("process {pid} is gone already"))?;
        Ok(Self {
            pid,
            started_ticks: stat.started_ticks,
        })
    }

    /// When it was started, in clock ticks since boot.
    pub(super) fn started_ticks(self) -> u64 {
        self.started_ticks
    }

    /// Whether it still runs (or is stopped by a signal); one that only waits to be reaped does not.
    pub(super) fn is_alive(self) -> bool {
        self.stat().is_some_and(|stat| !stat.is_dead())
    }

    /// Sends a signal to this process alone; nothing happens if it is gone.
    pub(super) fn signal(self, signal: i32) -> Result<()> {
        if self.is_alive() {
            send(self.pid, signal)
        } else {
            Ok(())
        }
    }

    /// Sends a signal to the process and to all its descendants, which is more than its process group: each Postgres
    /// backend has a group of its own. The process is frozen first, so that it starts no more of them meanwhile.
    /// Returns all of them.
    pub(super) fn signal_tree(self, signal: i32) -> Result<Vec<Process>> {
        if !self.is_alive() {
            return Ok(Vec::new());
        }
        if signal != libc::SIGCONT {
            send(self.pid, libc::SIGSTOP)?;
        }
        let mut all = descendants(self.pid);
        all.push(self);
        for process in &all {
            send(process.pid, signal)?;
        }
        Ok(all)
    }

    /// Kills the process and all its descendants; `false` if one of them is not gone after that time.
    pub(super) fn kill_tree(self, limit: Duration) -> Result<bool> {
        let deadline = Instant::now() + limit;
        let all = self.signal_tree(libc::SIGKILL)?;
        Ok(all
            .iter()
            .all(|process| process.wait_gone(deadline.saturating_duration_since(Instant::now()))))
    }

    /// Waits until the process is gone; `false` if it still runs after that time.
    pub(super) fn wait_gone(self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.is_alive() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        true
    }

    /// What the kernel says of it, dead or alive, if it is still there.
    fn stat(self) -> Option<Stat> {
        Stat::read(self.pid).filter(|stat| stat.started_ticks == self.started_ticks)
    }
}

/// Whether this pid belongs to a process that has ended and only waits for its parent to collect it.
pub(super) fn is_unreaped(pid: i32) -> bool {
    Stat::read(pid).is_some_and(|stat| stat.is_dead())
}

struct Stat {
    state: char,
    parent: i32,
    started_ticks: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Reads a line as proc(5) describes it; the second field, the name, may hold blanks and parentheses.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.get(line.rfind(')')? + 1..)?.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let started_ticks = fields.nth(17)?.parse().ok()?;
        Some(Self {
            state,
            parent,
            started_ticks,
        })
    }

    fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// All living descendants of a process.
fn descendants(root: i32) -> Vec<Process> {
    let living: Vec<(Process, i32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, Stat::read(pid).filter(|stat| !stat.is_dead())?)))
        .map(|(pid, stat)| {
            (
                Process {
                    pid,
                    started_ticks: stat.started_ticks,
                },
                stat.parent,
            )
        })
        .collect();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![root];
    while let Some(of) = parents.pop() {
        for (process, _) in living.iter().filter(|(_, parent)| *parent == of) {
            found.push(*process);
            parents.push(process.pid);
        }
    }
    found
}

#[allow(unsafe_code)]
fn send(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: kill(2) takes two integers and touches no memory of ours.
    if unsafe { libc::kill(pid, signal) } == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ESRCH) {
        return Ok(());
    }
    bail!("cannot send signal {signal} to process {pid}: {error}")
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn shell(script: &str) -> (Child, Process) {
        let child = Command::new("sh").args(["-c", script]).spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        (child, process)
    }

    #[test]
    fn a_killed_process_is_gone_before_it_is_reaped() {
        let (mut child, process) = shell("sleep 600");
        assert!(process.is_alive());
        assert!(!process.wait_gone(Duration::from_millis(50)));
        process.signal_tree(libc::SIGKILL).unwrap();
        assert!(process.wait_gone(Duration::from_secs(10)));
        assert!(is_unreaped(process.pid));
        child.wait().unwrap();
        assert!(!is_unreaped(process.pid));
        process.signal(libc::SIGKILL).unwrap();
    }

    #[test]
    fn another_process_with_the_same_pid_is_not_ours() {
        let (mut child, process) = shell("sleep 600");
        let other = Process {
            started_ticks: process.started_ticks - 1,
            ..process
        };
        assert!(!other.is_alive());
        other.signal(libc::SIGKILL).unwrap();
        other.signal_tree(libc::SIGKILL).unwrap();
        assert!(process.is_alive());
        process.signal_tree(libc::SIGKILL).unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn the_tree_includes_sessions_of_their_own() {
        let (mut child, process) = shell("setsid sleep 600 & wait");
        let deadline = Instant::now() + Duration::from_secs(10);
        while descendants(process.pid).is_empty() && Instant::now() < deadline {
            std::thread::sleep(LOOK_AGAIN);
        }
        let below = descendants(process.pid);
        assert_eq!(below.len(), 1);
        assert!(process.kill_tree(Duration::from_secs(10)).unwrap());
        assert!(!below[0].is_alive());
        child.wait().unwrap();
    }

    #[test]
    fn a_name_with_blanks_and_parentheses_is_read() {
        let line = "12 (a) b (c)) S 7 12 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 2";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(
            (stat.state, stat.parent, stat.started_ticks),
            ('S', 7, 4711)
        );
    }
}
