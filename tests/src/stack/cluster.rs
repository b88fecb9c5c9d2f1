//! PostgreSQL servers beside the stack's own: a primary and its standbys, for tests of failover.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::guard::Guard;
use super::part::Part;
use super::postgres::Postgres;
use super::process::Process;
use super::{launch, ports, readiness};

const STOP_LIMIT: Duration = Duration::from_secs(60);

/// A server with a folder and a port of its own. Dropping it ends the process, as does the end of this one.
#[derive(Debug)]
pub struct Server {
    postgres: Postgres,
    home: PathBuf,
    port: u16,
    settings: BTreeMap<String, String>,
    process: Option<Process>,
    guard: Option<Guard>,
}

impl Server {
    /// Makes a cluster in `dir/name` and starts it. The settings go beside those of the stack's own server.
    ///
    /// # Errors
    /// The version is not installed, or the server does not start.
    pub fn start_new(
        dir: &Path,
        name: &str,
        postgres: Postgres,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let mut server = Self::new(dir.join(name), postgres, settings)?;
        server.start()?;
        Ok(server)
    }

    /// Makes a streaming standby out of a cold copy of `primary`, which is stopped for a moment, and starts both.
    /// The standby connects to `upstream_port`, so that a [`super::Link`] may lie between.
    ///
    /// # Errors
    /// A server does not stop or start, or the data cannot be copied.
    pub fn start_standby(
        primary: &mut Self,
        name: &str,
        upstream_port: u16,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let dir = primary.home.parent().context("a server has no folder")?;
        let mut standby = Self::new(dir.join(name), primary.postgres, settings)?;
        standby.settings.insert(
            "primary_conninfo".to_owned(),
            format!(
                "host=127.0.0.1 port={upstream_port} user=postgres password=postgres dbname=postgres application_name={name}"
            ),
        );
        primary.stop()?;
        fs::create_dir_all(&standby.home)?;
        copy(&primary.home.join("data"), &standby.home.join("data"))?;
        // Slots are the primary's own; what a standby has of them it gets from the primary as it runs.
        for slot in fs::read_dir(standby.home.join("data/pg_replslot"))? {
            fs::remove_dir_all(slot?.path())?;
        }
        let signal = standby.home.join("data/standby.signal");
        fs::write(&signal, "").with_context(|| format!("cannot write {}", signal.display()))?;
        primary.start()?;
        standby.start()?;
        Ok(standby)
    }

    /// Puts a cold copy of its data aside; it is stopped for a moment.
    ///
    /// # Errors
    /// It does not stop or start, or the data cannot be copied.
    pub fn back_up(&mut self) -> Result<()> {
        self.stop()?;
        copy(&self.home.join("data"), &self.home.join("backup"))?;
        self.start()
    }

    /// Puts the copy in the place of its data.
    ///
    /// # Errors
    /// There is no copy, or it does not stop or start.
    pub fn restore(&mut self) -> Result<()> {
        self.stop()?;
        let (data, backup) = (self.home.join("data"), self.home.join("backup"));
        fs::remove_dir_all(&data).with_context(|| format!("cannot remove {}", data.display()))?;
        fs::rename(&backup, &data)
            .with_context(|| format!("cannot rename {}", backup.display()))?;
        self.start()
    }

    fn new(home: PathBuf, postgres: Postgres, settings: &[(&str, &str)]) -> Result<Self> {
        let settings = settings.iter();
        Ok(Self {
            postgres,
            home,
            port: ports::any_free()?,
            settings: settings
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            process: None,
            guard: None,
        })
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    /// It runs, or does not start.
    pub fn start(&mut self) -> Result<()> {
        if self.process.is_some_and(Process::is_alive) {
            bail!("the server in {} runs already", self.home.display());
        }
        if !ports::becomes_free(self.port, STOP_LIMIT) {
            bail!("port {} is taken by another program", self.port);
        }
        let server = self
            .postgres
            .command(&self.home, self.port, &self.settings)?;
        let (log, pids) = (self.home.join("server.log"), self.home.join("pids"));
        let guard = Guard::start(&pids)?;
        let process = launch::spawn(&server, &log)?;
        fs::write(&pids, process.guard_line(Part::Postgres))?;
        self.process = Some(process);
        self.guard = Some(guard);
        readiness::wait(Part::Postgres, self.port, process, &log)
    }

    /// Stops it in good order (a "fast" shutdown).
    ///
    /// # Errors
    /// It does not stop.
    pub fn stop(&mut self) -> Result<()> {
        let Some(process) = self.process.take() else {
            return Ok(());
        };
        process.signal(libc::SIGINT)?;
        if !process.wait_gone(STOP_LIMIT) {
            bail!("the server in {} does not stop", self.home.display());
        }
        Ok(())
    }

    /// SIGKILL, to all of its processes.
    ///
    /// # Errors
    /// It does not run, or is still there.
    pub fn kill(&mut self) -> Result<()> {
        let process = self.process.take().context("the server does not run")?;
        if !process.kill_tree(STOP_LIMIT)? {
            bail!("the server in {} is still there", self.home.display());
        }
        Ok(())
    }

    /// `host:port`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its TCP port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// `postgres://` URL of the superuser for a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres:postgres@{}/{database}", self.address())
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    launch::run(Command::new("cp").arg("-a").arg(from).arg(to))
}

impl Drop for Server {
    fn drop(&mut self) {
        // Asked to stop at once, it removes its shared memory.
        if let Some(process) = self.process.take()
            && (process.signal(libc::SIGQUIT).is_err() || !process.wait_gone(STOP_LIMIT))
        {
            readiness::say(&format!(
                "the server in {} could not be ended",
                self.home.display()
            ));
        }
    }
}
