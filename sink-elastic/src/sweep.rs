//! "Gone below": deletes the rows that a truncate or a re-snapshot has left behind.

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tributary_runtime::{Error, Result, ResultExt};

use crate::bulk::Bulk;
use crate::chunk::Draft;
use crate::client::{Client, Content, Reply};
use crate::failure;
use crate::index::Index;
use crate::mapping::SEQ_FIELD;
use crate::metric;

/// Rows per page.
const PAGE: usize = 5000;
/// How long the engine keeps the search between two pages.
const KEEP_ALIVE: &str = "2m";

/// What a search by pages answers.
#[derive(Debug, Deserialize)]
pub(crate) struct Page<'a> {
    #[serde(rename = "_scroll_id")]
    pub(crate) scroll_id: String,
    #[serde(borrow, default)]
    pub(crate) hits: Hits<'a>,
}

/// Its documents.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Hits<'a> {
    #[serde(borrow, default)]
    pub(crate) hits: Vec<Hit<'a>>,
}

/// One of them.
#[derive(Debug, Deserialize)]
pub(crate) struct Hit<'a> {
    /// Kept as the JSON that the delete needs.
    #[serde(rename = "_id", borrow)]
    pub(crate) id: &'a RawValue,
}

/// A sweep of an index, a page of rows at a time.
///
/// What it finds is fixed when it begins. Nothing of it is kept by the sink but the engine's name for the search: after an error, or
/// by who comes next, it is begun again, and finds what is left.
#[derive(Debug)]
pub(crate) struct Sweep {
    write_index: String,
    below: u64,
    /// The last version below: a row at `below` or a newer one stays, also if it comes later, and an older one that comes late is
    /// refused.
    last: u64,
    preference: Option<(&'static str, &'static str)>,
    scroll_id: Option<String>,
}

impl Sweep {
    /// Begins a sweep of the rows with a version below `below`; `None` where there can be none.
    ///
    /// # Errors
    /// As [`Client::send`]; retry where not every shard has answered, and where the index is gone.
    pub(crate) async fn begin(client: &Client, index: &Index, below: u64) -> Result<Option<Self>> {
        let Some(last) = below.checked_sub(1) else {
            return Ok(None);
        };
        let found = index.find().await?;
        let write_index = found.ok_or_else(|| failure::vanished(index.alias()))?;
        let sweep = Self {
            write_index,
            below,
            last,
            preference: index.preference().await,
            scroll_id: None,
        };
        present(client, &sweep.write_index)
            .await
            .doing(|| sweep.doing())?;
        // A search sees only what was refreshed.
        let path = [&*sweep.write_index, "_refresh"];
        let refreshed = client.send(Method::POST, &path, &[], Content::Nothing);
        let refreshed = refreshed.await.doing(|| sweep.doing())?;
        if refreshed.status == StatusCode::NOT_FOUND {
            return Err(failure::vanished(index.alias()).context(sweep.doing()));
        }
        complete(&refreshed.json(&sweep.doing())?).doing(|| sweep.doing())?;
        Ok(Some(sweep))
    }

    /// Deletes the next page of rows; whether there was one. Not to be gone on with after an error.
    ///
    /// # Errors
    /// As [`Client::send`] and [`Bulk::submit`]; retry where not every shard has answered.
    pub(crate) async fn go_on(
        &mut self,
        client: &Client,
        bulk: &Bulk,
        index: &Index,
    ) -> Result<bool> {
        let reply = match &self.scroll_id {
            None => self.search(client).await,
            Some(scroll_id) => next(client, scroll_id, KEEP_ALIVE).await,
        };
        let reply = reply.doing(|| self.doing())?;
        if reply.status == StatusCode::NOT_FOUND {
            // The engine has restarted, or the page took too long: from the beginning, with what is left.
            return Err(Error::retry_msg("the search is gone").context(self.doing()));
        }
        let checked = reply.json(&self.doing())?;
        complete(&checked).doing(|| self.doing())?;
        let page: Page<'_> = serde_json::from_slice(&reply.body)
            .map_err(|error| Error::retry(error).context(self.doing()))?;
        if page.hits.hits.is_empty() {
            close(client, &page.scroll_id)
                .await
                .doing(|| self.doing())?;
            return Ok(false);
        }
        let mut chunk = Draft::default();
        for hit in &page.hits.hits {
            chunk.push_sweep(hit.id.get().as_bytes(), self.last);
        }
        let deleted = bulk.submit(index, chunk.finish(), false).await;
        deleted.doing(|| self.doing())?;
        if index
            .target_name()
            .is_some_and(|now| *now != *self.write_index)
        {
            // What the search found is another index' rows.
            return Err(Error::retry_msg("the alias was moved meanwhile").context(self.doing()));
        }
        metrics::counter!(metric::SWEPT).increment(page.hits.hits.len() as u64);
        self.scroll_id = Some(page.scroll_id);
        Ok(true)
    }

    async fn search(&self, client: &Client) -> Result<Reply> {
        let query = json!({
            "size": PAGE,
            "query": {"range": {(SEQ_FIELD): {"lt": self.below}}},
            "sort": ["_doc"],
            "_source": false,
        });
        let mut parameters = vec![("scroll", KEEP_ALIVE)];
        parameters.extend(self.preference);
        let path = [&*self.write_index, "_search"];
        client
            .send(Method::POST, &path, &parameters, Content::Json(query))
            .await
    }

    /// Whether it deletes what is below `below`.
    pub(crate) const fn is_below(&self, below: u64) -> bool {
        self.below == below
    }

    fn doing(&self) -> String {
        format!(
            "delete the rows of '{}' below {}",
            self.write_index, self.below
        )
    }
}

/// Whether all shards of an index are there. The engines wait a minute for one that is not before they refresh, longer than for any
/// request, and count it then among those that have not failed.
pub(crate) async fn present(client: &Client, index: &str) -> Result<()> {
    let path = ["_cluster", "health", index];
    let reply = client
        .send(Method::GET, &path, &[("timeout", "0s")], Content::Nothing)
        .await?;
    let health = reply.json(&format!("ask for the health of '{index}'"))?;
    if health.get("status").and_then(Value::as_str) == Some("red") {
        return Err(
            Error::retry_msg(format_args!("a shard of '{index}' is not there"))
                .remedy(failure::ABSENT),
        );
    }
    Ok(())
}

/// The next page of a search, which the engine then keeps for so long.
pub(crate) async fn next(client: &Client, scroll_id: &str, keep_alive: &str) -> Result<Reply> {
    let content = json!({"scroll": keep_alive, "scroll_id": scroll_id});
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
pub(crate) async fn close(client: &Client, scroll_id: &str) -> Result<()> {
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
pub(crate) fn complete(answer: &Value) -> Result<()> {
    let failed = answer.pointer("/_shards/failed").and_then(Value::as_u64);
    match failed {
        None | Some(0) => Ok(()),
        Some(failed) => Err(Error::retry_msg(format_args!(
            "{failed} shards do not answer"
        ))),
    }
}
