//! Configuration: one TOML file per service, overridden by environment variables, secrets also from files.
//!
//! A service declares plain serde structs. The loader rejects unknown keys by itself, names the key,
//! file and line of every problem, and never quotes a value: it may be a secret.

mod document;
mod fault;
mod log;
mod reader;
mod secret;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::Problem;
use document::{ConfigPlace, Finding, Node, Origin, Table, Value};

pub use log::{LogConfig, LogFormat};
pub use secret::Secret;

/// What every service's file may hold beside the service's own keys: `[log]`, `[http]` and
/// `shutdown_timeout_ms`. [`load_service`] takes them out; a service's type does not declare them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How the service logs.
    pub log: LogConfig,
    /// Where it serves `/metrics`, `/health` and `/ready`.
    pub http: HttpConfig,
    /// How long `run` may take to return after SIGTERM or SIGINT, in milliseconds.
    pub shutdown_timeout_ms: u64,
}

impl Settings {
    /// What is wrong with the values.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        problems.extend(self.log.filter().err());
        if self.shutdown_timeout_ms == 0 {
            let problem = Problem::new("`shutdown_timeout_ms` is 0");
            problems.push(problem.remedy("give the service time to finish what it has begun"));
        }
        problems
    }

    /// How long `run` may take to return after SIGTERM or SIGINT.
    pub const fn shutdown_timeout(&self) -> Duration {
        Duration::from_millis(self.shutdown_timeout_ms)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            log: LogConfig::default(),
            http: HttpConfig::default(),
            shutdown_timeout_ms: 30_000,
        }
    }
}

/// `[http]`: where the service serves `/metrics`, `/health` and `/ready`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Address and port; without it the service's own default port on 127.0.0.1. Port 0 takes a free
    /// one; the log says which.
    pub listen: Option<SocketAddr>,
}

/// `[kafka]` as every service has it. The source adds keys of its own in a struct of its own.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Bootstrap brokers, each `host:port`.
    pub brokers: Vec<String>,
    /// The base URL of the schema registry's Confluent API. It may hold a user and a password: print it only by
    /// [`printable_url`].
    pub registry: String,
}

impl std::fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("registry", &printable_url(&self.registry))
            .finish()
    }
}

/// A URL as it may stand in a message or a dump: without user and password, and not at all if it is no URL.
pub fn printable_url(url: &str) -> String {
    url::Url::parse(url).map_or_else(|_| "***".to_owned(), |url| crate::http::printable(&url))
}

impl KafkaConfig {
    /// What is wrong with the values, without a connection.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = broker_problems("kafka.brokers", &self.brokers);
        problems.extend(http_url_problems("kafka.registry", &self.registry));
        problems
    }
}

/// What is wrong with a list of brokers; `key` is the key's full name.
pub fn broker_problems(key: &str, brokers: &[String]) -> Vec<Problem> {
    if brokers.is_empty() {
        return vec![Problem::new(format!("`{key}` is empty")).remedy(broker_remedy(key))];
    }
    let valid = |broker: &String| {
        broker.rsplit_once(':').is_some_and(|(host, port)| {
            let host_ok = !host.is_empty() && !host.contains([' ', '/', ',', '@']);
            host_ok && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
    };
    let wrong = brokers.iter().filter(|broker| !valid(broker)).count();
    if wrong == 0 {
        return Vec::new();
    }
    let what = format!("`{key}`: {wrong} of {} are not `host:port`", brokers.len());
    vec![Problem::new(what).remedy(broker_remedy(key))]
}

/// What is wrong with an `http(s)://` URL; `key` is the key's full name. The URL is not quoted: it may
/// hold a password.
pub fn http_url_problems(key: &str, url: &str) -> Vec<Problem> {
    let what = match url::Url::parse(url) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            format!("`{key}` does not begin with http:// or https://")
        }
        Ok(url) if url.query().is_some() || url.fragment().is_some() => {
            format!("`{key}` has a query or fragment, which a base URL cannot have")
        }
        Ok(_) => return Vec::new(),
        Err(error) => format!("`{key}` is not a URL: {error}"),
    };
    vec![Problem::new(what).remedy(format!("write it like {key} = \"http://host:8081\""))]
}

fn broker_remedy(key: &str) -> String {
    format!("list brokers by host and port: {key} = [\"kafka:9092\"]")
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    fn new(mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(Finding::order);
        let problems = findings
            .into_iter()
            .map(|finding| finding.problem)
            .collect();
        Self { problems }
    }

    /// The problems, in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Reads `path`, lays the environment variables `<env_prefix>__SECTION__KEY` over it, and deserializes.
///
/// # Errors
/// All problems found: file not readable, syntax, unknown keys and variables, wrong types, missing keys.
pub fn load<T: DeserializeOwned>(
    path: &Path,
    env_prefix: &str,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    let file = path.display().to_string();
    let place = ConfigPlace {
        file: &file,
        env_prefix,
    };
    let (root, findings) = tree(path, place, env)?;
    finish(findings, reader::read(section(root), &[], place))
}

/// [`load`] for a service: the [`Settings`] that all services share, and the service's own configuration.
///
/// # Errors
/// As [`load`].
pub fn load_service<T: DeserializeOwned>(
    path: &Path,
    env_prefix: &str,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<(Settings, T), ConfigError> {
    let file = path.display().to_string();
    let place = ConfigPlace {
        file: &file,
        env_prefix,
    };
    let (root, mut findings) = tree(path, place, env)?;
    let (shared, own): (Table, Table) = root
        .into_iter()
        .partition(|(key, _)| SHARED.contains(&key.as_str()));
    let settings = reader::read(section(shared), &[], place).unwrap_or_else(|found| {
        findings.extend(found);
        Settings::default()
    });
    let config = finish(findings, reader::read(section(own), &SHARED, place))?;
    Ok((settings, config))
}

/// The keys of [`Settings`].
const SHARED: [&str; 3] = ["http", "log", "shutdown_timeout_ms"];

fn tree(
    path: &Path,
    place: ConfigPlace<'_>,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<(Table, Vec<Finding>), ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let problem = Problem::new(format!("cannot read {}: {error}", place.file));
        ConfigError::new(vec![Finding::new(Origin::Line(0), problem)])
    })?;
    let mut root = document::parse(&text, place).map_err(ConfigError::new)?;
    let findings = document::overlay(&mut root, place, env);
    Ok((root, findings))
}

/// The value, unless there was a finding before it.
fn finish<T>(mut findings: Vec<Finding>, read: Result<T, Vec<Finding>>) -> Result<T, ConfigError> {
    match read {
        Ok(value) if findings.is_empty() => Ok(value),
        Ok(_) => Err(ConfigError::new(findings)),
        Err(found) => {
            findings.extend(found);
            Err(ConfigError::new(findings))
        }
    }
}

const fn section(table: Table) -> Node {
    Node {
        value: Value::Table(table),
        origin: Origin::Line(0),
    }
}

#[cfg(test)]
mod tests;
