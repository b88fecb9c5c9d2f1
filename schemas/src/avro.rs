//! The Avro schemas of a table's topic, as JSON.
//!
//! They are written the way Kafka Connect's Avro converters write the schemas of Debezium's
//! Postgres connector (read from a registry that Debezium 3.3.1 filled), so that such a converter
//! restores the same Connect schema. What differs on purpose: columns outside the key are always
//! optional, `source` has `origin`, `origin_lsn` (Debezium 3.5 has them) and `region` at its end,
//! items of enum arrays may be null, and a scale that Avro's `decimal` cannot express is avoided.
//! The same table gives the same text, byte for byte: the registry compares it.

mod block;
mod column;
mod json;
mod metadata;
mod named;

use std::fmt::Write as _;

use crate::name::avro_namespace;
use crate::table::Table;
use block::{SOURCE, TRANSACTION, optional, plain};
use column::Role;
use json::quoted;
pub use metadata::{
    MESSAGE_KEY_SCHEMA, TRANSACTION_KEY_SCHEMA, TRANSACTION_VALUE_SCHEMA, message_value_schema,
};
use named::Names;

/// The schema of a topic's keys, record `<topic>.Key`; `None` for a table without a key.
///
/// It carries no labels of an enum, no length and no precision: key bytes contain the schema's id,
/// so it must not change while the key does not.
pub fn key_schema(topic: &str, table: &Table) -> Option<String> {
    let key = table.key_columns();
    if key.is_empty() {
        return None;
    }
    let namespace = avro_namespace(topic);
    let mut names = Names::new(&namespace, "key");
    let fields: Vec<_> = key
        .iter()
        .map(|&index| column::field(&table.columns[index], Role::Key, &mut names))
        .collect();
    Some(record(
        "Key",
        Some(&quoted(&namespace)),
        &fields,
        &connect_name(topic, "Key"),
    ))
}

/// The schema of a topic's values, record `<topic>.Envelope`.
pub fn value_schema(topic: &str, table: &Table) -> String {
    let namespace = avro_namespace(topic);
    let mut names = Names::new(&namespace, "value");
    let columns: Vec<_> = table
        .columns
        .iter()
        .map(|column| column::field(column, Role::Value, &mut names))
        .collect();
    let value = record("Value", None, &columns, &connect_name(topic, "Value"));
    let fields = [
        optional("before", &value),
        optional("after", "\"Value\""),
        plain("source", SOURCE),
        optional("transaction", TRANSACTION),
        plain("op", "\"string\""),
        optional("ts_ms", "\"long\""),
        optional("ts_us", "\"long\""),
        optional("ts_ns", "\"long\""),
    ];
    let annotations = format!("\"connect.version\":2,{}", connect_name(topic, "Envelope"));
    record("Envelope", Some(&quoted(&namespace)), &fields, &annotations)
}

/// The schema of the key of a "gone below" record: which source and table it is about.
pub fn truncate_key_schema(topic: &str) -> String {
    let namespace = quoted(&avro_namespace(topic));
    let fields = ["source", "schema", "table"].map(|name| plain(name, "\"string\""));
    record(
        "TruncateKey",
        Some(&namespace),
        &fields,
        &connect_name(topic, "TruncateKey"),
    )
}

fn connect_name(topic: &str, record: &str) -> String {
    let full_name = format!("{}.{record}", avro_namespace(topic));
    format!("\"connect.name\":{}", quoted(&full_name))
}

fn record(name: &str, namespace: Option<&str>, fields: &[String], annotations: &str) -> String {
    let mut out = format!("{{\"type\":\"record\",\"name\":\"{name}\",");
    if let Some(namespace) = namespace {
        // Writing to a String cannot fail.
        let _ = write!(out, "\"namespace\":{namespace},");
    }
    let _ = write!(out, "\"fields\":[{}],{annotations}}}", fields.join(","));
    out
}
