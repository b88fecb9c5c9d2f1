//! What a registry says of a subject's versions that were deleted softly: they are there, and count no more.

use std::collections::BTreeSet;

use reqwest::Method;
use serde::Deserialize;

use super::Registry;
use crate::{Result, ResultExt};

#[derive(Deserialize)]
struct Version {
    id: u32,
}

impl Registry {
    /// Whether all versions of a subject that have this schema are deleted, softly; no if there is none.
    ///
    /// # Errors
    /// As [`schema`](Self::schema).
    pub async fn is_deleted(&self, subject: &str, id: u32) -> Result<bool> {
        let doing = || format!("read the versions of subject '{subject}'");
        let living = self.versions(subject, false).await.doing(doing)?;
        let all = self.versions(subject, true).await.doing(doing)?;
        for version in &living {
            if self.has(subject, *version, id).await.doing(doing)? {
                return Ok(false);
            }
        }
        for version in all.difference(&living) {
            if self.has(subject, *version, id).await.doing(doing)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn versions(&self, subject: &str, deleted: bool) -> Result<BTreeSet<u32>> {
        let mut url = self.url(&["subjects", subject, "versions"]);
        url.set_query(deleted.then_some("deleted=true"));
        let found = self.request(Method::GET, url, None).await;
        Ok(self.found(found)?.unwrap_or_default())
    }

    async fn has(&self, subject: &str, version: u32, id: u32) -> Result<bool> {
        let mut url = self.url(&["subjects", subject, "versions", &version.to_string()]);
        url.set_query(Some("deleted=true"));
        let found = self.request(Method::GET, url, None).await;
        let found: Option<Version> = self.found(found)?;
        Ok(found.is_some_and(|found| found.id == id))
    }
}
