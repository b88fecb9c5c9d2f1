//! Compares a table of the source with its copy in the warehouse, row by row, as SQL text.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use futures::TryStreamExt;
use tokio_postgres::Client;

use super::search::Columns;

/// The rows in which a warehouse table differs from its source; empty if it does not. `target` is the quoted name
/// of the copy.
///
/// # Errors
/// A query fails: the copy lacks a column, say.
pub async fn compare_warehouse(
    source: &Client,
    table: &str,
    warehouse: &Client,
    target: &str,
) -> Result<Vec<String>> {
    let columns = Columns::read(source, table).await?;
    let wanted = rows(source, &columns, &columns.quoted_table())
        .await
        .with_context(|| format!("read {table}"))?;
    let got = rows(warehouse, &columns, target)
        .await
        .with_context(|| format!("read {target}"))?;
    let mut found = Vec::new();
    for (key, row) in &wanted {
        match got.get(key) {
            None => found.push(format!("{target}: row {key} is missing")),
            Some(copy) if copy != row => found.push(format!(
                "{target}: row {key} differs:\n  source    {row}\n  warehouse {copy}"
            )),
            Some(_) => {}
        }
    }
    found.extend(
        got.keys()
            .filter(|key| !wanted.contains_key(*key))
            .map(|key| format!("{target}: row {key} should be gone")),
    );
    let more = found.len().saturating_sub(20);
    if more > 0 {
        found.truncate(20);
        found.push(format!("… and {more} more"));
    }
    Ok(found)
}

/// Every row as the text that COPY prints, by its key's text.
async fn rows(client: &Client, columns: &Columns, table: &str) -> Result<BTreeMap<String, String>> {
    client
        .batch_execute("SET TimeZone = 'UTC'; SET DateStyle = ISO; SET extra_float_digits = 3")
        .await?;
    // As text, so that a copy of another type (an enum's text, say) is judged by what it says.
    let all = columns.expressions();
    let key = columns.key_expression();
    let copy = format!(
        "COPY (SELECT {key}, {} FROM {table}) TO STDOUT",
        all.join(", ")
    );
    let lines = client.copy_out(&copy).await?;
    let mut lines = std::pin::pin!(lines);
    let mut rows = BTreeMap::new();
    while let Some(line) = lines.try_next().await? {
        let line = String::from_utf8_lossy(&line).into_owned();
        let (key, row) = line.split_once('\t').context("a row without a key")?;
        let doubled = rows.insert(key.to_owned(), row.trim_end_matches('\n').to_owned());
        anyhow::ensure!(doubled.is_none(), "{table}: row {key} is there twice");
    }
    Ok(rows)
}
