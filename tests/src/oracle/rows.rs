//! The rows of a table, as the text that COPY prints, in canonical form.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use futures::TryStreamExt;
use tokio_postgres::Client;

use super::postgres_text;

/// A row as canonical text, by column.
pub type Row = BTreeMap<String, Option<String>>;

/// All rows of a table.
#[derive(Debug, Clone)]
pub struct TableRows {
    /// Its columns, without generated ones, in order.
    pub columns: Vec<String>,
    /// Its rows.
    pub rows: Vec<Row>,
}

// A domain is judged as its base type; its modifier is that of the innermost domain that has one.
const COLUMNS: &str = "
    WITH RECURSIVE typed AS (
        SELECT attnum, attname, atttypid AS type, atttypmod AS modifier
        FROM pg_attribute
        WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
        UNION ALL
        SELECT attnum, attname, t.typbasetype, greatest(t.typtypmod, modifier)
        FROM typed JOIN pg_type t ON t.oid = typed.type WHERE t.typtype = 'd')
    SELECT attname::text, format_type(type, modifier), t.typname::text
    FROM typed JOIN pg_type t ON t.oid = typed.type WHERE t.typtype <> 'd' ORDER BY attnum";

const SESSION: &str = "SET TimeZone = 'UTC'; SET DateStyle = ISO; SET IntervalStyle = iso_8601; SET extra_float_digits = 3; SET bytea_output = hex";

impl TableRows {
    /// Reads a table; `table` is its quoted name.
    ///
    /// # Errors
    /// A query fails, or a value is not of the form that its type has.
    pub async fn read(client: &Client, table: &str) -> Result<Self> {
        client.batch_execute(SESSION).await?;
        let columns = client
            .query(COLUMNS, &[&table])
            .await
            .with_context(|| format!("read the columns of {table}"))?;
        let mut types = Vec::new();
        let mut names = Vec::new();
        let mut expressions = Vec::new();
        for column in &columns {
            let (name, type_name): (String, String) = (column.get(0), column.get(1));
            let quoted = format!("\"{}\"", name.replace('"', "\"\""));
            expressions.push(match column.get(2) {
                "money" => format!("{quoted}::numeric"),
                "hstore" => format!("hstore_to_json({quoted})"),
                _ => quoted,
            });
            types.push(type_name);
            names.push(name);
        }
        let copy = format!(
            "COPY (SELECT {} FROM {table}) TO STDOUT",
            expressions.join(", ")
        );
        let lines = client
            .copy_out(&copy)
            .await
            .with_context(|| format!("read {table}"))?;
        let mut lines = std::pin::pin!(lines);
        let mut rows = Vec::new();
        while let Some(line) = lines.try_next().await? {
            let line = std::str::from_utf8(&line)?;
            let fields: Vec<&str> = line
                .strip_suffix('\n')
                .unwrap_or(line)
                .split('\t')
                .collect();
            // A table without columns still has rows.
            ensure!(
                fields.len() == names.len() || names.is_empty(),
                "{table}: {} fields",
                fields.len()
            );
            let mut row = Row::new();
            for ((name, type_name), field) in names.iter().zip(&types).zip(fields) {
                let value = unescape(field).map(|text| postgres_text::canonical(type_name, &text));
                row.insert(
                    name.clone(),
                    value.transpose().with_context(|| name.clone())?,
                );
            }
            rows.push(row);
        }
        Ok(Self {
            columns: names,
            rows,
        })
    }
}

/// A field of COPY's text format; `None` for null.
fn unescape(field: &str) -> Option<String> {
    if field == "\\N" {
        return None;
    }
    let mut out = String::with_capacity(field.len());
    let mut characters = field.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        match characters.next() {
            Some('b') => out.push('\u{8}'),
            Some('f') => out.push('\u{c}'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('v') => out.push('\u{b}'),
            Some(other) => out.push(other),
            None => out.push('\\'),
        }
    }
    Some(out)
}
