//! `[log]`.

use std::str::FromStr;

use serde::Deserialize;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use crate::Problem;

/// `[log]`: how the service logs, to stderr.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Lines for people, or one JSON object per line.
    pub format: LogFormat,
    /// A level, or a filter in the syntax of `RUST_LOG` (which overrides it).
    pub level: String,
}

impl LogConfig {
    /// The filter that `log.level` describes. A misspelt level would count as the name of a module, and
    /// silence everything: a word that stands alone must be a level.
    pub(crate) fn filter(&self) -> Result<EnvFilter, Problem> {
        let wrong = |why: &str| {
            Problem::new(format!("`log.level` is not a level: {why}")).remedy(
                "write error, warn, info, debug or trace, with exceptions like \"info,rdkafka=debug\"",
            )
        };
        let alone = self
            .level
            .split(',')
            .map(str::trim)
            .filter(|part| !part.contains(['=', '[']));
        for word in alone {
            if word.is_empty() || LevelFilter::from_str(word).is_err() {
                return Err(wrong(&format!("\"{word}\"")));
            }
        }
        EnvFilter::try_new(&self.level).map_err(|error| wrong(&error.to_string()))
    }
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

#[cfg(test)]
mod tests {
    use super::LogConfig;

    fn filter(level: &str) -> Result<(), String> {
        let config = LogConfig {
            level: level.to_owned(),
            ..LogConfig::default()
        };
        config
            .filter()
            .map(drop)
            .map_err(|problem| problem.to_string())
    }

    #[test]
    fn a_misspelt_level_is_found() {
        for level in ["info", "WARN", "info,rdkafka=debug", "off"] {
            assert!(filter(level).is_ok(), "{level}");
        }
        for level in ["inof", "", "info,rdkafka", "info,rdkafka=loud"] {
            let problem = filter(level).unwrap_err();
            assert!(
                problem.starts_with("`log.level` is not a level: "),
                "{problem}"
            );
        }
    }
}
