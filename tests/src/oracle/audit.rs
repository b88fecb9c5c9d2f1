//! All changes of a table, written down by a trigger in the transactions that make them: what is committed, and no
//! more, on whichever server the table lives on by then.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::{Map, Value};
use tokio_postgres::Client;

use super::Event;

const TABLES: &str = "
    CREATE SCHEMA IF NOT EXISTS audit;
    CREATE TABLE IF NOT EXISTS audit.log (n bigserial PRIMARY KEY, op text, tbl text, old jsonb, new jsonb);
    CREATE OR REPLACE FUNCTION audit.note() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO audit.log (op, tbl, old, new) VALUES (TG_OP, TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME,
                CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END, CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END);
            RETURN NULL;
        END $$;";

/// Notes the changes of a table from now on.
///
/// # Errors
/// The server refuses.
pub async fn install_audit(client: &Client, table: &str) -> Result<()> {
    client.batch_execute(TABLES).await?;
    let trigger = format!(
        "CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION audit.note()"
    );
    client.batch_execute(&trigger).await?;
    Ok(())
}

/// The changes noted for a table with these key columns, in commit order per key (the row's lock sees to that).
///
/// # Errors
/// The log cannot be read.
pub async fn read_audit(client: &Client, table: &str, key: &[&str]) -> Result<Vec<Event>> {
    let query = "SELECT op, old::text, new::text FROM audit.log WHERE tbl = $1 ORDER BY n";
    let mut events = Vec::new();
    for noted in client.query(query, &[&table]).await? {
        let op: &str = noted.get(0);
        let (old, new) = (row(noted.get(1))?, row(noted.get(2))?);
        let key_of = |row: &BTreeMap<String, Option<String>>| {
            let values = key.iter();
            values
                .map(|name| {
                    let value = row.get(*name).cloned().flatten();
                    Ok(((*name).to_owned(), value.context("no key value")?))
                })
                .collect::<Result<BTreeMap<_, _>>>()
        };
        let event = |op, key, row| Event {
            table: table.to_owned(),
            op,
            key,
            row,
        };
        match op {
            "INSERT" => events.push(event('c', key_of(&new)?, new)),
            "DELETE" => events.push(event('d', key_of(&old)?, BTreeMap::new())),
            _ if key_of(&old)? == key_of(&new)? => events.push(event('u', key_of(&new)?, new)),
            _ => {
                events.push(event('d', key_of(&old)?, BTreeMap::new()));
                events.push(event('c', key_of(&new)?, new));
            }
        }
    }
    Ok(events)
}

/// A row as text by column; tables of numbers and texts only.
fn row(json: Option<&str>) -> Result<BTreeMap<String, Option<String>>> {
    let row: Map<String, Value> = serde_json::from_str(json.unwrap_or("{}"))?;
    let columns = row.into_iter().map(|(name, value)| match value {
        Value::Null => (name, None),
        Value::String(text) => (name, Some(text)),
        other => (name, Some(other.to_string())),
    });
    Ok(columns.collect())
}
