//! The generation that an index is of, as its mark says.

use std::sync::atomic::Ordering;

use reqwest::StatusCode;
use serde_json::{Map, Value, json};
use tributary_engine::{Known, Mark, Note};
use tributary_runtime::Result;
use tributary_schemas::record::RecordType;

use super::Index;
use crate::requests::Request;
use crate::{mark, naming};

impl Index {
    /// What the index says of the log that it was made from, read anew.
    ///
    /// # Errors
    /// As [`Index::find`].
    pub(crate) async fn known(&self) -> Result<Known> {
        let mut live = self.live.lock().await;
        *live = self.look_up().await?;
        let Some(found) = &*live else {
            return Ok(Known::Nothing);
        };
        let before = self.target_name();
        self.target.set(&found.write_index);
        if before.is_some_and(|before| *before != *found.write_index) {
            self.open().await?;
        }
        self.last_number.fetch_max(
            naming::number(&self.alias, &found.write_index),
            Ordering::Relaxed,
        );
        self.say_which(found).await;
        Ok(found.known())
    }

    /// Adds notes to the mark, if the index is of this generation; whether it is.
    ///
    /// # Errors
    /// As [`Index::find`].
    pub(crate) async fn note(&self, generation: &str, notes: &[Note]) -> Result<bool> {
        let Some(found) = self.read().await? else {
            return Ok(false);
        };
        let Some(mark) = found.mark.as_ref().filter(|of| of.generation == generation) else {
            return Ok(false);
        };
        let newer = mark::newer(notes, mark);
        if newer.is_empty() {
            return Ok(true);
        }
        let doing = format!("note in '{}' how far it has come", found.write_index);
        let content = json!({"properties": mark::properties(newer)});
        let reply = self.put(&[&found.write_index, "_mapping"], content).await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        reply.json(&doing)?;
        Ok(true)
    }

    /// Deletes the index, if it is of this generation.
    ///
    /// # Errors
    /// As [`Index::find`].
    pub(crate) async fn discard(&self, generation: Option<&str>) -> Result<()> {
        let mut live = self.live.lock().await;
        *live = None;
        let Some(found) = self.read().await? else {
            return Ok(());
        };
        if found.generation() != generation {
            return Ok(());
        }
        let index = &found.write_index;
        tracing::warn!(index, alias = self.alias, "deletes the index");
        // Another one that is made meanwhile has another name.
        let number = naming::number(&self.alias, index);
        self.last_number.fetch_max(number, Ordering::Relaxed);
        let reply = self.send(&Request::deletion(index)).await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        reply.json(&format!("delete the index '{index}'")).map(drop)
    }

    /// Makes an index with this mark together with its alias, or finds the one that another instance made meanwhile.
    ///
    /// # Errors
    /// As [`Index::find`].
    pub(crate) async fn begin(&self, mark: &Mark) -> Result<()> {
        self.begin_with(mark, Map::new()).await
    }

    /// The same, with the fields of rows of this type, which it has not.
    ///
    /// # Errors
    /// Stop: two columns would be one field. Otherwise as [`Index::find`].
    pub(crate) async fn begin_empty(&self, mark: &Mark, row_type: &RecordType) -> Result<()> {
        let fields = self.shape.properties(row_type)?;
        self.begin_with(mark, fields).await
    }

    async fn begin_with(&self, mark: &Mark, fields: Map<String, Value>) -> Result<()> {
        let mut live = self.live.lock().await;
        let found = match self.look_up().await? {
            Some(mut found) => {
                let missing = found.missing(&fields);
                self.add_what_it_takes(&mut found, missing).await?;
                found
            }
            None => self.create(mark, fields).await?,
        };
        *live = Some(found);
        Ok(())
    }
}
