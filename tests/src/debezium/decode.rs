//! Topics as Apicurio's Connect converter decodes them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value as Json;

use super::java::{Jvm, java};
use super::worker::registry_api;
use crate::stack::Stack;

/// Some topics, decoded.
#[derive(Debug, Clone, Default)]
pub struct Decoded {
    /// The Connect schemas as JSON, by the numbers that data refer to.
    pub schemas: BTreeMap<usize, Json>,
    /// The records by topic, each partition in its order.
    pub topics: BTreeMap<String, Vec<Record>>,
}

/// One record of a topic.
#[derive(Debug, Clone, Deserialize)]
pub struct Record {
    topic: String,
    /// The names of its headers.
    pub headers: BTreeSet<String>,
    /// The key.
    pub key: Option<Datum>,
    /// The envelope; `None` for a tombstone.
    pub value: Option<Datum>,
}

/// A value with its schema.
#[derive(Debug, Clone, Deserialize)]
pub struct Datum {
    /// The number of the schema.
    pub schema: usize,
    /// The value.
    pub is: Json,
}

/// One side of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Its key.
    Key,
    /// Its value.
    Value,
}

/// A line of `Decode.java`.
#[derive(Deserialize)]
#[serde(untagged)]
enum DecodedLine {
    Record(Record),
    Schema(Datum),
}

/// Reads topics to their ends, as read-committed consumers do.
///
/// # Errors
/// Something is not installed, a topic is missing, or a record cannot be decoded.
pub fn decode(stack: &Stack, topics: &[String]) -> Result<Decoded> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("stack/debezium/Decode.java");
    let output = java(Jvm::Brief, Some("plugins/debezium/*"))?
        .arg(program)
        .args([stack.kafka(), &registry_api(stack)?])
        .args(topics)
        .stdin(Stdio::null())
        .output()
        .context("run Decode.java")?;
    if !output.status.success() {
        bail!(
            "Decode.java: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let mut decoded = Decoded::default();
    for line in String::from_utf8(output.stdout)?.lines() {
        match serde_json::from_str(line).context("a line of Decode.java")? {
            DecodedLine::Schema(schema) => {
                decoded.schemas.insert(schema.schema, schema.is);
            }
            DecodedLine::Record(record) => {
                let records = decoded.topics.entry(record.topic.clone()).or_default();
                records.push(record);
            }
        }
    }
    Ok(decoded)
}

impl Decoded {
    /// The schemas of one side of a topic's records.
    ///
    /// # Errors
    /// The topic has no record.
    pub fn schemas_of(&self, topic: &str, side: Side) -> Result<Vec<&Json>> {
        let numbers: BTreeSet<usize> = self
            .records(topic)?
            .iter()
            .filter_map(|record| match side {
                Side::Key => record.key.as_ref(),
                Side::Value => record.value.as_ref(),
            })
            .map(|datum| datum.schema)
            .collect();
        Ok(numbers.iter().map(|number| &self.schemas[number]).collect())
    }

    /// The records of a topic.
    ///
    /// # Errors
    /// The topic has none.
    pub fn records(&self, topic: &str) -> Result<&[Record]> {
        let records = self.topics.get(topic).map(Vec::as_slice);
        records.with_context(|| format!("topic {topic} has no records"))
    }
}
