//! What an index lacks, asked by requests that only read.

use reqwest::{Method, StatusCode};
use tributary_engine::{Known, Mark};
use tributary_runtime::Result;
use tributary_schemas::record::RecordType;

use super::Index;
use crate::client::Content;
use crate::found;
use crate::naming;
use crate::requests::{self, Request};

impl Index {
    /// What the index behind the alias lacks for rows of this type, as the requests that give it that, and what is to be said of
    /// its fields. One that is to be built again (`is_rebuilt`) is deleted first. Changes nothing.
    ///
    /// # Errors
    /// As [`Index::find`].
    pub(crate) async fn needs(
        &self,
        mark: &Mark,
        row_type: Option<&RecordType>,
        is_rebuilt: bool,
    ) -> Result<(Vec<Request>, Vec<String>)> {
        let fields = row_type.map(|row_type| self.shape.properties(row_type));
        let fields = fields.transpose()?;
        let notes = self.notes(row_type).await?;
        let found = self.read().await?;
        let mut requests = Vec::new();
        let Some(found) = found.as_ref().filter(|_| !is_rebuilt) else {
            let before = found.as_ref().map(|found| found.write_index.as_str());
            requests.extend(before.map(Request::deletion));
            // Whoever builds a target again begins as if it had just started: it has seen no number.
            let index = naming::index(&self.alias, 1);
            if before != Some(&index) {
                self.check_free(&index).await?;
            }
            requests.extend(fields.map(|fields| self.creation(&index, mark, &fields)));
            return Ok((requests, notes));
        };
        requests.extend(requests::remembering(found));
        let fields = fields.unwrap_or_default();
        let missing = found.missing(&fields);
        if !missing.is_empty() {
            requests.extend(requests::additions(found, &missing));
        }
        Ok((requests, notes))
    }

    /// What is to be said of the index, and of what the configuration says of its documents. Changes nothing.
    ///
    /// # Errors
    /// Stop: the engine refuses that. Otherwise as [`Index::find`].
    pub(crate) async fn notes(&self, row_type: Option<&RecordType>) -> Result<Vec<String>> {
        let mut notes = self.differences_of(row_type).await?;
        notes.extend(row_type.and_then(|row_type| self.shape.unknown_columns(row_type)));
        Ok(notes)
    }

    /// What there is behind the alias; changes nothing.
    ///
    /// # Errors
    /// As [`Index::find`].
    pub(crate) async fn foreseen(&self) -> Result<Known> {
        let found = self.read().await?;
        Ok(found.map_or(Known::Nothing, |found| found.known()))
    }

    /// Refuses a name that an index has which is not behind the alias.
    async fn check_free(&self, index: &str) -> Result<()> {
        let query = [("flat_settings", "true")];
        let reply = self
            .request(Method::GET, &[index], &query, Content::Nothing)
            .await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        reply.json(&format!("look for the index '{index}'"))?;
        Err(found::without_alias(index, &self.alias))
    }
}
