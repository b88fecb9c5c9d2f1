//! The parts of the stack, and the engines that its search part can be.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::jdk::Jdk;
use super::pinned::pinned;

/// One server of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// PostgreSQL with wal2json.
    Postgres,
    /// One Apache Kafka node, broker and controller.
    Kafka,
    /// The schema registry, its store in a file.
    Registry,
    /// The search engine.
    Search,
}

impl Part {
    /// All parts, in the order in which they are reported.
    pub const ALL: [Part; 4] = [Part::Postgres, Part::Kafka, Part::Registry, Part::Search];

    /// The name on the command line, in `stack.json` and of the log file.
    pub fn name(self) -> &'static str {
        match self {
            Part::Postgres => "postgres",
            Part::Kafka => "kafka",
            Part::Registry => "registry",
            Part::Search => "search",
        }
    }

    /// The port that the server has by convention.
    pub fn conventional_port(self) -> u16 {
        match self {
            Part::Postgres => 5432,
            Part::Kafka => 9092,
            Part::Registry => 8081,
            Part::Search => 9200,
        }
    }

    /// Whether the server listens on a second port, for itself (Kafka's controller, the engine's transport).
    pub(super) fn has_inner_port(self) -> bool {
        matches!(self, Part::Kafka | Part::Search)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Part {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match Part::ALL.into_iter().find(|part| part.name() == text) {
            Some(part) => Ok(part),
            None => bail!("no part is called '{text}': use postgres, kafka, registry or search"),
        }
    }
}

/// What serves as the search engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// OpenSearch, without its security plugin.
    #[default]
    OpenSearch,
    /// Elasticsearch, server and transport only.
    Elasticsearch,
}

impl Engine {
    /// The engine that `TRIBUTARY_ENGINE` names; none where it is unset or empty.
    ///
    /// # Errors
    /// The variable holds another name.
    pub fn from_env() -> Result<Option<Self>> {
        match std::env::var("TRIBUTARY_ENGINE") {
            Ok(name) if !name.is_empty() => name.parse().map(Some),
            _ => Ok(None),
        }
    }

    /// What its versions are called in `versions.env`.
    pub(super) fn pinned(self) -> String {
        self.name().to_uppercase()
    }

    /// The release line that this machine's JDK runs.
    pub(super) fn default_line(self) -> Result<String> {
        pinned(&format!("{}_{}", self.pinned(), Jdk::newest()?.family()))
    }

    /// The name in `TRIBUTARY_ENGINE`, and of the engine's folder in the cache.
    pub fn name(self) -> &'static str {
        match self {
            Engine::OpenSearch => "opensearch",
            Engine::Elasticsearch => "elasticsearch",
        }
    }
}

impl FromStr for Engine {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "opensearch" => Ok(Engine::OpenSearch),
            "elasticsearch" => Ok(Engine::Elasticsearch),
            _ => bail!(
                "unknown engine '{text}' in TRIBUTARY_ENGINE: use opensearch or elasticsearch"
            ),
        }
    }
}
