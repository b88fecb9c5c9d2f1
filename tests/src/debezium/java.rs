//! How the programs of the peer are started.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::stack;

/// How the virtual machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jvm {
    /// Small, and soon there: what runs for seconds is not worth the second compiler.
    Brief,
    /// The newest, as the scripts that come with Kafka start Connect: for what is measured.
    Shipped,
}

impl Jvm {
    fn program(self) -> Result<PathBuf> {
        match self {
            Self::Brief => Ok(PathBuf::from("java")),
            Self::Shipped => stack::newest_java(),
        }
    }

    const fn options(self) -> &'static [&'static str] {
        match self {
            Self::Brief => &["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m"],
            // kafka-run-class.sh and connect-standalone.sh, word by word.
            Self::Shipped => &[
                "-server",
                "-XX:+UseG1GC",
                "-XX:MaxGCPauseMillis=20",
                "-XX:InitiatingHeapOccupancyPercent=35",
                "-XX:+ExplicitGCInvokesConcurrent",
                "-XX:MaxInlineLevel=15",
                "-Djava.awt.headless=true",
                "-Xms256M",
                "-Xmx2G",
            ],
        }
    }
}

/// A Java program that has Kafka's jars, a logger, and what else is named, on its class path.
pub(super) fn java(jvm: Jvm, more: Option<&str>) -> Result<Command> {
    let mut path = vec![stack::connect()?.join("jars/*"), peer()?.join("logging/*")];
    if let Some(more) = more {
        path.insert(0, peer()?.join(more));
    }
    let mut java = Command::new(jvm.program()?);
    java.args(jvm.options())
        .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
        .arg("-cp")
        .arg(std::env::join_paths(path)?);
    Ok(java)
}

/// Where Debezium's Postgres connector is, and the Avro converter.
pub(super) fn plugins() -> Result<PathBuf> {
    Ok(peer()?.join("plugins"))
}

/// Where `install.sh` put Debezium.
pub(super) fn peer() -> Result<PathBuf> {
    stack::debezium().context("Debezium is not installed: run tests/stack/install.sh debezium")
}
