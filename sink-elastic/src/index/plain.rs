//! An index that a delete has made in the place of the alias, once that was gone.

use reqwest::{Method, StatusCode};
use serde_json::Value;
use tributary_runtime::{Error, Policy, Result};

use super::Index;
use crate::client::Content;
use crate::failure;
use crate::found::{self, Found};
use crate::requests::Request;

impl Index {
    /// A delete went to an index that has the alias' name. The engines make one where the alias is gone: it is deleted, so that the
    /// next one of ours can be built. One that holds anything, or says anything, is somebody else's and stays.
    ///
    /// The error to give back: retry, the alias is gone; or as [`Index::find`].
    pub(crate) async fn unmake(&self) -> Error {
        let vanished = failure::vanished(&self.alias);
        match self.try_unmake().await {
            Ok(_) => vanished,
            Err(error) => error,
        }
    }

    /// What stands behind the alias. While the service runs, what a delete has made in its place is taken away: another write, perhaps
    /// of another instance, is about to do that.
    ///
    /// # Errors
    /// As [`Index::find`].
    pub(super) async fn read_past_plain(&self) -> Result<Option<Found>> {
        match self.read().await {
            Err(error) if error.policy() == Policy::Stop && self.target_name().is_some() => {
                if self.try_unmake().await? {
                    self.read().await
                } else {
                    Err(error)
                }
            }
            read => read,
        }
    }

    /// Deletes it; whether it is not there any more.
    ///
    /// # Errors
    /// As [`Index::find`].
    async fn try_unmake(&self) -> Result<bool> {
        let alias = self.alias.as_str();
        let doing = format!("look at the index '{alias}', which a delete may have made");
        match self.is_bare(&doing).await? {
            Some(true) => {}
            is_bare => return Ok(is_bare.is_none()),
        }
        // A search, which counting is, sees only what was refreshed.
        for (method, path) in [(Method::POST, "_refresh"), (Method::GET, "_count")] {
            let path = [alias, path];
            let reply = self.request(method, &path, &[], Content::Nothing).await?;
            if reply.status == StatusCode::NOT_FOUND {
                return Ok(true);
            }
            let answer = reply.json(&doing)?;
            let is_whole = answer.pointer("/_shards/failed").and_then(Value::as_u64) == Some(0);
            let count = answer.get("count").and_then(Value::as_u64);
            if !is_whole || count.is_some_and(|count| count > 0) {
                return Ok(false);
            }
        }
        // Again: a document that somebody has written meanwhile has fields, which it maps.
        match self.is_bare(&doing).await? {
            Some(true) => {}
            is_bare => return Ok(is_bare.is_none()),
        }
        tracing::warn!(
            alias,
            "the alias is gone, and a delete has made an empty index in its place: deletes that"
        );
        let reply = self.send(&Request::deletion(alias)).await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(true);
        }
        reply.json(&format!("delete the index '{alias}'"))?;
        Ok(true)
    }

    /// Whether the index that has the alias' name says nothing; `None` where there is none.
    async fn is_bare(&self, doing: &str) -> Result<Option<bool>> {
        let path = [self.alias.as_str()];
        let reply = self
            .request(Method::GET, &path, &[], Content::Nothing)
            .await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let answer = reply.json(doing)?;
        Ok(answer.get(&self.alias).map(found::is_bare))
    }
}
