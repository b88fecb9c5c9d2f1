//! The local stack: real servers on loopback, each of which can be started, stopped, killed and frozen alone.
//!
//! A stack lives in a folder: data, configuration, logs, and `stack.json`, which says what runs where. So it outlives
//! the command that started it, and several processes can work with one stack. `tests/stack/install.sh` installs what
//! the servers are made of.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

mod choice;
mod cluster;
mod control;
mod guard;
mod jdk;
mod launch;
mod link;
mod part;
mod pinned;
mod ports;
mod postgres;
mod process;
mod readiness;
mod secured;
mod server;
mod state;

pub use cluster::Server;
pub use link::Link;
pub use part::{Engine, Part};
pub use ports::Ports;
pub use postgres::{Postgres, postgres_program};
pub use secured::SecuredEngine;
pub use server::{connect, debezium, debezium_jdbc, newest_java};
pub use state::Status;

use choice::{Choice, Wish};
use guard::Guard;
use process::Process;
use readiness::say;
use state::{Folder, PartState, State};

/// How long a stack lives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lifetime {
    /// Until it is stopped, by whom ever.
    #[default]
    Detached,
    /// As long as the [`Stack`] that [`Stack::up`] returns, or its process: then every server is killed.
    Owned,
}

/// What [`Stack::up`] starts, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The parts to start.
    pub parts: Vec<Part>,
    /// The ports of a new stack; one that exists keeps its own.
    pub ports: Ports,
    /// The search engine of a new stack; `None` is what `TRIBUTARY_ENGINE` says, else OpenSearch.
    pub engine: Option<Engine>,
    /// The version of PostgreSQL of a new stack; `None` is what `TRIBUTARY_POSTGRES` says, else Debian's.
    pub postgres: Option<Postgres>,
    /// The release line of a new stack's registry; `None` is what `TRIBUTARY_REGISTRY_VERSION` says, else the newest that
    /// the JDK runs.
    pub registry: Option<String>,
    /// Settings of Postgres beside the stack's own, such as `wal_level` = `replica`, for a new stack.
    pub postgres_settings: BTreeMap<String, String>,
    /// How long the servers live.
    pub lifetime: Lifetime,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            parts: Part::ALL.to_vec(),
            ports: Ports::default(),
            engine: None,
            postgres: None,
            registry: None,
            postgres_settings: BTreeMap::new(),
            lifetime: Lifetime::default(),
        }
    }
}

/// A stack, running or not.
#[derive(Debug)]
pub struct Stack {
    folder: Folder,
    /// As it was at the beginning: ports, URLs and versions do not change, processes do and are read anew.
    known: State,
    /// What this object started, to be ended with it even if its folder is gone by then.
    started: Mutex<Vec<Process>>,
    guard: Option<Guard>,
}

impl Stack {
    /// Starts the parts wanted that do not run, and waits until each of them serves.
    ///
    /// # Errors
    /// Something is not installed, a port is taken, the stack has other versions than those asked for, or a server does not start (with the end of its log).
    pub fn up(dir: &Path, options: &Options) -> Result<Self> {
        let folder = Folder::create(dir)?;
        let lock = folder.lock()?;
        let wish = Wish::read(options.engine, options.postgres, options.registry.clone())?;
        let mut known = match folder.read()? {
            Some(state) => {
                wish.is_met_by(&state.choice, folder.path())?;
                state
            }
            None => new_state(&folder, options, wish.or_default()?)?,
        };
        known.renew_versions(server::version)?;
        folder.write(&known)?;
        let guard = match options.lifetime {
            Lifetime::Owned => Some(Guard::start(&folder.pids())?),
            Lifetime::Detached => None,
        };
        let stack = Self {
            folder,
            known,
            started: Mutex::default(),
            guard,
        };
        let started = stack.launch(&options.parts);
        drop(lock);
        let started = started?;
        stack.wait(&started)?;
        Ok(stack)
    }

    /// A stack that [`Stack::up`] made before, as it is.
    ///
    /// # Errors
    /// There is none in this folder.
    pub fn attach(dir: &Path) -> Result<Self> {
        let folder = Folder::open(dir)?;
        match folder.read()? {
            Some(known) => Ok(Self {
                folder,
                known,
                started: Mutex::default(),
                guard: None,
            }),
            None => bail!(
                "there is no stack in {}: start one with `make up`",
                dir.display()
            ),
        }
    }

    /// The stack that `TRIBUTARY_STACK_DIR` names, as `make test` sets it.
    ///
    /// # Errors
    /// The variable is not set, or there is no stack.
    pub fn from_env() -> Result<Self> {
        let dir = std::env::var_os("TRIBUTARY_STACK_DIR");
        Self::attach(Path::new(&dir.context(
            "TRIBUTARY_STACK_DIR is not set: run `make test`, or `stack env`",
        )?))
    }

    /// The folder of the stack, absolute.
    pub fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// `postgres://` URL of the superuser, with password and database.
    pub fn postgres_url(&self) -> &str {
        self.url(Part::Postgres)
    }

    /// `host:port` of the broker.
    pub fn kafka(&self) -> &str {
        self.url(Part::Kafka)
    }

    /// URL of the registry's Confluent API, its path included.
    pub fn registry_url(&self) -> &str {
        self.url(Part::Registry)
    }

    /// URL of the search engine.
    pub fn search_url(&self) -> &str {
        self.url(Part::Search)
    }

    /// What serves as the search engine.
    pub fn engine(&self) -> Engine {
        self.known.choice.engine
    }

    /// The version of PostgreSQL.
    pub fn postgres(&self) -> Postgres {
        self.known.choice.postgres
    }

    /// The version of each server.
    pub fn versions(&self) -> BTreeMap<Part, String> {
        self.known
            .parts
            .iter()
            .map(|(part, entry)| (*part, entry.version.clone()))
            .collect()
    }

    /// The log of all runs of a part.
    pub fn log_path(&self, part: Part) -> PathBuf {
        self.folder.log(part)
    }

    /// The environment in which tests and programs find this stack.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("TRIBUTARY_STACK_DIR", self.dir().display().to_string()),
            ("TRIBUTARY_POSTGRES_URL", self.postgres_url().to_owned()),
            ("TRIBUTARY_KAFKA", self.kafka().to_owned()),
            ("TRIBUTARY_REGISTRY", self.registry_url().to_owned()),
            ("TRIBUTARY_SEARCH", self.search_url().to_owned()),
        ]
    }

    /// Runs a command to its end, in a process group that ends with this process too.
    ///
    /// # Errors
    /// The command cannot be started.
    pub fn run(&self, command: &mut Command) -> Result<ExitStatus> {
        use std::os::unix::process::CommandExt;
        let pids = self.folder.path().join("command.pids");
        let _guard = Guard::start(&pids)?;
        let mut child = command
            .envs(self.environment())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.get_program()))?;
        fs::write(&pids, Process::of(child.id())?.guard_line_of_group())?;
        Ok(child.wait()?)
    }

    /// Sees to it that processes of ours end with this process, however that ends.
    ///
    /// # Errors
    /// One of them does not run, or the watch cannot be started.
    pub fn watch(&self, pids: &[u32]) -> Result<Watch> {
        let list = self.folder.path().join("watch.pids");
        let guard = Guard::start(&list)?;
        let lines: Result<String> = pids
            .iter()
            .map(|pid| Ok(Process::of(*pid)?.guard_line_of_process()))
            .collect();
        fs::write(&list, lines?)?;
        Ok(Watch { _guard: guard })
    }

    /// Removes the data of all parts, which must be down; the logs and `stack.json` stay.
    ///
    /// # Errors
    /// A part runs, or a folder cannot be removed.
    pub fn remove_data(&self) -> Result<()> {
        let _lock = self.folder.lock()?;
        for part in Part::ALL {
            if self.process(part)?.is_some() {
                bail!("{part} runs: stop it before its data are removed");
            }
            let home = self.folder.of(part);
            if home.exists() {
                fs::remove_dir_all(&home)
                    .with_context(|| format!("cannot remove {}", home.display()))?;
            }
        }
        Ok(())
    }

    fn url(&self, part: Part) -> &str {
        self.known.parts.get(&part).map_or("", |entry| &entry.url)
    }
}

/// The watch over some processes; dropping it lets them be.
#[derive(Debug)]
pub struct Watch {
    _guard: Guard,
}

impl Drop for Stack {
    fn drop(&mut self) {
        if self.guard.is_some()
            && let Err(error) = self.destroy()
        {
            say(&format!("not all servers could be ended: {error:#}"));
        }
    }
}

fn new_state(folder: &Folder, options: &Options, choice: Choice) -> Result<State> {
    let mut state = State::new(choice, options.postgres_settings.clone());
    for (part, ports) in ports::choose(&options.ports)? {
        let port = ports.port;
        let url = match part {
            Part::Postgres => format!("postgres://postgres:postgres@127.0.0.1:{port}/postgres"),
            Part::Kafka => format!("127.0.0.1:{port}"),
            Part::Registry => format!("http://127.0.0.1:{port}/apis/ccompat/v7"),
            Part::Search => format!("http://127.0.0.1:{port}"),
        };
        let (inner_port, version, log) = (
            ports.inner_port,
            server::version(part, &state.choice)?,
            folder.log(part),
        );
        state.parts.insert(
            part,
            PartState {
                port,
                inner_port,
                url,
                version,
                log,
                process: None,
            },
        );
    }
    Ok(state)
}
