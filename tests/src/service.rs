//! The services under test, as processes: started, watched, killed by their ids.

use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Which binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `tributary-source`
    Source,
    /// `tributary-sink-elastic`
    SinkElastic,
    /// `tributary-sink-redshift`
    SinkRedshift,
}

impl Kind {
    /// The binary's name.
    pub const fn binary(self) -> &'static str {
        match self {
            Self::Source => "tributary-source",
            Self::SinkElastic => "tributary-sink-elastic",
            Self::SinkRedshift => "tributary-sink-redshift",
        }
    }

    /// Where the binary is: `TRIBUTARY_BIN_DIR`, which `make` sets, or beside the test's own.
    ///
    /// # Errors
    /// It is not there.
    pub fn path(self) -> Result<PathBuf> {
        let dir = match std::env::var_os("TRIBUTARY_BIN_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => {
                let own = std::env::current_exe()?;
                let dir = own.parent().context("the test has no folder")?;
                if dir.ends_with("deps") {
                    dir.join("..")
                } else {
                    dir.to_owned()
                }
            }
        };
        let path = dir.join(self.binary());
        if !path.exists() {
            bail!(
                "{} is not built: run `make build`, or set TRIBUTARY_BIN_DIR",
                path.display()
            );
        }
        Ok(path)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.binary())
    }
}

/// A service with a configuration file, a log and an HTTP port of its own. Dropping it kills the process.
#[derive(Debug)]
pub struct Service {
    kind: Kind,
    /// The folder of its binary, where that is another build than [`Kind::path`]'s.
    build: Option<PathBuf>,
    config: PathBuf,
    log: PathBuf,
    http: SocketAddr,
    child: Option<Child>,
}

impl Service {
    /// Writes the configuration (`[http]` and `[log]` are added) into `dir`; starts nothing yet. `name` tells
    /// instances apart.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn new(kind: Kind, dir: &Path, name: &str, config: &str) -> Result<Self> {
        fs::create_dir_all(dir)?;
        // Chosen now, so that a restarted service is found at the same address.
        let http = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let path = dir.join(format!("{name}.toml"));
        fs::write(
            &path,
            format!("{config}\n[http]\nlisten = \"{http}\"\n[log]\nlevel = \"info\"\n"),
        )?;
        Ok(Self {
            kind,
            build: None,
            config: path,
            log: dir.join(format!("{name}.log")),
            http,
            child: None,
        })
    }

    /// From the next start on it is the binary in this folder; without one that of [`Kind::path`].
    pub fn use_build(&mut self, folder: Option<PathBuf>) {
        self.build = folder;
    }

    /// Its binary.
    ///
    /// # Errors
    /// It is not there.
    pub fn binary(&self) -> Result<PathBuf> {
        match &self.build {
            Some(folder) => Ok(folder.join(self.kind.binary())),
            None => self.kind.path(),
        }
    }

    /// Its configuration file.
    pub fn config_path(&self) -> &Path {
        &self.config
    }

    /// Starts the process; its output goes to the end of the log.
    ///
    /// # Errors
    /// It runs already, or cannot be started.
    pub fn start(&mut self) -> Result<()> {
        self.start_with(&[])
    }

    /// As [`Service::start`], with further arguments of `run`.
    ///
    /// # Errors
    /// The same.
    pub fn start_with(&mut self, arguments: &[&str]) -> Result<()> {
        self.launch(arguments, &[])
    }

    /// As [`Service::start`], to be killed by itself at a failpoint: `name`, or `name:N` for its N-th hit.
    ///
    /// # Errors
    /// The same.
    pub fn start_armed(&mut self, failpoint: &str) -> Result<()> {
        self.start_armed_with(&[], failpoint)
    }

    /// Both: see [`Service::start_with`] and [`Service::start_armed`].
    ///
    /// # Errors
    /// The same.
    pub fn start_armed_with(&mut self, arguments: &[&str], failpoint: &str) -> Result<()> {
        self.launch(arguments, &[("TRIBUTARY_FAILPOINT", failpoint)])
    }

    /// As [`Service::start`], to wait at a failpoint or a pause for as long as the file exists; meanwhile there is another
    /// one beside it, with the extension `held`.
    ///
    /// # Errors
    /// The same.
    pub fn start_paused(&mut self, pause: &str, file: &Path) -> Result<()> {
        let pause = format!("{pause}:{}", file.display());
        self.launch(&[], &[("TRIBUTARY_PAUSE", &pause)])
    }

    fn launch(&mut self, arguments: &[&str], environment: &[(&str, &str)]) -> Result<()> {
        if self.is_running()? {
            bail!("{} runs already", self.kind);
        }
        let log = File::options().create(true).append(true).open(&self.log)?;
        let child = Command::new(self.binary()?)
            .args(["run", "--config"])
            .arg(&self.config)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", self.kind))?;
        self.child = Some(child);
        Ok(())
    }

    /// Runs one of the binary's commands with this service's configuration, to its end: exit code, stdout, stderr.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn command(&self, arguments: &[&str]) -> Result<(i32, String, String)> {
        let done = Command::new(self.binary()?)
            .args(arguments)
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("start {}", self.kind))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = done.status.code().context("ended by a signal")?;
        Ok((code, text(&done.stdout), text(&done.stderr)))
    }

    /// Which binary it is.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether the process lives.
    ///
    /// # Errors
    /// The system does not say.
    pub fn is_running(&mut self) -> Result<bool> {
        match &mut self.child {
            None => Ok(false),
            Some(child) => Ok(child.try_wait()?.is_none()),
        }
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// It did not run: a kill that hits nobody would prove nothing.
    pub fn kill(&mut self) -> Result<()> {
        if !self.is_running()? {
            bail!(
                "{} has ended by itself; its log ends:\n{}",
                self.kind,
                self.log_tail()
            );
        }
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// It did not run, or does not end within `timeout`.
    pub fn stop(&mut self, timeout: Duration) -> Result<ExitStatus> {
        if !self.is_running()? {
            bail!(
                "{} has ended by itself; its log ends:\n{}",
                self.kind,
                self.log_tail()
            );
        }
        self.signal(libc::SIGTERM)?;
        self.wait(timeout)
    }

    /// SIGSTOP: it does nothing any more, and holds what it holds.
    ///
    /// # Errors
    /// It did not run.
    pub fn freeze(&self) -> Result<()> {
        self.signal(libc::SIGSTOP)
    }

    /// SIGCONT: it goes on as if no time had passed.
    ///
    /// # Errors
    /// It did not run.
    pub fn thaw(&self) -> Result<()> {
        self.signal(libc::SIGCONT)
    }

    fn signal(&self, signal: i32) -> Result<()> {
        let pid = i32::try_from(self.pid().context("no process")?)?;
        // SAFETY: kill(2) takes no pointers; the pid is our own unreaped child's, so it cannot be anyone else's.
        #[allow(unsafe_code)]
        if unsafe { libc::kill(pid, signal) } != 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        Ok(())
    }

    /// Lets the process go on without us; its id, if it runs.
    pub fn leave(mut self) -> Option<u32> {
        self.child.take().map(|child| child.id())
    }

    /// Where it serves `/metrics`, `/health` and `/ready`.
    pub const fn http(&self) -> SocketAddr {
        self.http
    }

    /// Waits until the process ends by itself.
    ///
    /// # Errors
    /// It does not within `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        let child = self.child.as_mut().context("the service was not started")?;
        loop {
            if let Some(status) = child.try_wait()? {
                self.child = None;
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!(
                    "{} does not end within {timeout:?}; its log ends:\n{}",
                    self.kind,
                    self.log_tail()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until `/ready` says 200.
    ///
    /// # Errors
    /// The process ends, or is not ready within `timeout`.
    pub fn wait_ready(&mut self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        while !self.get("/ready").is_ok_and(|(status, _)| status == 200) {
            if !self.is_running()? {
                bail!(
                    "{} has ended; its log ends:\n{}",
                    self.kind,
                    self.log_tail()
                );
            }
            if Instant::now() >= deadline {
                bail!(
                    "{} is not ready within {timeout:?}; its log ends:\n{}",
                    self.kind,
                    self.log_tail()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The sum of a metric's values over all its labels; `None` if it was not recorded, or nobody answers.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let (_, body) = self.get("/metrics").ok()?;
        let mut sum = None;
        for line in body
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
        {
            let (series, value) = line.rsplit_once(' ')?;
            if series.split('{').next() == Some(name) {
                *sum.get_or_insert(0.0) += value.parse::<f64>().ok()?;
            }
        }
        sum
    }

    /// GET of a path on the service's HTTP port: status and body.
    ///
    /// # Errors
    /// Nobody answers within 2 s.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&self.http, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.http)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        Ok((status, body.to_owned()))
    }

    /// The peak resident size in bytes so far (`VmHWM`).
    ///
    /// # Errors
    /// The process does not run.
    pub fn peak_resident_bytes(&self) -> Result<u64> {
        crate::usage::peak_resident_bytes(self.pid().context("not running")?)
    }

    /// CPU seconds used so far, user and system.
    ///
    /// # Errors
    /// It does not run.
    pub fn cpu_seconds(&self) -> Result<f64> {
        crate::usage::cpu_seconds(self.pid().context("not running")?)
    }

    /// The whole log.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The log's last lines.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
