//! The documents of two indices of a topic, as they are compared: names by the page, and what each index has of a document.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tributary_runtime::{Error, Result, ResultExt as _};

use super::site::{Site, whole};
use super::standing::Standing;
use crate::client::Content;
use crate::document::Document;
use crate::value::are_written_alike;

/// How long the engine keeps a search between two pages.
const KEEP_ALIVE: &str = "2m";
/// Names a page.
const PAGE: usize = 1000;
/// So many documents are read together, and fewer where they are large: an answer is to have no more than so many bytes.
const AT_ONCE: usize = 200;
const ANSWER_BYTES: usize = 2 << 20;

/// What an index has of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) version: u64,
    /// Of what is compared of its fields: equal ones are equal here.
    content: u64,
}

/// What two indices have of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) old: Option<Shown>,
    pub(super) new: Option<Shown>,
}

/// The indices whose documents are compared.
#[derive(Debug)]
pub(super) struct TwoIndices<'a> {
    site: &'a Site,
    pub(super) old: &'a Standing,
    pub(super) new: &'a Standing,
    /// Why the fields are not compared, where that would say nothing.
    pub(super) unlike: Option<String>,
    at_once: usize,
}

/// The names of an index' documents, as it had them when this was begun.
#[derive(Debug)]
pub(super) struct Names<'a> {
    site: &'a Site,
    index: &'a Standing,
    scroll_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct NamePage {
    #[serde(rename = "_scroll_id")]
    scroll_id: String,
    #[serde(default)]
    hits: NameHits,
}

#[derive(Debug, Default, Deserialize)]
struct NameHits {
    #[serde(default)]
    hits: Vec<NameHit>,
}

#[derive(Debug, Deserialize)]
struct NameHit {
    #[serde(rename = "_id")]
    id: String,
}

#[derive(Debug, Deserialize)]
struct DocumentsRead {
    docs: Vec<DocumentRead>,
}

#[derive(Debug, Deserialize)]
struct DocumentRead {
    #[serde(rename = "_id")]
    id: String,
    #[serde(default)]
    found: bool,
    #[serde(rename = "_version")]
    version: Option<u64>,
    #[serde(rename = "_source")]
    source: Option<Document>,
    error: Option<Value>,
}

impl<'a> TwoIndices<'a> {
    pub(super) fn new(site: &'a Site, old: &'a Standing, new: &'a Standing) -> Self {
        let changed = [old, new].into_iter().find_map(|index| {
            let why = index.changes_documents()?;
            Some(format!("'{}': {why}", index.name))
        });
        let otherwise = || {
            let others = "they were made with other `include`, `exclude` or `rename`";
            (old.documents() != new.documents()).then(|| others.to_owned())
        };
        Self {
            site,
            old,
            new,
            unlike: changed.or_else(otherwise),
            at_once: AT_ONCE / 4,
        }
    }

    /// What both have of these rows now, whether searches find it or not; in their order.
    ///
    /// # Errors
    /// The engine's.
    pub(super) async fn pairs(&mut self, ids: &[String]) -> Result<Vec<Pair>> {
        let (mut rest, mut pairs) = (ids, Vec::new());
        while !rest.is_empty() {
            let (some, others) = rest.split_at(self.at_once.min(rest.len()));
            rest = others;
            let with_fields = self.unlike.is_none();
            let (old, new) = tokio::join!(
                self.states(self.old, some, with_fields),
                self.states(self.new, some, with_fields)
            );
            let ((old, some_bytes), (new, other_bytes)) = (old?, new?);
            let of = |states: &HashMap<String, Shown>, id| states.get(id).copied();
            pairs.extend(some.iter().map(|id| Pair {
                old: of(&old, id),
                new: of(&new, id),
            }));
            let bytes = some_bytes.max(other_bytes);
            self.at_once = next_size(self.at_once, some.len(), bytes);
        }
        Ok(pairs)
    }

    /// Which of these rows the old index has not.
    ///
    /// # Errors
    /// The engine's.
    pub(super) async fn absent(&self, ids: Vec<String>) -> Result<Vec<String>> {
        let (there, _) = self.states(self.old, &ids, false).await?;
        let absent = ids.into_iter().filter(|id| !there.contains_key(id));
        Ok(absent.collect())
    }

    /// What an index has of these rows, and how many bytes the engine's answer had.
    async fn states(
        &self,
        index: &Standing,
        ids: &[String],
        with_fields: bool,
    ) -> Result<(HashMap<String, Shown>, usize)> {
        let doing = || format!("read documents of '{}'", index.name);
        let mut query = vec![("_source", if with_fields { "true" } else { "false" })];
        query.extend(index.preference());
        let (path, content) = (
            [index.name.as_str(), "_mget"],
            Content::Json(json!({"ids": ids})),
        );
        let reply = self.site.ask(Method::POST, &path, &query, content).await;
        let reply = reply.doing(doing)?;
        if !reply.status.is_success() {
            return Err(Error::stop_msg(reply.refusal_in_short()).context(doing()));
        }
        let answer: DocumentsRead = serde_json::from_slice(&reply.body)
            .map_err(|error| Error::retry(error).context(doing()))?;
        let mut states = HashMap::new();
        for document in answer.docs {
            if let Some(error) = document.error {
                let kind = error["type"].as_str().unwrap_or("an error");
                return Err(
                    Error::retry_msg(format_args!("the engine tells {kind}")).context(doing())
                );
            }
            let version = document.version.filter(|_| document.found);
            if let Some(version) = version {
                let content = self.content(&document.source.unwrap_or_default());
                states.insert(document.id, Shown { version, content });
            }
        }
        Ok((states, reply.body.len()))
    }

    /// Only those fields say something that both indices want in one form.
    fn content(&self, document: &Document) -> u64 {
        let is_compared = |name: &str| match (self.old.field(name), self.new.field(name)) {
            (Some(old), Some(new)) => are_written_alike(old, new),
            (old, new) => old.is_none() && new.is_none(),
        };
        let fields = document.iter().filter(|(name, _)| is_compared(name));
        let mut fields: Vec<_> = fields.map(|(name, value)| (name, value.get())).collect();
        fields.sort_unstable();
        let mut hasher = DefaultHasher::new();
        fields.hash(&mut hasher);
        hasher.finish()
    }
}

/// How many documents to read together behind an answer for so many with so many bytes.
fn next_size(size: usize, asked: usize, bytes: usize) -> usize {
    let fit = ANSWER_BYTES * asked / bytes.max(1);
    // One large document is no sign of many.
    fit.clamp(size / 4, size * 2).clamp(1, AT_ONCE)
}

impl<'a> Names<'a> {
    pub(super) const fn of(site: &'a Site, index: &'a Standing) -> Self {
        Self {
            site,
            index,
            scroll_id: None,
        }
    }

    /// The next page; empty behind the last one. Not to be gone on with after an error.
    ///
    /// # Errors
    /// The engine's; retry where it has lost the search.
    pub(super) async fn next(&mut self) -> Result<Vec<String>> {
        let doing = || format!("list the documents of '{}'", self.index.name);
        let reply = match &self.scroll_id {
            None => {
                let content = json!({"size": PAGE, "sort": ["_doc"], "_source": false});
                let mut query = vec![("scroll", KEEP_ALIVE)];
                query.extend(self.index.preference());
                let path = [self.index.name.as_str(), "_search"];
                let content = Content::Json(content);
                self.site.ask(Method::POST, &path, &query, content).await
            }
            Some(scroll_id) => {
                let content = json!({"scroll": KEEP_ALIVE, "scroll_id": scroll_id});
                let content = Content::Json(content);
                let path = ["_search", "scroll"];
                // Once: the engine may have passed a page over whose answer was lost.
                self.site.ask_once(Method::POST, &path, content).await
            }
        };
        let reply = reply.doing(doing)?;
        if reply.status == StatusCode::NOT_FOUND {
            return Err(Error::retry_msg("the search is gone").context(doing()));
        }
        let checked = reply.json(&doing())?;
        whole(checked, &doing())?;
        let page: NamePage = serde_json::from_slice(&reply.body)
            .map_err(|error| Error::retry(error).context(doing()))?;
        self.scroll_id = Some(page.scroll_id);
        Ok(page.hits.hits.into_iter().map(|hit| hit.id).collect())
    }

    /// Gives the search's resources back, so that nobody waits for it. One that is gone is fine, and one that stays is gone in a while.
    pub(super) async fn end(self) {
        let Some(scroll_id) = self.scroll_id else {
            return;
        };
        let content = Content::Json(json!({"scroll_id": [scroll_id]}));
        let path = ["_search", "scroll"];
        let ended = self.site.ask(Method::DELETE, &path, &[], content).await;
        if let Err(error) = ended {
            tracing::debug!(%error, "could not end a search");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ANSWER_BYTES, AT_ONCE, next_size};

    #[test]
    fn fewer_documents_are_read_together_where_they_are_large() {
        assert_eq!(next_size(50, 50, 10_000), 100);
        assert_eq!(next_size(AT_ONCE, AT_ONCE, 10_000), AT_ONCE);
        assert_eq!(next_size(100, 100, 2 * ANSWER_BYTES), 50);
        assert_eq!(next_size(100, 100, 100 * ANSWER_BYTES), 25);
        assert_eq!(next_size(1, 1, ANSWER_BYTES * 9), 1);
        assert_eq!(next_size(1, 1, 10), 2);
    }
}
