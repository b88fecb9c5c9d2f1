//! An index that a delete has made in the place of the alias, once that was gone.

use reqwest::{Method, StatusCode};
use serde_json::Value;
use tributary_runtime::{Error, Result};

use super::Index;
use crate::client::Content;
use crate::failure;
use crate::found;
use crate::requests::Request;

impl Index {
    /// A delete went to an index that has the alias' name. The engines make one where the alias is gone: it is deleted, so that the
    /// next one of ours can be built. One that holds anything, or says anything, is somebody else's and stays.
    ///
    /// The error to give back: retry, the alias is gone; or as [`Index::find`].
    pub(crate) async fn unmake(&self) -> Error {
        let unmade = self.try_unmake().await;
        unmade.map_or_else(|error| error, |()| failure::vanished(&self.alias))
    }

    /// # Errors
    /// As [`Index::find`].
    async fn try_unmake(&self) -> Result<()> {
        let alias = self.alias.as_str();
        let doing = format!("look at the index '{alias}', which a delete may have made");
        if !self.is_bare(&doing).await? {
            return Ok(());
        }
        // A search, which counting is, sees only what was refreshed.
        for (method, path) in [(Method::POST, "_refresh"), (Method::GET, "_count")] {
            let path = [alias, path];
            let reply = self.request(method, &path, &[], Content::Nothing).await?;
            if reply.status == StatusCode::NOT_FOUND {
                return Ok(());
            }
            let answer = reply.json(&doing)?;
            let is_whole = answer.pointer("/_shards/failed").and_then(Value::as_u64) == Some(0);
            let count = answer.get("count").and_then(Value::as_u64);
            if !is_whole || count.is_some_and(|count| count > 0) {
                return Ok(());
            }
        }
        // Again: a document that somebody has written meanwhile has fields, which it maps.
        if !self.is_bare(&doing).await? {
            return Ok(());
        }
        tracing::warn!(
            alias,
            "the alias is gone, and a delete has made an empty index in its place: deletes that"
        );
        let reply = self.send(&Request::deletion(alias)).await?;
        // 400: the alias has come back meanwhile, which another instance has made, and no alias is deleted like this.
        if [StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST].contains(&reply.status) {
            return Ok(());
        }
        reply.json(&format!("delete the index '{alias}'")).map(drop)
    }

    /// Whether there is an index of the alias' name that says nothing.
    async fn is_bare(&self, doing: &str) -> Result<bool> {
        let path = [self.alias.as_str()];
        let reply = self
            .request(Method::GET, &path, &[], Content::Nothing)
            .await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        let answer = reply.json(doing)?;
        Ok(answer.get(&self.alias).is_some_and(found::is_bare))
    }
}
