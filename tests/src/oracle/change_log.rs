//! All changes of a database, read from a slot of the oracle's own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio_postgres::Client;

use super::{Event, postgres_text};

/// Per `schema.table` the columns that a key can have.
pub type KeyColumns = BTreeMap<String, BTreeSet<String>>;

/// A slot with wal2json, created before the changes that it is to tell.
#[derive(Debug)]
pub struct ChangeLog {
    url: String,
    slot: String,
    file: PathBuf,
}

#[derive(Debug, Deserialize)]
struct Line {
    action: String,
    #[serde(default)]
    schema: String,
    #[serde(default)]
    table: String,
    #[serde(default)]
    columns: Vec<LineColumn>,
    #[serde(default)]
    identity: Vec<LineColumn>,
}

#[derive(Debug, Deserialize)]
struct LineColumn {
    name: String,
    r#type: String,
    /// As printed: a number keeps all its digits.
    value: Box<RawValue>,
}

impl ChangeLog {
    /// Creates the slot. What commits from now on is told.
    ///
    /// # Errors
    /// The server refuses.
    pub async fn create(client: &Client, url: &str, slot: &str, dir: &Path) -> Result<Self> {
        client
            .execute(
                "SELECT pg_create_logical_replication_slot($1, 'wal2json')",
                &[&slot],
            )
            .await
            .context("create the oracle's slot")?;
        Ok(Self {
            url: url.to_owned(),
            slot: slot.to_owned(),
            file: dir.join(format!("{slot}.jsonl")),
        })
    }

    /// Reads all changes up to now, in commit order, and drops the slot.
    ///
    /// # Errors
    /// pg_recvlogical fails, or its output is not wal2json's.
    pub async fn read(self, client: &Client) -> Result<Vec<Event>> {
        self.read_keyed(client, &KeyColumns::new()).await
    }

    /// As [`read`](Self::read); the key of a table that stands in `keys` has these columns, whatever its replica
    /// identity logs.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn read_keyed(self, client: &Client, keys: &KeyColumns) -> Result<Vec<Event>> {
        // A record behind the last change lets pg_recvlogical see the end.
        let end = client
            .query_one("SELECT pg_logical_emit_message(true, 'oracle', '')::text, pg_current_wal_insert_lsn()::text", &[])
            .await?;
        let end: &str = end.get(1);
        let _ = fs::remove_file(&self.file);
        let output = Command::new("pg_recvlogical")
            .args([
                "--dbname",
                &self.url,
                "--slot",
                &self.slot,
                "--start",
                "--endpos",
                end,
                "--no-loop",
            ])
            .args(["-o", "format-version=2", "--fsync-interval=0"])
            .arg("--file")
            .arg(&self.file)
            .env("PGTZ", "UTC")
            .env(
                "PGOPTIONS",
                "-c intervalstyle=iso_8601 -c datestyle=ISO -c extra_float_digits=3",
            )
            .output()
            .context("run pg_recvlogical")?;
        if !output.status.success() {
            bail!(
                "pg_recvlogical: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        client
            .execute("SELECT pg_drop_replication_slot($1)", &[&self.slot])
            .await?;
        parse(&fs::read_to_string(&self.file)?, keys)
    }
}

/// wal2json's lines as events. An update that changes the key is a delete and a create.
fn parse(text: &str, keys: &KeyColumns) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let line: Line =
            serde_json::from_str(&with_types_escaped(line)).context("read wal2json's output")?;
        if !matches!(line.action.as_str(), "I" | "U" | "D" | "T") {
            continue;
        }
        let table = format!("{}.{}", line.schema, line.table);
        let mut identity = canonical(&line.identity)?;
        if let Some(key) = keys.get(&table) {
            identity.retain(|column, _| key.contains(column));
        }
        let row = canonical(&line.columns)?;
        let key_of = |row: &BTreeMap<String, Option<String>>,
                      names: &mut dyn Iterator<Item = &String>| {
            names
                .map(|name| {
                    Ok((
                        name.clone(),
                        row.get(name).cloned().flatten().context("no key value")?,
                    ))
                })
                .collect::<Result<BTreeMap<_, _>>>()
        };
        let event = |op, key, row| Event {
            table: table.clone(),
            op,
            key,
            row,
        };
        match line.action.as_str() {
            // An insert has no identity: the key's columns are found when both sides are compared.
            "I" => events.push(event('c', BTreeMap::new(), row)),
            "T" => events.push(event('t', BTreeMap::new(), BTreeMap::new())),
            "D" => events.push(event(
                'd',
                key_of(&identity, &mut identity.keys())?,
                BTreeMap::new(),
            )),
            _ => {
                let old = key_of(&identity, &mut identity.keys())?;
                let new = key_of(&row, &mut identity.keys())?;
                if old == new {
                    events.push(event('u', new, row));
                } else {
                    events.push(event('d', old, BTreeMap::new()));
                    events.push(event('c', new, row));
                }
            }
        }
    }
    Ok(events)
}

/// wal2json (2.5) writes the name of a type that has quotes of its own as it is, which is no JSON.
fn with_types_escaped(line: &str) -> String {
    const BEGIN: &str = "\"type\":";
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(BEGIN) {
        let (before, behind) = rest.split_at(at + BEGIN.len());
        out.push_str(before);
        let end = behind.find(",\"value\":").unwrap_or(0);
        let name = &behind[..end];
        match serde_json::from_str::<String>(name) {
            Ok(_) => out.push_str(name),
            Err(_) => out += &serde_json::Value::from(name).to_string(),
        }
        rest = &behind[end..];
    }
    out.push_str(rest);
    out
}

fn canonical(columns: &[LineColumn]) -> Result<BTreeMap<String, Option<String>>> {
    columns
        .iter()
        .filter(|column| told(column))
        .map(|column| Ok((column.name.clone(), canonical_value(column)?)))
        .collect()
}

/// Whether wal2json tells the value: it writes NaN and ±infinity as null.
fn told(column: &LineColumn) -> bool {
    let special = ["numeric", "real", "double precision"];
    column.value.get() != "null" || !special.iter().any(|name| column.r#type.starts_with(name))
}

/// wal2json prints text forms; a few are brought to one form with what the topics hold.
fn canonical_value(column: &LineColumn) -> Result<Option<String>> {
    let text = match column.value.get() {
        "null" => return Ok(None),
        quoted if quoted.starts_with('"') => serde_json::from_str(quoted)?,
        plain => plain.to_owned(),
    };
    postgres_text::canonical(&column.r#type, &text).map(Some)
}

#[cfg(test)]
mod tests {
    use super::{KeyColumns, parse};

    #[test]
    fn updates_of_the_key_are_two_events() {
        let text = r#"{"action":"B"}
{"action":"I","schema":"s","table":"t","columns":[{"name":"id","type":"bigint","value":"1"},{"name":"b","type":"boolean","value":true}]}
{"action":"U","schema":"s","table":"t","columns":[{"name":"id","type":"bigint","value":"2"}],"identity":[{"name":"id","type":"bigint","value":"1"}]}
{"action":"U","schema":"s","table":"t","columns":[{"name":"id","type":"bigint","value":"2"}],"identity":[{"name":"id","type":"bigint","value":"2"}]}
{"action":"D","schema":"s","table":"t","identity":[{"name":"id","type":"bigint","value":"2"}]}
{"action":"C"}"#;
        let ops: String = parse(text, &KeyColumns::new())
            .unwrap()
            .iter()
            .map(|event| event.op)
            .collect();
        assert_eq!(ops, "cdcud");
    }

    #[test]
    fn names_of_types_are_escaped() {
        let text = r#"{"action":"I","schema":"s","table":"t","columns":[{"name":"a","type":"S x"."Mood","value":"\"type\":\"x"},{"name":"b","type":"integer","value":1}]}"#;
        let [event] = &parse(text, &KeyColumns::new()).unwrap()[..] else {
            panic!("one event")
        };
        assert_eq!(event.row["a"].as_deref(), Some("\"type\":\"x"));
    }
}
