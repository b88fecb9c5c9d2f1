//! Kafka Connect with Debezium's Postgres connector, as a process.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config};

use super::java::{java, peer};
use crate::stack::Stack;

const POLL: Duration = Duration::from_millis(50);

/// What is to be captured, and how.
#[derive(Debug)]
pub struct Connector<'a> {
    /// URL of the database.
    pub database: &'a str,
    /// The first part of the topics' names; slot and publication are called so too.
    pub prefix: &'a str,
    /// Settings beside those that say where everything is.
    pub settings: &'a [(&'a str, &'a str)],
}

/// A worker with one connector. Dropping it kills the process.
#[derive(Debug)]
pub struct Connect {
    child: Child,
    log: PathBuf,
    slot: String,
}

impl Connect {
    /// Starts the worker; its configuration, offsets and log go into `dir`.
    ///
    /// # Errors
    /// Debezium is not installed, or a file cannot be written.
    pub fn start(stack: &Stack, dir: &Path, connector: &Connector<'_>) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let (worker, task) = (
            dir.join("connect.properties"),
            dir.join("debezium.properties"),
        );
        fs::write(&worker, worker_properties(stack, dir)?)?;
        fs::write(&task, connector_properties(connector)?)?;
        let log = dir.join("connect.log");
        let output = File::create(&log)?;
        let child = java(&["-Xmx512m"], None)?
            .arg("org.apache.kafka.connect.cli.ConnectStandalone")
            .args([worker, task])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("start Kafka Connect")?;
        Ok(Self {
            child,
            log,
            slot: connector.prefix.to_owned(),
        })
    }

    /// Waits until the first snapshot is done and the stream is read: only then somebody holds the slot.
    ///
    /// # Errors
    /// The worker ends, or does not get there within `timeout`.
    pub async fn wait_streaming(&mut self, client: &Client, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            let held = client
                .query_opt(
                    "SELECT active FROM pg_replication_slots WHERE slot_name = $1",
                    &[&self.slot],
                )
                .await?;
            if held.is_some_and(|row| row.get(0)) {
                return Ok(());
            }
            if self.child.try_wait()?.is_some() || Instant::now() >= deadline {
                bail!(
                    "Debezium does not stream; its log ends:\n{}",
                    self.log_tail()
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The process' id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops the worker, which notes its offsets; its slot stays, and another one with the same folder goes on.
    ///
    /// # Errors
    /// It does not end within `timeout`.
    pub fn stop(mut self, timeout: Duration) -> Result<()> {
        let pid = i32::try_from(self.child.id())?;
        // SAFETY: kill(2) takes no pointers; the pid is our own unreaped child's, so it cannot be anyone else's.
        #[allow(unsafe_code)]
        if unsafe { libc::kill(pid, libc::SIGTERM) } != 0 {
            return Err(std::io::Error::last_os_error().into());
        }
        let deadline = Instant::now() + timeout;
        while self.child.try_wait()?.is_none() {
            if Instant::now() >= deadline {
                bail!("Debezium does not end; its log ends:\n{}", self.log_tail());
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Kills the worker and drops its slot, which would keep the WAL for ever.
    ///
    /// # Errors
    /// The slot is not released.
    pub async fn end(mut self, client: &Client, timeout: Duration) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        let deadline = Instant::now() + timeout;
        let sql = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1 AND NOT active";
        while client.execute(sql, &[&self.slot]).await? == 0 {
            if Instant::now() >= deadline {
                bail!("slot {} is still held, or was never made", self.slot);
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// The last lines of the worker's log.
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}

impl Drop for Connect {
    fn drop(&mut self) {
        // Our own child, not reaped yet or known to be: neither call can hit another process.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The URL of Apicurio's own API, which its converter speaks.
pub(super) fn registry_api(stack: &Stack) -> Result<String> {
    let (base, _) = stack
        .registry_url()
        .split_once("/apis/")
        .context("the registry is not Apicurio")?;
    Ok(format!("{base}/apis/registry/v2"))
}

fn worker_properties(stack: &Stack, dir: &Path) -> Result<String> {
    let mut lines = vec![
        format!("bootstrap.servers={}", stack.kafka()),
        format!("plugin.path={}", peer()?.join("plugins").display()),
        format!(
            "offset.storage.file.filename={}",
            dir.join("offsets").display()
        ),
        "listeners=http://127.0.0.1:0".to_owned(),
    ];
    for converter in ["key.converter", "value.converter"] {
        lines.push(format!(
            "{converter}=io.apicurio.registry.utils.converter.AvroConverter"
        ));
        for (name, value) in [
            ("url", registry_api(stack)?.as_str()),
            ("auto-register", "true"),
            ("find-latest", "true"),
            // As the Confluent wire format has it: the id before the datum, and it is the content's.
            ("headers.enabled", "false"),
            ("as-confluent", "true"),
            ("use-id", "contentId"),
        ] {
            lines.push(format!("{converter}.apicurio.registry.{name}={value}"));
        }
    }
    Ok(lines.join("\n"))
}

fn connector_properties(connector: &Connector<'_>) -> Result<String> {
    let url: Config = connector.database.parse()?;
    let Some(Host::Tcp(host)) = url.get_hosts().first() else {
        bail!("the database has no host");
    };
    let port = url.get_ports().first().copied().unwrap_or(5432).to_string();
    let password = String::from_utf8_lossy(url.get_password().unwrap_or_default());
    let prefix = connector.prefix;
    let mut settings = vec![
        ("name", prefix),
        (
            "connector.class",
            "io.debezium.connector.postgresql.PostgresConnector",
        ),
        ("database.hostname", host),
        ("database.port", &port),
        ("database.user", url.get_user().unwrap_or_default()),
        ("database.password", &password),
        ("database.dbname", url.get_dbname().unwrap_or_default()),
        ("topic.prefix", prefix),
        ("plugin.name", "pgoutput"),
        ("slot.name", prefix),
        ("publication.name", prefix),
        ("publication.autocreate.mode", "filtered"),
        ("topic.creation.default.replication.factor", "1"),
        ("topic.creation.default.partitions", "1"),
    ];
    settings.extend(connector.settings);
    let lines: Vec<String> = settings
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    Ok(lines.join("\n"))
}
