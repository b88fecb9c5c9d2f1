//! The schemas of a table: what the registry is asked, and what is done where it refuses.

use tributary_runtime::Error;
use tributary_runtime::registry::{BACKWARD, BACKWARD_TRANSITIVE, Offered};
use tributary_schemas::avro;
use tributary_schemas::table::Table;

use super::forms::TextColumns;
use super::key_id::{self, Cause};
use super::registrar::Registrar;
use crate::config::{OnKeyChange, OnTypeChange, resnapshot_flag};
use crate::log::progress::TableProgress;

/// The ids of a table's schemas.
pub(super) struct Schemas {
    /// `None` without a key.
    pub(super) key: Option<u32>,
    pub(super) value: u32,
    pub(super) truncate_key: u32,
    /// The topic has records from before a change of the key, or of a type, that no newer schema reads.
    pub(super) rekeyed: bool,
}

impl Registrar {
    /// Registers the schemas of a table.
    pub(super) async fn register_schemas(
        &self,
        topic: &str,
        table: &Table,
        text: &TextColumns,
        known: Option<&TableProgress>,
    ) -> Result<Schemas, Error> {
        let truncate_subject = format!("{topic}-truncate-key");
        let truncate_schema = avro::truncate_key_schema(topic);
        let truncate_key = self.register(&truncate_subject, &truncate_schema);
        let key = self.register_key(topic, table, known);
        let ((key, new_generation), (value, rekeyed), truncate_key) = match known {
            // The topic has nothing that a schema could contradict: none of the three waits for another one.
            None => {
                let value = self.register_value(topic, table, text, None, false);
                tokio::try_join!(key, value, truncate_key)?
            }
            Some(_) => {
                let key = key.await?;
                let value = self.register_value(topic, table, text, known, key.1);
                let (value, truncate_key) = tokio::try_join!(value, truncate_key)?;
                (key, value, truncate_key)
            }
        };
        Ok(Schemas {
            key,
            value,
            truncate_key,
            rekeyed: new_generation || rekeyed || known.is_some_and(|known| known.followed.rekeyed),
        })
    }

    /// The id of the key's schema (`None` without a key), and whether it is another key than before.
    async fn register_key(
        &self,
        topic: &str,
        table: &Table,
        known: Option<&TableProgress>,
    ) -> Result<(Option<u32>, bool), Error> {
        let schema = avro::key_schema(topic, table);
        let subject = format!("{topic}-key");
        let Some(known) = known else {
            return match schema {
                Some(schema) => Ok((Some(self.register(&subject, &schema).await?), false)),
                None => Ok((None, false)),
            };
        };
        let key = table.key();
        let mut changed = key != known.followed.key;
        if changed {
            self.key_has_changed(topic, known, &key, None)?;
            self.set_compatibility(&subject, "NONE").await?;
        }
        let Some(schema) = schema else {
            return Ok((None, changed));
        };
        let id = self.register(&subject, &schema).await?;
        if let Some(before) = known.key_schema_id.filter(|before| *before != id) {
            let cause = key_id::why_another(&self.registry, &subject, &schema, before).await?;
            tracing::warn!(
                topic,
                before,
                id,
                "the key's schema has another id: {cause}"
            );
            self.key_has_changed(topic, known, &key, Some(cause))?;
            changed = true;
        }
        Ok((Some(id), changed))
    }

    /// The id of the value's schema, and whether the topic has records that it cannot read. `new_generation` says that the key
    /// is another one.
    async fn register_value(
        &self,
        topic: &str,
        table: &Table,
        text: &TextColumns,
        known: Option<&TableProgress>,
        new_generation: bool,
    ) -> Result<(u32, bool), Error> {
        let subject = format!("{topic}-value");
        if new_generation {
            // A column of the key is never null, one outside may be: no schema reads both generations.
            self.set_compatibility(&subject, "NONE").await?;
        }
        let reformed = self.allow_text(topic, table, text).await?;
        let schema = avro::value_schema(topic, table);
        let (id, retyped) = self.offer_value(topic, table, &schema, known).await?;
        let rekeyed = new_generation || known.is_some_and(|known| known.followed.rekeyed);
        let level = if rekeyed || retyped || reformed {
            BACKWARD
        } else {
            BACKWARD_TRANSITIVE
        };
        // Behind the registration: a setting for a subject that does not exist yet may be forgotten.
        if known.is_none() || self.registry.compatibility(&subject).await?.as_deref() != Some(level)
        {
            self.set_compatibility(&subject, level).await?;
        }
        Ok((id, retyped))
    }

    /// The id of a schema of values, and whether it is there although it cannot read what is in the topic.
    async fn offer_value(
        &self,
        topic: &str,
        table: &Table,
        schema: &str,
        known: Option<&TableProgress>,
    ) -> Result<(u32, bool), Error> {
        let subject = format!("{topic}-value");
        let refused = match self.registry.offer(&subject, schema).await? {
            Offered::Registered(id) => return Ok((id, false)),
            Offered::Incompatible(error) => error,
        };
        if known.is_none() {
            return Ok((self.register(&subject, schema).await?, false));
        }
        if self.config.on_type_change(table) == OnTypeChange::Stop {
            let flag = resnapshot_flag(&table.schema, &table.name);
            return Err(refused.remedy(format!(
                "undo the change of the table; or start the source once with `tributary-source run {flag}`: the schema is \
                 registered all the same then, and all rows of the table are read again; or set on_type_change = \"resnapshot\" for it in \
                 [[tables]], or postgres.on_type_change for all"
            )));
        }
        self.set_compatibility(&subject, "NONE").await?;
        let id = self.register(&subject, schema).await?;
        self.retyped(topic);
        Ok((id, true))
    }

    /// Decides about a key that is another one than the topic's records have, or whose schema has another id by this
    /// cause.
    fn key_has_changed(
        &self,
        topic: &str,
        known: &TableProgress,
        key: &[String],
        cause: Option<Cause>,
    ) -> Result<(), Error> {
        let (name, before) = (&known.table, known.followed.key.join(", "));
        let key = key.join(", ");
        if key.is_empty() {
            return Err(Error::stop_msg(format!(
                "table {name} has lost its key ({before}): records without a key cannot go into topic '{topic}'"
            ))
            .remedy(format!("give it that key again, or take it out of postgres.tables; updates and deletes from between are not in the WAL, so all rows are read again then. To go on without a key, rename the table: that begins a new topic (this one is '{topic}')")));
        }
        if before.is_empty() {
            return Err(Error::stop_msg(format!(
                "table {name} had no key and has one now ({key}): its topic '{topic}' is that of a table without one"
            ))
            .remedy("rename the table, which begins a new topic; or start over with a new kafka.topic_prefix"));
        }
        if self.config.postgres.on_key_change == OnKeyChange::Resnapshot {
            return Ok(());
        }
        let (what, undo) = match cause {
            Some(cause) if before == key => {
                let id = known.key_schema_id.unwrap_or_default();
                let what = format!(
                    "the registry gives the key schema of topic '{topic}' another id, it was {id} before: {cause}"
                );
                (what, cause.remedy())
            }
            _ => {
                let what = format!("the key of table {name} was ({before}) and is ({key}) now");
                (what, "undo the change")
            }
        };
        Err(Error::stop_msg(format!("{what}: records of one row would get different keys"))
            .remedy(format!("{undo}; or set postgres.on_key_change = \"resnapshot\" to read all rows again under the new key into topic '{topic}'; or start over with a new kafka.topic_prefix")))
    }
}
