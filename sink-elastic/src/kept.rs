//! What documents have of the columns that a record has no value for: it is kept.

use std::collections::HashMap;

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tributary_engine::Change;
use tributary_runtime::{Error, Result, ResultExt};
use tributary_schemas::record::Datum;

use crate::client::{Client, Content};
use crate::document::Document;
use crate::failure;
use crate::id;
use crate::index::Index;

/// So many documents are read and written together: their values are large ones.
pub(crate) const AT_ONCE: usize = 20;

#[derive(Debug, Deserialize)]
struct Documents {
    docs: Vec<Read>,
}

#[derive(Debug, Deserialize)]
struct Read {
    #[serde(rename = "_id")]
    id: String,
    #[serde(rename = "_source")]
    source: Option<Document>,
    error: Option<Value>,
}

/// Whether a change's row lacks values.
pub(crate) fn is_incomplete(change: &Change<'_>) -> bool {
    let row = change.row();
    row.is_some_and(|row| row.row.contains(&Datum::Unavailable))
}

/// Whether the keys of two changes are of one type: of those, each row is there once.
pub(crate) fn have_one_key_type(one: &Change<'_>, other: &Change<'_>) -> bool {
    let types = [one, other].map(|change| change.key.as_ref().map(|key| key.key_type));
    match types {
        [Some(one), Some(other)] => std::ptr::eq(one, other),
        _ => false,
    }
}

/// The documents that the index has of the rows of these changes, each beside its change.
///
/// # Errors
/// As [`Client::send`]; retry where a document cannot be read.
pub(crate) async fn documents(
    client: &Client,
    index: &Index,
    changes: &[Change<'_>],
) -> Result<Vec<Option<Document>>> {
    let ids: Vec<_> = changes.iter().map(id_of).collect();
    let found = index.find().await?;
    let write_index = found.ok_or_else(|| failure::vanished(index.alias()))?;
    let doing = || format!("read documents of '{write_index}'");
    let asked: Vec<_> = ids.iter().flatten().collect();
    let content = Content::Json(json!({"ids": asked}));
    let path = [&*write_index, "_mget"];
    let sent = client.send(Method::POST, &path, &[], content);
    let reply = sent.await.doing(doing)?;
    if !reply.status.is_success() {
        return Err(Error::retry_msg(reply.refusal_in_short()).context(doing()));
    }
    let answer: Documents = serde_json::from_slice(&reply.body)
        .map_err(|error| Error::retry(error).context(doing()))?;
    let mut known = HashMap::new();
    for document in answer.docs {
        if let Some(error) = document.error {
            let kind = error["type"].as_str().unwrap_or("an error");
            return Err(Error::retry_msg(format_args!("the engine tells {kind}")).context(doing()));
        }
        if let Some(source) = document.source {
            known.insert(document.id, source);
        }
    }
    let documents = ids.into_iter();
    Ok(documents.map(|id| known.remove(&id?)).collect())
}

/// `None` of a row whose key has no form, which is refused later, and of one without a key, which is new.
fn id_of(change: &Change<'_>) -> Option<String> {
    let mut id = String::new();
    id::of_key(change.key.as_ref()?, &mut id).ok()?;
    Some(id)
}
