//! "Gone below": deletes the rows that a truncate or a re-snapshot has left behind.

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tributary_runtime::{Error, Result, ResultExt};

use crate::bulk::Bulk;
use crate::chunk::Draft;
use crate::client::{Client, Content, Reply};
use crate::index::Index;
use crate::mapping::SEQ_FIELD;
use crate::metric;

/// Rows per page.
const PAGE: usize = 5000;
/// How long the engine keeps the search between two pages.
const KEEP_ALIVE: &str = "2m";

#[derive(Debug, Deserialize)]
struct Page<'a> {
    #[serde(rename = "_scroll_id")]
    scroll_id: String,
    #[serde(borrow, default)]
    hits: Hits<'a>,
}

#[derive(Debug, Default, Deserialize)]
struct Hits<'a> {
    #[serde(borrow, default)]
    hits: Vec<Hit<'a>>,
}

#[derive(Debug, Deserialize)]
struct Hit<'a> {
    /// Kept as the JSON that the delete needs.
    #[serde(rename = "_id", borrow)]
    id: &'a RawValue,
}

/// Deletes every row of the index with a version below `below`, at the last version below it: a row at `below` or a newer
/// one stays, also if it comes later, and an older one that comes late is refused. Safe to repeat.
///
/// # Errors
/// As [`Client::send`] and [`Bulk::submit`]; retry where not every shard has answered.
pub(crate) async fn run(client: &Client, bulk: &Bulk, index: &Index, below: u64) -> Result<()> {
    let Some(last) = below.checked_sub(1) else {
        return Ok(());
    };
    let Some(write_index) = index.find().await? else {
        return Ok(());
    };
    let doing = || format!("delete the rows of '{write_index}' below {below}");
    // A search sees only what was refreshed.
    let refreshed = client
        .send(
            Method::POST,
            &[&write_index, "_refresh"],
            &[],
            Content::Nothing,
        )
        .await
        .doing(doing)?;
    complete(&refreshed.json(&doing())?).doing(doing)?;

    let mut reply = search(client, &write_index, below).await.doing(doing)?;
    loop {
        if reply.status == StatusCode::NOT_FOUND {
            // The engine has restarted, or the page took too long: from the beginning, with what is left.
            return Err(Error::retry_msg("the search is gone").context(doing()));
        }
        let checked = reply.json(&doing())?;
        complete(&checked).doing(doing)?;
        let page: Page<'_> = serde_json::from_slice(&reply.body)
            .map_err(|error| Error::retry(error).context(doing()))?;
        if page.hits.hits.is_empty() {
            return close(client, &page.scroll_id).await.doing(doing);
        }
        let mut chunk = Draft::default();
        for hit in &page.hits.hits {
            chunk.push_sweep(hit.id.get().as_bytes(), last);
        }
        bulk.submit(index, chunk.finish()).await.doing(doing)?;
        if index.target_name().is_some_and(|now| *now != *write_index) {
            // What the search found is another index' rows.
            return Err(Error::retry_msg("the alias was moved meanwhile").context(doing()));
        }
        metrics::counter!(metric::SWEPT).increment(page.hits.hits.len() as u64);
        reply = next(client, &page.scroll_id).await.doing(doing)?;
    }
}

async fn search(client: &Client, index: &str, below: u64) -> Result<Reply> {
    let query = json!({
        "size": PAGE,
        "query": {"range": {(SEQ_FIELD): {"lt": below}}},
        "sort": ["_doc"],
        "_source": false,
    });
    client
        .send(
            Method::POST,
            &[index, "_search"],
            &[("scroll", KEEP_ALIVE)],
            Content::Json(query),
        )
        .await
}

async fn next(client: &Client, scroll_id: &str) -> Result<Reply> {
    let content = json!({"scroll": KEEP_ALIVE, "scroll_id": scroll_id});
    client
        .send(
            Method::POST,
            &["_search", "scroll"],
            &[],
            Content::Json(content),
        )
        .await
}

/// Gives the search's resources back; a search that is gone already is fine.
async fn close(client: &Client, scroll_id: &str) -> Result<()> {
    let content = json!({"scroll_id": [scroll_id]});
    client
        .send(
            Method::DELETE,
            &["_search", "scroll"],
            &[],
            Content::Json(content),
        )
        .await?;
    Ok(())
}

/// An engine answers with what it has, and counts the shards that it has not asked.
fn complete(answer: &Value) -> Result<()> {
    let failed = answer.pointer("/_shards/failed").and_then(Value::as_u64);
    match failed {
        None | Some(0) => Ok(()),
        Some(failed) => Err(Error::retry_msg(format_args!(
            "{failed} shards do not answer"
        ))),
    }
}
