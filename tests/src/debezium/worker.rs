//! Kafka Connect with one connector, as a process.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result};
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::java::{Jvm, java};
use crate::stack::Stack;

/// A worker. Dropping it kills the process.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) child: Child,
    log: PathBuf,
}

impl Worker {
    /// Starts it with the connector that these settings make, which is in one of the `plugins`; its configuration, offsets
    /// and log go into `dir`.
    ///
    /// # Errors
    /// Debezium is not installed, or a file cannot be written.
    pub(super) fn start(
        stack: &Stack,
        dir: &Path,
        jvm: Jvm,
        plugins: &[PathBuf],
        connector: &[(&str, &str)],
    ) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let (worker, task) = (
            dir.join("connect.properties"),
            dir.join("connector.properties"),
        );
        let settings = connector
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        fs::write(&worker, properties(stack, dir, plugins)?)?;
        fs::write(&task, settings.collect::<Vec<_>>().join("\n"))?;
        let log = dir.join("connect.log");
        let output = File::create(&log)?;
        let child = java(jvm, None)?
            .arg("org.apache.kafka.connect.cli.ConnectStandalone")
            .args([worker, task])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("start Kafka Connect")?;
        Ok(Self { child, log })
    }

    /// The log.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The log's last lines.
    pub(super) fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}

impl Drop for Worker {
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

/// Where a database is, for Java.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) host: String,
    pub(super) port: String,
    pub(super) user: String,
    pub(super) password: String,
    pub(super) name: String,
}

impl Database {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// It is none, or has no host.
    pub(super) fn parse(url: &str) -> Result<Self> {
        let url: Config = url.parse()?;
        let host = match url.get_hosts().first() {
            Some(Host::Tcp(host)) => host.clone(),
            _ => anyhow::bail!("the database has no host"),
        };
        let port = url.get_ports().first().copied().unwrap_or(5432);
        let password = url.get_password().unwrap_or_default();
        Ok(Self {
            host,
            port: port.to_string(),
            user: url.get_user().unwrap_or_default().to_owned(),
            password: String::from_utf8_lossy(password).into_owned(),
            name: url.get_dbname().unwrap_or_default().to_owned(),
        })
    }
}

fn properties(stack: &Stack, dir: &Path, plugins: &[PathBuf]) -> Result<String> {
    let plugins = plugins.iter().map(|folder| folder.display().to_string());
    let plugins: Vec<String> = plugins.collect();
    let mut lines = vec![
        format!("bootstrap.servers={}", stack.kafka()),
        format!("plugin.path={}", plugins.join(",")),
        format!(
            "offset.storage.file.filename={}",
            dir.join("offsets").display()
        ),
        "listeners=http://127.0.0.1:0".to_owned(),
        "consumer.isolation.level=read_committed".to_owned(),
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
