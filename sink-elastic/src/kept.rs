//! What documents have of the columns that a record has no value for: it is kept.

use std::collections::HashMap;

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tributary_engine::{Action, Change};
use tributary_runtime::{Error, Result, ResultExt};
use tributary_schemas::record::Datum;

use crate::client::{Client, Content};
use crate::id;
use crate::index::Index;

/// So many documents are read and written together: their values are large ones.
pub(crate) const AT_ONCE: usize = 20;

#[derive(Debug, Deserialize)]
struct Documents {
    docs: Vec<Document>,
}

#[derive(Debug, Deserialize)]
struct Document {
    #[serde(rename = "_id")]
    id: String,
    #[serde(rename = "_source")]
    source: Option<Map<String, Value>>,
    error: Option<Value>,
}

/// Whether a change's row lacks values.
pub(crate) fn is_incomplete(change: &Change<'_>) -> bool {
    match &change.action {
        Action::Upsert(row) | Action::Append(row) => row.row.contains(&Datum::Unavailable),
        Action::Delete => false,
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
) -> Result<Vec<Option<Map<String, Value>>>> {
    let ids: Vec<_> = changes.iter().map(id_of).collect();
    let Some(write_index) = index.find().await? else {
        return Ok(ids.iter().map(|_| None).collect());
    };
    let doing = || format!("read documents of '{write_index}'");
    let asked: Vec<_> = ids.iter().flatten().collect();
    let content = Content::Json(json!({"ids": asked}));
    let path = [&*write_index, "_mget"];
    let sent = client.send(Method::POST, &path, &[], content);
    let reply = sent.await.doing(doing)?;
    let reply = reply.json(&doing())?;
    let answer: Documents =
        serde_json::from_value(reply).map_err(|error| Error::retry(error).context(doing()))?;
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
