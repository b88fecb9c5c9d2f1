//! Documents as the index has them, by their names.

use std::collections::HashMap;

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tributary_runtime::{Error, Result, ResultExt};

use crate::client::{Client, Content};
use crate::document::Document;

#[derive(Debug, Deserialize)]
struct Documents {
    docs: Vec<Answered>,
}

#[derive(Debug, Deserialize)]
struct Answered {
    #[serde(rename = "_id")]
    id: String,
    #[serde(rename = "_version")]
    version: Option<i64>,
    #[serde(rename = "_source")]
    source: Option<Document>,
    error: Option<Value>,
}

/// A document as it is now, refreshed or not.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) version: i64,
    /// Not there where the index keeps none.
    pub(crate) source: Option<Document>,
}

/// Those of these documents that there are.
///
/// # Errors
/// As [`Client::send`]; retry where a document cannot be read.
pub(crate) async fn documents(
    client: &Client,
    index: &str,
    ids: &[&str],
) -> Result<HashMap<String, Stored>> {
    let doing = || format!("read documents of '{index}'");
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let content = Content::Json(json!({"ids": ids}));
    let path = [index, "_mget"];
    let sent = client.send(Method::POST, &path, &[], content);
    let reply = sent.await.doing(doing)?;
    if !reply.status.is_success() {
        return Err(Error::retry_msg(reply.refusal_in_short()).context(doing()));
    }
    let answer: Documents = serde_json::from_slice(&reply.body)
        .map_err(|error| Error::retry(error).context(doing()))?;
    let mut stored = HashMap::new();
    for Answered {
        id,
        version,
        source,
        error,
    } in answer.docs
    {
        if let Some(error) = error {
            let kind = error["type"].as_str().unwrap_or("an error");
            return Err(Error::retry_msg(format_args!("the engine tells {kind}")).context(doing()));
        }
        // Of one that is not there it tells no version.
        if let Some(version) = version {
            stored.insert(id, Stored { version, source });
        }
    }
    Ok(stored)
}
