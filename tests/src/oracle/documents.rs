//! Compares a search index with the fold of its topic, document by document.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::value::RawValue;

use super::search::{Document, all_hits};
use super::{Fold, Row};

/// The row's version in its document.
const SEQ: &str = "_tributary_seq";
/// How many differences are told before the rest is only counted.
const TOLD: usize = 12;

/// The documents in which an index differs from the fold of its topic: those that are missing, that should be gone, that are
/// of another version, and those with another value, or another field. Empty if none does.
///
/// `key` are the key's columns, in order. Keys are to be short, without commas, backslashes and a `~` in front; columns of
/// types whose canonical text is that of JSON.
///
/// # Errors
/// The engine does not answer.
pub async fn compare_documents(
    fold: &Fold,
    key: &[String],
    engine: &str,
    index: &str,
) -> Result<Vec<String>> {
    let mut wanted: BTreeMap<String, (u64, &Row)> = BTreeMap::new();
    for (values, seq, row) in fold.live() {
        let id: Vec<&str> = key.iter().map(|name| values[name].as_str()).collect();
        wanted.insert(id.join(","), (seq, row));
    }
    let mut found = Vec::new();
    for hit in all_hits(engine, index).await? {
        match wanted.remove(&hit.id) {
            Some((seq, row)) => found.extend(
                difference(&hit.source, seq, row)
                    .map(|what| format!("{index}: document {}: {what}", hit.id)),
            ),
            None => found.push(format!("{index}: document {} should be gone", hit.id)),
        }
    }
    let missing = wanted.keys();
    found.extend(missing.map(|id| format!("{index}: document {id} is missing")));
    let more = found.len().saturating_sub(TOLD);
    if more > 0 {
        found.truncate(TOLD);
        found.push(format!("… and {more} more"));
    }
    Ok(found)
}

/// In what a document differs from its row.
fn difference(document: &Document, seq: u64, row: &Row) -> Option<String> {
    let version = document.get(SEQ).map(|raw| raw.get().to_owned());
    if version != Some(seq.to_string()) {
        return Some(format!("version {version:?} instead of {seq}"));
    }
    for (column, value) in row {
        let got = document.get(column).map(|raw| text(raw));
        if got.as_ref() != Some(value) {
            return Some(format!("field {column}: {got:?} instead of {value:?}"));
        }
    }
    let other = document
        .keys()
        .find(|name| *name != SEQ && !row.contains_key(*name))?;
    Some(format!("field {other} is no column's"))
}

/// A string's text, and any other value as it stands; `None` for null.
fn text(raw: &RawValue) -> Option<String> {
    match raw.get() {
        "null" => None,
        other => Some(serde_json::from_str(other).unwrap_or_else(|_| other.to_owned())),
    }
}
