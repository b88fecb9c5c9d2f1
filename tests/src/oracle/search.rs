//! Compares a table of the source with its search index, document by document.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};
use tokio_postgres::Client;

/// A table's columns with their types, and its key.
#[derive(Debug)]
pub(super) struct Columns {
    schema: String,
    table: String,
    columns: Vec<(String, String)>,
    key: Vec<String>,
}

impl Columns {
    pub(super) async fn read(client: &Client, table: &str) -> Result<Self> {
        let (schema, name) = table.split_once('.').context("not schema.table")?;
        let rows = client
            .query(
                "SELECT a.attname::text, CASE WHEN t.typtype = 'c' THEN 'composite' ELSE format_type(a.atttypid, NULL) END,
                    EXISTS (SELECT FROM pg_index i WHERE i.indrelid = a.attrelid AND i.indisprimary AND a.attnum = ANY(i.indkey))
                 FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                    JOIN pg_type t ON t.oid = a.atttypid
                 WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
                 ORDER BY a.attnum",
                &[&schema, &name],
            )
            .await?;
        ensure!(!rows.is_empty(), "no table {table}");
        Ok(Self {
            schema: schema.to_owned(),
            table: name.to_owned(),
            columns: rows.iter().map(|row| (row.get(0), row.get(1))).collect(),
            key: rows
                .iter()
                .filter(|row| row.get(2))
                .map(|row| row.get(0))
                .collect(),
        })
    }

    /// What selects them; composites as JSON, which has the names of their attributes.
    pub(super) fn expressions(&self) -> Vec<String> {
        let columns = self.columns.iter();
        let expressions = columns.map(|(name, r#type)| match r#type.as_str() {
            "composite" => format!("to_jsonb(\"{name}\")"),
            _ => format!("\"{name}\""),
        });
        expressions.collect()
    }

    pub(super) fn quoted_table(&self) -> String {
        format!("\"{}\".\"{}\"", self.schema, self.table)
    }

    /// The key as one text.
    pub(super) fn key_expression(&self) -> String {
        let parts: Vec<String> = self
            .key
            .iter()
            .map(|name| format!("\"{name}\"::text"))
            .collect();
        format!("concat_ws('|', {})", parts.join(", "))
    }
}

/// The documents in which an index differs from its table; empty if it does not.
///
/// # Errors
/// The database or the engine does not answer.
pub async fn compare_search(
    source: &Client,
    table: &str,
    engine: &str,
    index: &str,
) -> Result<Vec<String>> {
    let columns = Columns::read(source, table).await?;
    let mut documents = documents(engine, index, &columns).await?;
    source
        .batch_execute(
            "SET TimeZone = 'UTC'; SET IntervalStyle = iso_8601; SET extra_float_digits = 3",
        )
        .await?;
    let list: Vec<String> = columns
        .columns
        .iter()
        .map(|(name, r#type)| expression(name, r#type))
        .collect();
    let query = format!(
        "SELECT {}, {} FROM {}",
        columns.key_expression(),
        list.join(", "),
        columns.quoted_table()
    );
    let mut found = Vec::new();
    for row in source.query(&query, &[]).await? {
        let key: String = row.get(0);
        let Some(document) = documents.remove(&key) else {
            found.push(format!("{index}: document {key} is missing"));
            continue;
        };
        for (at, (name, r#type)) in columns.columns.iter().enumerate() {
            let wanted: Option<String> = row.get(at + 1);
            if !agrees(
                document.get(name.as_str()).map(AsRef::as_ref),
                wanted.as_deref(),
                r#type,
            )? {
                let got = document.get(name.as_str()).map(|raw| raw.get());
                found.push(format!(
                    "{index}: document {key}, field {name}: {got:?} instead of {wanted:?}"
                ));
            }
        }
    }
    found.extend(
        documents
            .keys()
            .map(|key| format!("{index}: document {key} should be gone")),
    );
    let more = found.len().saturating_sub(20);
    if more > 0 {
        found.truncate(20);
        found.push(format!("… and {more} more"));
    }
    Ok(found)
}

/// What Postgres prints for a column in a form that a document's JSON can be held against.
fn expression(name: &str, r#type: &str) -> String {
    match r#type {
        "bytea" => format!("translate(encode(\"{name}\", 'base64'), E'\\n', '')"),
        _ if r#type.ends_with("[]") || r#type == "composite" => {
            format!("to_json(\"{name}\")::text")
        }
        _ => format!("\"{name}\"::text"),
    }
}

fn agrees(got: Option<&RawValue>, wanted: Option<&str>, r#type: &str) -> Result<bool> {
    let Some(got) = got else { return Ok(false) };
    let Some(wanted) = wanted else {
        return Ok(got.get() == "null");
    };
    let text = || serde_json::from_str::<String>(got.get());
    Ok(match r#type {
        "smallint" | "integer" | "bigint" | "numeric" => got.get() == wanted,
        "double precision" | "real" => got.get().parse::<f64>().ok() == wanted.parse::<f64>().ok(),
        "boolean" => got.get() == wanted,
        "timestamp with time zone" => text().is_ok_and(|text| {
            trimmed(text.replace('T', " ").trim_end_matches('Z'))
                == trimmed(wanted.trim_end_matches("+00"))
        }),
        "timestamp without time zone" => {
            text().is_ok_and(|text| trimmed(&text.replace('T', " ")) == trimmed(wanted))
        }
        "time without time zone" => text().is_ok_and(|text| trimmed(&text) == trimmed(wanted)),
        "interval" => super::avro_time::interval(&text()?)? == super::avro_time::interval(wanted)?,
        _ if r#type.ends_with("[]") || r#type == "composite" => {
            serde_json::from_str::<Json>(got.get())? == serde_json::from_str::<Json>(wanted)?
        }
        _ => text().is_ok_and(|text| text == wanted),
    })
}

/// Without zeros at the end of a fraction.
fn trimmed(text: &str) -> &str {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

/// A document's fields, as the engine keeps them.
pub(super) type Document = BTreeMap<String, Box<RawValue>>;

#[derive(Debug, Deserialize)]
struct Page {
    #[serde(rename = "_scroll_id")]
    scroll_id: Option<String>,
    hits: Hits,
}

#[derive(Debug, Deserialize)]
struct Hits {
    hits: Vec<Hit>,
}

/// A document.
#[derive(Debug, Deserialize)]
pub(super) struct Hit {
    #[serde(rename = "_id")]
    pub(super) id: String,
    #[serde(rename = "_source")]
    pub(super) source: Document,
}

/// All documents of an index, by the key's text as Postgres prints it.
async fn documents(
    engine: &str,
    index: &str,
    columns: &Columns,
) -> Result<BTreeMap<String, Document>> {
    let mut documents = BTreeMap::new();
    for hit in all_hits(engine, index).await? {
        let mut key = Vec::new();
        for name in &columns.key {
            let raw = hit
                .source
                .get(name)
                .with_context(|| format!("document {} lacks {name}", hit.id))?;
            key.push(
                serde_json::from_str::<String>(raw.get()).unwrap_or_else(|_| raw.get().to_owned()),
            );
        }
        let doubled = documents.insert(key.join("|"), hit.source);
        ensure!(
            doubled.is_none(),
            "{index}: two documents have the key {key:?}"
        );
    }
    Ok(documents)
}

/// All documents of an index, made visible before.
pub(super) async fn all_hits(engine: &str, index: &str) -> Result<Vec<Hit>> {
    let http = crate::http::client();
    http.post(format!("{engine}/{index}/_refresh"))
        .send()
        .await?
        .error_for_status()?;
    let first = http
        .post(format!("{engine}/{index}/_search?scroll=1m"))
        .json(&json!({"size": 2000, "sort": ["_doc"]}))
        .send()
        .await?;
    let mut page: Page = page_of(first).await?;
    let mut hits = Vec::new();
    while !page.hits.hits.is_empty() {
        hits.append(&mut page.hits.hits);
        let Some(scroll) = &page.scroll_id else {
            bail!("{index}: no scroll id")
        };
        let next = http
            .post(format!("{engine}/_search/scroll"))
            .json(&json!({"scroll": "1m", "scroll_id": scroll}))
            .send()
            .await?;
        page = page_of(next).await?;
    }
    // An engine keeps 500 of them at most, each until its time is over.
    if let Some(scroll) = &page.scroll_id {
        http.delete(format!("{engine}/_search/scroll"))
            .json(&json!({"scroll_id": scroll}))
            .send()
            .await?;
    }
    Ok(hits)
}

async fn page_of(response: reqwest::Response) -> Result<Page> {
    let status = response.status();
    let body = response.text().await?;
    ensure!(status.is_success(), "the engine answers {status}: {body}");
    serde_json::from_str(&body).context("read the engine's answer")
}
