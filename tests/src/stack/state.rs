//! What is known of a stack between commands and between processes: `stack.json` in its folder.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::choice::Choice;
use super::part::Part;
use super::process::Process;

const FORMAT: u32 = 1;

/// The content of `stack.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    format: u32,
    #[serde(flatten)]
    pub(super) choice: Choice,
    /// Settings of Postgres beside the stack's own.
    pub(super) postgres_settings: BTreeMap<String, String>,
    pub(super) parts: BTreeMap<Part, PartState>,
}

/// What is known of one part.
#[derive(Debug, Clone)]
pub struct Status {
    /// The part.
    pub part: Part,
    /// Whether it serves now.
    pub up: bool,
    /// Where it listens.
    pub url: String,
    /// The version of the server.
    pub version: String,
    /// Its process, if that lives.
    pub pid: Option<i32>,
    /// The log of all its runs.
    pub log: PathBuf,
}

/// One part's entry. All parts have one, also those that were never started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct PartState {
    pub(super) port: u16,
    pub(super) inner_port: Option<u16>,
    pub(super) url: String,
    pub(super) version: String,
    pub(super) log: PathBuf,
    /// The process that was last started, alive or not.
    pub(super) process: Option<Process>,
}

impl State {
    pub(super) fn new(choice: Choice, postgres_settings: BTreeMap<String, String>) -> Self {
        Self {
            format: FORMAT,
            choice,
            postgres_settings,
            parts: BTreeMap::new(),
        }
    }

    /// Notes which version a part that does not run would have now: what is installed may have changed since.
    pub(super) fn renew_versions(
        &mut self,
        version: impl Fn(Part, &Choice) -> Result<String>,
    ) -> Result<()> {
        for (part, entry) in &mut self.parts {
            if !entry.process.is_some_and(Process::is_alive) {
                entry.version = version(*part, &self.choice)?;
            }
        }
        Ok(())
    }

    /// The entry of a part.
    ///
    /// # Errors
    /// The file has none, so it was not written by this program.
    pub(super) fn part(&self, part: Part) -> Result<&PartState> {
        self.parts
            .get(&part)
            .with_context(|| format!("stack.json has no entry for {part}"))
    }
}

/// The folder of a stack, absolute.
#[derive(Debug, Clone)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes the folder if there is none.
    pub(super) fn create(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir.join("logs"))
            .with_context(|| format!("cannot create {}", dir.display()))?;
        Self::open(dir)
    }

    /// The folder as it is.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        match dir.canonicalize() {
            Ok(dir) => Ok(Self(dir)),
            Err(error) => bail!("there is no stack in {}: {error}", dir.display()),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// What belongs to one part: its data and configuration.
    pub(super) fn of(&self, part: Part) -> PathBuf {
        self.0.join(part.name())
    }

    pub(super) fn log(&self, part: Part) -> PathBuf {
        self.0.join("logs").join(format!("{part}.log"))
    }

    /// The processes, one on a line, for the guard of an owned stack.
    pub(super) fn pids(&self) -> PathBuf {
        self.0.join("pids")
    }

    /// Keeps other commands from changing this stack until the lock is dropped.
    pub(super) fn lock(&self) -> Result<File> {
        let path = self.0.join("lock");
        let file =
            File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        file.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(file)
    }

    /// What `stack.json` says; nothing if there is no such file.
    pub(super) fn read(&self) -> Result<Option<State>> {
        let path = self.0.join("stack.json");
        if !path.exists() {
            return Ok(None);
        }
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let state: State = serde_json::from_str(&text).with_context(|| {
            format!(
                "{} is not readable: stop its servers and remove the folder",
                path.display()
            )
        })?;
        if state.format != FORMAT {
            bail!(
                "{} has format {}, this program knows {FORMAT}",
                path.display(),
                state.format
            );
        }
        Ok(Some(state))
    }

    /// Writes `stack.json`, and the list of processes for the guard; a reader sees the old file or the new one.
    pub(super) fn write(&self, state: &State) -> Result<()> {
        let pids = state
            .parts
            .iter()
            .filter_map(|(part, entry)| Some(entry.process?.guard_line(*part)))
            .collect::<Vec<_>>()
            .concat();
        self.replace("stack.json", &serde_json::to_string_pretty(state)?)?;
        self.replace("pids", &pids)
    }

    fn replace(&self, name: &str, content: &str) -> Result<()> {
        let (path, new) = (self.0.join(name), self.0.join(format!("{name}.new")));
        fs::write(&new, content)
            .and_then(|()| fs::rename(&new, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_a_stack_has_no_state() {
        let dir = tempfile::tempdir().unwrap();
        assert!(
            Folder::create(dir.path())
                .unwrap()
                .read()
                .unwrap()
                .is_none()
        );
        let missing = Folder::open(&dir.path().join("none"))
            .unwrap_err()
            .to_string();
        assert!(missing.starts_with("there is no stack in "), "{missing}");
    }

    #[test]
    fn an_unknown_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::create(dir.path()).unwrap();
        let choice = serde_json::from_str(r#"{"engine": "opensearch"}"#).unwrap();
        let mut state = State::new(choice, BTreeMap::new());
        folder.write(&state).unwrap();
        assert!(folder.read().unwrap().is_some());
        state.format = 2;
        folder.write(&state).unwrap();
        let error = folder.read().unwrap_err().to_string();
        assert!(
            error.ends_with("has format 2, this program knows 1"),
            "{error}"
        );
    }
}
