//! `_bulk`: sends operations until each is confirmed, refused, or has failed for too long.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use tokio::time::Instant;
use tributary_engine::Rejection;
use tributary_runtime::retry::Backoff;
use tributary_runtime::{Error, Result, ResultExt};

use crate::chunk::{Chunk, Operation};
use crate::client::{Client, Content};
use crate::failure::{self, Failure, Verdict};
use crate::index::Index;
use crate::metric;

/// What every item of a response is cut down to.
const FILTER: &str = "items.*._index,items.*.status,items.*.error";

/// Sends chunks; shared by all writers.
#[derive(Debug)]
pub(crate) struct Bulk {
    client: Arc<Client>,
    timeout: String,
    /// How long operations that a busy engine has turned away are sent again here, before the loop's own
    /// back-off takes over.
    patience: Duration,
}

#[derive(Debug, Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    items: Vec<Entry<'a>>,
}

#[derive(Debug, Deserialize)]
struct Entry<'a> {
    #[serde(rename = "index", alias = "delete", borrow)]
    item: Item<'a>,
}

#[derive(Debug, Deserialize)]
struct Item<'a> {
    #[serde(rename = "_index", borrow)]
    index: Cow<'a, str>,
    status: u16,
    #[serde(default)]
    error: Option<Failure>,
}

/// What became of the operations of one request.
#[derive(Debug, Default)]
struct Outcome {
    indexed: u64,
    deleted: u64,
    conflicts: u64,
    again: Vec<Operation>,
    again_kinds: Option<String>,
    rejections: Vec<Rejection>,
}

impl Bulk {
    pub(crate) fn new(client: Arc<Client>, patience: Duration) -> Self {
        Self {
            timeout: client.engine_timeout(),
            client,
            patience,
        }
    }

    /// Sends a chunk; returns the documents that the engine refuses. All other operations are confirmed then.
    ///
    /// # Errors
    /// Retry: the engine is away, blocked or busy for longer than the patience. Stop: the index is gone or
    /// not ours, or the engine does not allow the request.
    pub(crate) async fn submit(&self, index: &Index, chunk: Chunk) -> Result<Vec<Rejection>> {
        let mut chunk = chunk;
        let mut rejections = std::mem::take(&mut chunk.rejections);
        let mut parts = vec![chunk];
        while let Some(part) = parts.pop() {
            let parts_of_it = self.submit_part(index, part, &mut rejections).await?;
            parts.extend(parts_of_it);
        }
        Ok(rejections)
    }

    /// Sends one request until all its operations are settled, or hands it back in halves where it is too large.
    async fn submit_part(
        &self,
        index: &Index,
        mut part: Chunk,
        rejections: &mut Vec<Rejection>,
    ) -> Result<Vec<Chunk>> {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5), 2.0);
        let give_up = Instant::now() + self.patience;
        while !part.operations.is_empty() {
            let Some(outcome) = self.request(index, &part).await? else {
                return Ok(halves(&part, rejections));
            };
            outcome.record();
            rejections.extend(outcome.rejections);
            if outcome.again.is_empty() {
                break;
            }
            let delay = backoff.next_delay();
            if Instant::now() + delay > give_up {
                return Err(Error::retry_msg(format_args!(
                    "the engine turns operations on '{}' away for {} s ({})",
                    index.alias(),
                    self.patience.as_secs(),
                    outcome.again_kinds.unwrap_or_default()
                )));
            }
            part = part.only(&outcome.again);
            tokio::time::sleep(delay).await;
        }
        Ok(Vec::new())
    }

    /// One request; `None` if it is too large for the engine.
    async fn request(&self, index: &Index, chunk: &Chunk) -> Result<Option<Outcome>> {
        let alias = index.alias();
        let started = Instant::now();
        let reply = self
            .client
            .send(
                Method::POST,
                &[alias, "_bulk"],
                // Without require_alias an engine would make an index of the alias' name once that is gone.
                &[
                    ("require_alias", "true"),
                    ("timeout", &self.timeout),
                    ("filter_path", FILTER),
                ],
                Content::Lines(chunk.body()),
            )
            .await
            .doing(|| format!("write to '{}'", index.alias()))?;
        metrics::counter!(metric::REQUESTS).increment(1);
        metrics::counter!(metric::BYTES).increment(chunk.body().len() as u64);
        metrics::histogram!(metric::SECONDS).record(started.elapsed());
        match reply.status {
            StatusCode::PAYLOAD_TOO_LARGE => Ok(None),
            StatusCode::NOT_FOUND => Err(failure::vanished(alias)),
            status if status.is_success() => settle(alias, chunk, &reply.body).map(Some),
            // Its words may quote keys; only its type is told.
            status => Err(Error::stop_msg(format_args!(
                "the engine refuses a bulk request to '{alias}' with {status} ({})",
                reply.failure_kind()
            ))),
        }
    }
}

impl Outcome {
    fn record(&self) {
        metrics::counter!(metric::INDEXED).increment(self.indexed);
        metrics::counter!(metric::DELETED).increment(self.deleted);
        metrics::counter!(metric::CONFLICTS).increment(self.conflicts);
        metrics::counter!(metric::RETRIED).increment(self.again.len() as u64);
        metrics::counter!(metric::REJECTED).increment(self.rejections.len() as u64);
    }
}

/// Tells from a response what became of each operation.
fn settle(alias: &str, chunk: &Chunk, body: &[u8]) -> Result<Outcome> {
    let answer: Answer<'_> = serde_json::from_slice(body)
        .map_err(|error| Error::retry(error).context(format!("read the answer of '{alias}'")))?;
    if answer.items.len() != chunk.operations.len() {
        return Err(Error::retry_msg(format_args!(
            "the engine answers {} items to {} operations on '{alias}'",
            answer.items.len(),
            chunk.operations.len()
        )));
    }
    let mut outcome = Outcome::default();
    for (operation, Entry { item }) in chunk.operations.iter().zip(answer.items) {
        // OpenSearch heeds require_alias for documents only: a delete may have made this index.
        if item.index == alias && item.error.is_none() {
            return Err(failure::vanished(alias).context(format!(
                "delete from '{alias}', which is now an empty index that DELETE /{alias} removes"
            )));
        }
        let Some(error) = item.error else {
            // Also 404: the document of a delete was not there, and the engine remembers the version.
            let count = if operation.is_delete {
                &mut outcome.deleted
            } else {
                &mut outcome.indexed
            };
            *count += 1;
            continue;
        };
        match (error.verdict(item.status, alias), operation.place) {
            (Verdict::Conflict, _) => outcome.conflicts += 1,
            (Verdict::Again, _) => {
                outcome.again_kinds.get_or_insert_with(|| error.kinds());
                outcome.again.push(operation.clone());
            }
            (Verdict::Refused, Some((partition, offset))) => outcome.rejections.push(Rejection {
                partition,
                offset,
                reason: error.of_document(chunk.plan_of(operation)),
            }),
            (Verdict::Refused, None) => {
                return Err(Error::stop_msg(format_args!(
                    "the engine refuses a delete from '{alias}' ({})",
                    error.kinds()
                )));
            }
            (Verdict::Halt(error), _) => return Err(error),
        }
    }
    Ok(outcome)
}

/// The halves of a chunk; a single operation that is too large by itself is rejected.
fn halves(chunk: &Chunk, rejections: &mut Vec<Rejection>) -> Vec<Chunk> {
    if let [only] = chunk.operations.as_slice() {
        metrics::counter!(metric::REJECTED).increment(1);
        rejections.extend(only.place.map(|(partition, offset)| Rejection {
            partition,
            offset,
            reason: format!(
                "the document has {} bytes, more than the engine takes in one request (http.max_content_length)",
                Chunk::bytes_of(only)
            ),
        }));
        return Vec::new();
    }
    let (left, right) = chunk.operations.split_at(chunk.operations.len() / 2);
    vec![chunk.only(right), chunk.only(left)]
}
