//! What the configuration says of documents, held against the engine and against the index that is there.

use reqwest::{Method, StatusCode};
use serde_json::{Map, Value, json};
use tributary_runtime::{Error, Policy, Result};
use tributary_schemas::record::RecordType;

use super::Index;
use crate::client::Content;
use crate::difference;
use crate::failure::Failure;
use crate::found::Found;
use crate::{given, mapping};

/// The type of a field that is another name of one.
const ALIAS: &str = "alias";
/// Of the template that is asked about: above all templates that anybody has, of which the engine takes one.
const PRIORITY: u32 = 2_000_000_000;

impl Index {
    /// Before the first row to an index: whether the engine takes what the configuration says, and how the index differs from it.
    ///
    /// # Errors
    /// Stop: the engine refuses it, with its reason. Otherwise as [`Index::find`].
    pub(crate) async fn open(&self) -> Result<()> {
        let differences = if self.shape.is_usual() {
            Vec::new()
        } else {
            self.differences_of(None).await?
        };
        self.announced.set(&self.alias, differences);
        Ok(())
    }

    /// How the index, if it is there, differs from what the configuration and the columns ask for.
    ///
    /// # Errors
    /// As [`Index::open`].
    pub(crate) async fn differences_of(
        &self,
        row_type: Option<&RecordType>,
    ) -> Result<Vec<String>> {
        let wanted = match row_type {
            Some(row_type) => self.shape.properties(row_type)?,
            None => self.whole_fields(),
        };
        let normal = self.normal(&wanted).await?;
        let found = self.read().await?;
        Ok(found.map_or_else(Vec::new, |found| {
            difference::all(&found, &self.shape, &wanted, normal.as_ref())
        }))
    }

    /// Says in log and status how the index differs from what is asked for, beside what is known already.
    pub(super) async fn announce(
        &self,
        found: &Found,
        wanted: &Map<String, Value>,
        mut differences: Vec<String>,
    ) -> Result<()> {
        let normal = match self.normal(wanted).await {
            // Rows do not wait for a comparison.
            Err(error) if error.policy() == Policy::Retry => None,
            normal => normal?,
        };
        let others = difference::all(found, &self.shape, wanted, normal.as_ref());
        differences.extend(others);
        self.announced.set(&self.alias, differences);
        if difference::is_outgrown(found, &self.shape, wanted) {
            self.renewals.outgrown(self.shape.topic());
        }
        Ok(())
    }

    /// Whether rows of this type have outgrown the index, or a reindex that the service has begun for such a reason has more to do.
    ///
    /// # Errors
    /// As [`Index::find`].
    pub(crate) async fn is_outgrown(&self, row_type: &RecordType) -> Result<bool> {
        let wanted = self.shape.properties(row_type)?;
        let found = self.read().await?;
        Ok(found.is_some_and(|found| {
            let is_left = found.build.as_ref().is_some_and(|build| build.is_attended);
            is_left || difference::is_outgrown(&found, &self.shape, &wanted)
        }))
    }

    /// Whether rows that the index refuses are to wait for another one.
    pub(crate) fn awaits_another(&self) -> bool {
        self.renewals.is_awaited(self.shape.topic())
    }

    /// Maps fields that the index lacks. Where it does not take some that the configuration gives, the others alone: what the
    /// engine says to that. Documents hold such a field all the same.
    pub(super) async fn add_what_it_takes(
        &self,
        found: &mut Found,
        mut missing: Map<String, Value>,
    ) -> Result<Vec<String>> {
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let given = self.shape.given_fields();
        let has_given = missing.keys().any(|name| given.contains_key(name));
        let why = match self.add_fields(found, missing.clone()).await {
            Err(error) if has_given && error.policy() == Policy::Stop => error,
            added => return added.map(|()| Vec::new()),
        };
        missing.retain(|name, _| !given.contains_key(name));
        if !missing.is_empty() {
            self.add_fields(found, missing).await?;
        }
        Ok(vec![difference::refused(&self.shape, &why)])
    }

    /// Of the fields that the configuration gives those that need no column.
    fn whole_fields(&self) -> Map<String, Value> {
        let given = self.shape.given_fields().iter();
        let whole = given.filter(|(_, field)| given::is_whole(field));
        whole
            .map(|(name, field)| (name.clone(), field.clone()))
            .collect()
    }

    /// The given ones of these fields as the engine tells them, once it has read them; `None` where there are none, or the
    /// engine may not be asked. Nothing is made.
    async fn normal(&self, wanted: &Map<String, Value>) -> Result<Option<Map<String, Value>>> {
        let given = self.shape.given_fields();
        // Another name of a field is refused without that field.
        let is_asked = |name: &str, field: &Value| {
            given.contains_key(name) && mapping::type_of(field) != ALIAS
        };
        let fields = wanted.iter().filter(|(name, field)| is_asked(name, field));
        let fields: Map<_, _> = fields
            .map(|(name, field)| (name.clone(), field.clone()))
            .collect();
        if fields.is_empty() && self.shape.settings().is_empty() {
            return Ok(None);
        }
        let template = json!({
            "index_patterns": [format!("{}~~asked", self.alias)],
            "priority": PRIORITY,
            "template": {"settings": self.shape.settings(), "mappings": {"dynamic": false, "properties": fields}},
        });
        let path = ["_index_template", "_simulate"];
        let asked = self
            .request(Method::POST, &path, &[], Content::Json(template))
            .await;
        let reply = match asked {
            Err(error) if error.policy() == Policy::Stop => return Ok(None),
            reply => reply?,
        };
        if reply.status == StatusCode::BAD_REQUEST {
            let why =
                Failure::parse(&reply.body).map_or_else(String::new, |failure| failure.whole());
            return Err(Error::stop_msg(format_args!(
                "the engine refuses what `elasticsearch.documents` says for topic {}: {why}",
                self.shape.topic()
            ))
            .remedy("correct `fields` or `settings` there"));
        }
        let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let normal = answer.pointer("/template/mappings/properties");
        Ok(normal.and_then(Value::as_object).cloned())
    }
}
