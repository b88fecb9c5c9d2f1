//! How the programs of the peer are started.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::stack;

/// A Java program that has Kafka's jars, a logger, and what else is named, on its class path.
pub(super) fn java(options: &[&str], more: Option<&str>) -> Result<Command> {
    let mut path = vec![stack::connect()?.join("jars/*"), peer()?.join("logging/*")];
    if let Some(more) = more {
        path.insert(0, peer()?.join(more));
    }
    let mut java = Command::new("java");
    // What runs for seconds is not worth the second compiler.
    java.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
        .args(options)
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
