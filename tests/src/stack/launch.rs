//! How a server is started: in a session of its own, as a user that it accepts, its output in a log.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::process::Process;

/// Who a server runs as, and who its files belong to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Account {
    /// Whoever runs the stack.
    Own,
    /// Another user, as the stack runs as root and the server refuses that.
    Other { uid: u32, gid: u32 },
}

impl Account {
    /// This user if we are root, else our own.
    pub(super) fn if_root(user: &str) -> Result<Self> {
        let us = fs::metadata("/proc/self")
            .context("cannot see who we are in /proc/self")?
            .uid();
        if us != 0 {
            return Ok(Account::Own);
        }
        Ok(Account::Other {
            uid: id("-u", user)?,
            gid: id("-g", user)?,
        })
    }

    /// A command that runs the program as this user. As what it must read may lie below folders that are closed to
    /// this user (such as /root), it keeps the right to read that root has.
    pub(super) fn command(self, program: impl AsRef<OsStr>) -> Command {
        let Account::Other { uid, gid } = self else {
            return Command::new(program);
        };
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--reuid={uid}"))
            .arg(format!("--regid={gid}"))
            .arg("--clear-groups");
        command.args(reading_rights());
        command.arg(program);
        command
    }

    /// Makes a folder that belongs to this user.
    pub(super) fn folder(self, path: &Path) -> Result<()> {
        fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
        self.give(path)
    }

    /// Gives a file or folder to this user.
    pub(super) fn give(self, path: &Path) -> Result<()> {
        let Account::Other { uid, gid } = self else {
            return Ok(());
        };
        chown(path, Some(uid), Some(gid))
            .with_context(|| format!("cannot give {} to user {uid}", path.display()))
    }
}

fn id(flag: &str, user: &str) -> Result<u32> {
    let output = Command::new("id")
        .args([flag, user])
        .output()
        .context("cannot run id")?;
    if !output.status.success() {
        bail!(
            "there is no user '{user}', as whom the server would run: run tests/stack/install.sh"
        );
    }
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .parse()
        .with_context(|| format!("id {flag} {user} printed '{}'", text.trim()))
}

/// Options of setpriv(1) by which a process keeps our right to read everything: the narrowest capability for it that
/// we have ourselves (a container may lack the first).
fn reading_rights() -> Vec<String> {
    const DAC_OVERRIDE: u64 = 1 << 1;
    const DAC_READ_SEARCH: u64 = 1 << 2;
    const SETPCAP: u64 = 1 << 8;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .unwrap_or_default();
    let effective = u64::from_str_radix(effective.trim(), 16).unwrap_or_default();
    let right = if effective & DAC_READ_SEARCH != 0 {
        "dac_read_search"
    } else if effective & DAC_OVERRIDE != 0 {
        "dac_override"
    } else {
        return Vec::new();
    };
    let mut options = vec![
        format!("--inh-caps=-all,+{right}"),
        format!("--ambient-caps=+{right}"),
    ];
    if effective & SETPCAP != 0 {
        // access(2), by which Java looks whether a file exists, otherwise forgets the capabilities of whoever is not root.
        options.push("--securebits=+no_setuid_fixup".to_owned());
    }
    options
}

/// Runs a command that prepares something, to its end; what it printed is in the error if it fails.
pub(super) fn run(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {:?}", command.get_program()))?;
    if !output.status.success() {
        let printed = [output.stdout, output.stderr].concat();
        bail!(
            "{command:?} failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&printed).trim()
        );
    }
    Ok(())
}

/// Starts a server in a session of its own, so that no terminal's signal reaches it.
pub(super) fn spawn(server: &Command, log: &Path) -> Result<Process> {
    let output = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot open the log {}", log.display()))?;
    // setsid(1) makes the session and then becomes the server: the process keeps its id.
    let mut command = Command::new("setsid");
    command.arg(server.get_program()).args(server.get_args());
    for (name, value) in server.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if let Some(dir) = server.get_current_dir() {
        command.current_dir(dir);
    }
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {server:?}"))?;
    let process = Process::of(child.id())?;
    // Collects the server as soon as it ends, whoever ends it.
    std::thread::Builder::new()
        .name("reaper".to_owned())
        .spawn(move || child.wait())?;
    Ok(process)
}

/// The last lines of a log, for an error message.
pub(super) fn last_lines(log: &Path) -> String {
    const LINES: usize = 20;
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// Fills `{name}` places of a configuration file, and writes it.
pub(super) fn configure(
    path: &Path,
    template: &str,
    places: &[(&str, &dyn std::fmt::Display)],
) -> Result<()> {
    let mut text = template.to_owned();
    for (name, value) in places {
        text = text.replace(&format!("{{{name}}}"), &value.to_string());
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Where `install.sh` put the Java servers.
pub(super) fn cached(component: &str, version: &str) -> Result<PathBuf> {
    let cache = match (
        std::env::var_os("TRIBUTARY_CACHE"),
        std::env::var_os("HOME"),
    ) {
        (Some(cache), _) if !cache.is_empty() => PathBuf::from(cache),
        (_, Some(home)) => Path::new(&home).join(".cache/tributary"),
        _ => bail!("neither TRIBUTARY_CACHE nor HOME is set: where is the cache of install.sh?"),
    };
    let folder = cache.join(format!("{component}-{version}"));
    if !folder.is_dir() {
        bail!(
            "{} is missing: run tests/stack/install.sh",
            folder.display()
        );
    }
    Ok(folder)
}
