//! Which servers a stack runs, and of which versions: chosen when it is made, and kept.

use std::path::Path;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::jdk::Jdk;
use super::part::Engine;
use super::pinned::{pinned, pinned_lines};
use super::postgres::Postgres;

/// What a stack runs. As a registry does not start with a store of another line, nor every server with older data, a
/// stack keeps its lines when the default ones change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Choice {
    pub(super) engine: Engine,
    /// Release line: 3.8. Stacks that do not say it go by the JDK.
    #[serde(default)]
    pub(super) engine_line: Option<String>,
    #[serde(default)]
    pub(super) postgres: Postgres,
    /// Release line: 4.4.
    #[serde(default = "first_kafka")]
    pub(super) kafka: String,
    #[serde(default = "first_registry")]
    pub(super) registry: String,
}

/// What is asked for; where nothing is, a new stack has the default, and one that exists is as it is.
#[derive(Debug)]
pub(super) struct Wish {
    engine: Option<Engine>,
    engine_line: Option<String>,
    postgres: Option<Postgres>,
    kafka: Option<String>,
    registry: Option<String>,
}

/// The line of stacks that do not say theirs.
fn first_kafka() -> String {
    "4.1".to_owned()
}

/// The same for the registry.
fn first_registry() -> String {
    "2.6".to_owned()
}

impl Wish {
    /// What is given, else what `TRIBUTARY_ENGINE`, `TRIBUTARY_ENGINE_VERSION`, `TRIBUTARY_POSTGRES`,
    /// `TRIBUTARY_KAFKA_VERSION` and `TRIBUTARY_REGISTRY_VERSION` name.
    ///
    /// # Errors
    /// A variable names what there is not.
    pub(super) fn read(
        engine: Option<Engine>,
        postgres: Option<Postgres>,
        registry: Option<String>,
    ) -> Result<Self> {
        let engine = engine.map_or_else(Engine::from_env, |engine| Ok(Some(engine)))?;
        Ok(Self {
            engine,
            engine_line: line_from_env("ENGINE", &engine.unwrap_or_default().pinned())?,
            postgres: postgres.map_or_else(Postgres::from_env, |postgres| Ok(Some(postgres)))?,
            kafka: line_from_env("KAFKA", "KAFKA")?,
            registry: registry.map_or_else(
                || line_from_env("REGISTRY", "REGISTRY"),
                |line| Ok(Some(line)),
            )?,
        })
    }

    /// The servers of a new stack.
    ///
    /// # Errors
    /// There is no JDK, which decides on the registry and the engine's version.
    pub(super) fn or_default(self) -> Result<Choice> {
        let engine = self.engine.unwrap_or_default();
        Ok(Choice {
            engine,
            engine_line: Some(self.engine_line.map_or_else(|| engine.default_line(), Ok)?),
            postgres: self.postgres.unwrap_or_default(),
            kafka: self.kafka.map_or_else(|| pinned("KAFKA"), Ok)?,
            registry: self.registry.map_or_else(default_registry, Ok)?,
        })
    }

    /// Refuses a stack that has something else.
    ///
    /// # Errors
    /// It has.
    pub(super) fn is_met_by(&self, known: &Choice, dir: &Path) -> Result<()> {
        let pairs = [
            (
                known.engine.name().to_owned(),
                self.engine.map(|engine| engine.name().to_owned()),
            ),
            (
                of_line(known.engine, known.engine_line.as_deref()),
                self.engine_line
                    .as_deref()
                    .map(|line| of_line(known.engine, Some(line))),
            ),
            (
                format!("PostgreSQL {}", known.postgres.major()),
                self.postgres.map(|it| format!("PostgreSQL {}", it.major())),
            ),
            (
                format!("Kafka {}", known.kafka),
                self.kafka.as_ref().map(|line| format!("Kafka {line}")),
            ),
            (
                format!("Apicurio {}", known.registry),
                self.registry
                    .as_ref()
                    .map(|line| format!("Apicurio {line}")),
            ),
        ];
        for (old, new) in pairs {
            if let Some(new) = new.filter(|new| *new != old) {
                bail!(
                    "the stack in {} has {old}, not {new}: use another folder, or remove this one (`make clean-stack`)",
                    dir.display()
                );
            }
        }
        Ok(())
    }
}

/// An engine, with its release line where that is known.
fn of_line(engine: Engine, line: Option<&str>) -> String {
    let line = line.map_or_else(String::new, |line| format!(" {line}"));
    format!("{}{line}", engine.name())
}

fn default_registry() -> Result<String> {
    pinned(&format!("REGISTRY_{}", Jdk::newest()?.family()))
}

/// The line of a server that `TRIBUTARY_<what>_VERSION` names; none where it is unset or empty.
fn line_from_env(what: &str, server: &str) -> Result<Option<String>> {
    let variable = format!("TRIBUTARY_{what}_VERSION");
    let Some(line) = std::env::var(&variable)
        .ok()
        .filter(|line| !line.is_empty())
    else {
        return Ok(None);
    };
    let lines = pinned_lines(server);
    if !lines.contains(&line) {
        bail!(
            "unknown line '{line}' in {variable}: use {}",
            lines.join(" or ")
        );
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack_of_old() -> Choice {
        serde_json::from_str(r#"{"engine": "opensearch", "postgres": 15}"#).unwrap()
    }

    #[test]
    fn a_stack_that_does_not_say_its_lines_keeps_those_of_its_time() {
        let old = stack_of_old();
        assert_eq!((&*old.kafka, &*old.registry), ("4.1", "2.6"));
        let nothing = Wish {
            engine: None,
            engine_line: None,
            postgres: None,
            kafka: None,
            registry: None,
        };
        nothing.is_met_by(&old, Path::new("/s")).unwrap();
    }

    #[test]
    fn another_version_than_the_stack_has_is_refused() {
        let wish = Wish {
            engine: Some(Engine::OpenSearch),
            engine_line: None,
            postgres: Some(Postgres::DEBIAN),
            kafka: Some("4.1".to_owned()),
            registry: Some("3.3".to_owned()),
        };
        let error = wish
            .is_met_by(&stack_of_old(), Path::new("/s"))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the stack in /s has Apicurio 2.6, not Apicurio 3.3: use another folder, or remove this one (`make clean-stack`)"
        );
    }
}
