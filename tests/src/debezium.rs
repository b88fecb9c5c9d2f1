//! The peer whose format we write: Debezium on Kafka Connect, and topics as a Connect sink sees them.
//!
//! [`Connect`] runs its Postgres connector as a process. [`decode`] reads topics with the Avro converter of Apicurio,
//! by a Java program, so that nothing of ours is between the log and the comparison.

mod connect;
mod decode;
mod records;
mod structure;

pub use connect::{Connect, Connector};
pub use decode::{Datum, Decoded, Record, Side, decode};
pub use records::{compare_records, complete};
pub use structure::compare_schemas;

use std::fmt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value as Json;

use crate::stack::installed;

/// One thing in which we differ from Debezium.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The schema or record that it is in.
    pub place: String,
    /// The field, from the outermost on, joined by dots.
    pub path: String,
    /// What of it: an attribute of a schema, or `value`.
    pub what: &'static str,
    /// What Debezium has; null if it has nothing.
    pub debezium: Json,
    /// What we have; null if we have nothing.
    pub ours: Json,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place,
            path,
            what,
            debezium,
            ours,
        } = self;
        write!(
            f,
            "{place}: {what} of '{path}' is {ours}, Debezium's is {debezium}"
        )
    }
}

/// A Java program that has Kafka's jars, a logger, and what else is named, on its class path.
fn java(options: &[&str], more: Option<&str>) -> Result<Command> {
    let mut path = vec![
        installed("kafka")?.join("jars/*"),
        peer()?.join("logging/*"),
    ];
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

/// Where `install.sh` put Debezium.
fn peer() -> Result<PathBuf> {
    installed("debezium").context("Debezium is not installed: run tests/stack/install.sh debezium")
}
