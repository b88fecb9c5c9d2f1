//! The search engine as an application sees it: over HTTP, by the indices' aliases.

use anyhow::{Context, Result, bail};
use reqwest::StatusCode;
use serde_json::{Value, json};

/// A client of the engine.
#[derive(Debug, Clone)]
pub(super) struct SearchEngine {
    http: reqwest::Client,
    url: String,
}

/// A document that was found.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) score: f64,
    pub(super) source: Value,
}

impl SearchEngine {
    pub(super) fn new(url: &str) -> Self {
        Self {
            http: crate::http::client(),
            url: url.to_owned(),
        }
    }

    /// How many documents can be found behind a name or pattern now; none in an index that is being created.
    pub(super) async fn count(&self, name: &str) -> Result<u64> {
        let request = self.http.get(format!("{}/{name}/_count", self.url));
        let response = request.send().await.context("ask the search engine")?;
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            return Ok(0);
        }
        answer(response).await?["count"]
            .as_u64()
            .context("the engine tells no count")
    }

    /// Makes everything that was accepted visible to searches.
    pub(super) async fn refresh(&self, alias: &str) -> Result<()> {
        self.ask(self.http.post(format!("{}/{alias}/_refresh", self.url)))
            .await
            .map(drop)
    }

    /// All documents that have the word in one of the fields, best first.
    pub(super) async fn search(
        &self,
        alias: &str,
        fields: &[&str],
        word: &str,
    ) -> Result<Vec<Found>> {
        let body = json!({
            "size": 10_000,
            "track_total_hits": true,
            "query": {"multi_match": {"query": word, "fields": fields}},
        });
        let request = self.http.post(format!("{}/{alias}/_search", self.url));
        let mut answer = self.ask(request.json(&body)).await?;
        let total = answer["hits"]["total"]["value"].as_u64();
        let Value::Array(hits) = answer["hits"]["hits"].take() else {
            bail!("the engine's answer has no hits");
        };
        if total != u64::try_from(hits.len()).ok() {
            bail!(
                "the engine tells of {total:?} documents, and returns {}",
                hits.len()
            );
        }
        Ok(hits
            .into_iter()
            .map(|mut hit| Found {
                score: hit["_score"].as_f64().unwrap_or_default(),
                source: hit["_source"].take(),
            })
            .collect())
    }

    async fn ask(&self, request: reqwest::RequestBuilder) -> Result<Value> {
        answer(request.send().await.context("ask the search engine")?).await
    }
}

async fn answer(response: reqwest::Response) -> Result<Value> {
    let status = response.status();
    let body = response.text().await?;
    if !status.is_success() {
        bail!("the search engine answers {status}: {body}");
    }
    serde_json::from_str(&body).context("read the search engine's answer")
}
