//! Ends the servers of an owned stack when its owner is gone, however it went: also by SIGKILL.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use super::part::Part;
use super::process::Process;

/// Waits for the end of its input, which comes with the end of the owner, and then signals what is in the list of
/// processes: a line has the signal, whom to send it to (a pid, or a group as -pid), pid and start time (field 22 of
/// stat, the 20th after the name).
const SCRIPT: &str = r#"
cat > /dev/null
while read -r signal whom pid started; do
    set -- $(sed 's/.*) //' "/proc/$pid/stat" 2> /dev/null)
    if [ "${20:-}" = "$started" ]; then
        kill -s "$signal" -- "$whom"
        kill -s CONT -- "$whom"
    fi
done < "$0"
"#;

/// The shell that waits; dropped together with its stack.
#[derive(Debug)]
pub(super) struct Guard(Child);

impl Guard {
    /// Starts to watch over the processes that the file lists at that time.
    pub(super) fn start(pids: &Path) -> Result<Self> {
        let mut command = Command::new("setsid");
        command.args(["sh", "-c", SCRIPT]).arg(pids);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
            .spawn()
            .map(Self)
            .context("cannot start the shell that guards the stack")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // It is our own child and not reaped yet, so neither call can hit another process.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// The line that tells the guard of this process. Postgres is asked to stop at once, as only so it removes its
    /// shared memory; nobody needs the data of the others any more.
    pub(super) fn guard_line(self, part: Part) -> String {
        let signal = if part == Part::Postgres {
            "QUIT"
        } else {
            "KILL"
        };
        format!("{signal} {0} {0} {1}\n", self.pid, self.started_ticks())
    }

    /// The same for a process that is no part of a stack.
    pub(super) fn guard_line_of_process(self) -> String {
        format!("KILL {0} {0} {1}\n", self.pid, self.started_ticks())
    }

    /// The same for a command and all that is in its process group.
    pub(super) fn guard_line_of_group(self) -> String {
        format!("KILL -{0} {0} {1}\n", self.pid, self.started_ticks())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn servers_end_with_their_owner() {
        let dir = tempfile::tempdir().unwrap();
        let pids = dir.path().join("pids");
        let mut server = Command::new("sleep").arg("600").spawn().unwrap();
        let process = Process::of(server.id()).unwrap();
        let mut guard = Guard::start(&pids).unwrap();
        std::fs::write(&pids, process.guard_line(Part::Kafka)).unwrap();
        assert!(process.is_alive());
        drop(guard.0.stdin.take());
        assert!(process.wait_gone(Duration::from_secs(10)));
        server.wait().unwrap();
    }

    #[test]
    fn a_process_that_only_has_the_pid_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let pids = dir.path().join("pids");
        let mut server = Command::new("sleep").arg("600").spawn().unwrap();
        let process = Process::of(server.id()).unwrap();
        std::fs::write(
            &pids,
            format!(
                "KILL {0} {0} {1}\n",
                process.pid,
                process.started_ticks() + 1
            ),
        )
        .unwrap();
        let mut guard = Guard::start(&pids).unwrap();
        drop(guard.0.stdin.take());
        guard.0.wait().unwrap();
        assert!(process.is_alive());
        server.kill().unwrap();
        server.wait().unwrap();
    }
}
