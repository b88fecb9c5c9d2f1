//! From catalog tables to published ones: topics, schemas, plans.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::OnceCell;
use tributary_runtime::Error;
use tributary_runtime::registry::{BACKWARD, BACKWARD_TRANSITIVE, Offered, Registry};
use tributary_schemas::avro;
use tributary_schemas::encode::{EncodePlan, SourceIdentity};
use tributary_schemas::table::Table;

use super::fault::DeadLetters;
use super::forms::TextColumns;
use super::table::{CONNECTOR, TableTopic};
use crate::config::{OnKeyChange, OnTypeChange, SourceConfig, resnapshot_flag};
use crate::failpoint;
use crate::log::progress::TableProgress;
use crate::log::steps::Counter;
use crate::log::topics::{TopicFacts, TopicSpec, Topics};
use tributary_postgres::catalog::{KEY_REMEDY, without_key};

/// The schemas of so many tables are registered at the same time.
const PUBLISHED_AT_ONCE: usize = 16;

/// Turns catalog tables into published ones: registers their schemas.
pub(crate) struct Registrar {
    pub(super) registry: Registry,
    topics: Topics,
    identity: SourceIdentity,
    config: Arc<SourceConfig>,
    /// By topic.
    topic_ids: Mutex<BTreeMap<String, String>>,
    /// What topics were found to take at the session's start, by topic: it serves the first time.
    max_record_bytes: Mutex<BTreeMap<String, usize>>,
    /// [`Registrar::take_retyped`]
    retyped: Mutex<BTreeSet<String>>,
    /// What was asked of the topic once.
    dead_letters: OnceCell<Arc<DeadLetters>>,
}

impl Registrar {
    pub(crate) fn new(config: Arc<SourceConfig>, database: &str) -> Result<Self, Error> {
        Ok(Self {
            registry: Registry::new(&config.kafka.registry)?,
            topics: Topics::new(&config)?,
            identity: SourceIdentity {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                connector: CONNECTOR.to_owned(),
                name: config.kafka.topic_prefix.clone(),
                db: database.to_owned(),
                region: config.region.clone(),
            },
            config,
            topic_ids: Mutex::default(),
            max_record_bytes: Mutex::default(),
            retyped: Mutex::default(),
            dead_letters: OnceCell::new(),
        })
    }

    /// What every record says of its source.
    pub(crate) const fn identity(&self) -> &SourceIdentity {
        &self.identity
    }

    /// Creates the topics that are missing, and compares those that exist. Returns their ids; what is published from
    /// now on remembers them. `counter` counts the topics.
    ///
    /// # Errors
    /// The brokers are away (retry), or a topic contradicts what is wanted (stop).
    pub(crate) async fn ensure_topics(
        &self,
        specs: &[TopicSpec],
        counter: &Counter,
    ) -> Result<BTreeMap<String, String>, Error> {
        let topics = self.topics.ensure(specs, counter).await?;
        let limits = topics
            .iter()
            .filter_map(|(topic, facts)| Some((topic.clone(), facts.max_record_bytes?)));
        locked(&self.max_record_bytes).extend(limits);
        let ids = topics
            .into_iter()
            .filter_map(|(topic, TopicFacts { id, .. })| Some((topic, id?)));
        let ids: BTreeMap<String, String> = ids.collect();
        locked(&self.topic_ids).extend(ids.clone());
        Ok(ids)
    }

    fn topic_id(&self, topic: &str) -> Option<String> {
        locked(&self.topic_ids).get(topic).cloned()
    }

    /// The largest record batch that a topic takes.
    async fn max_record_bytes(&self, topic: &str) -> Result<usize, Error> {
        // Later somebody may have set another one.
        let found = locked(&self.max_record_bytes).remove(topic);
        match found {
            Some(found) => Ok(found),
            None => self.topics.max_record_bytes(topic).await,
        }
    }

    /// Publishes tables, some at a time; in their order. `counter` counts them.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub(crate) async fn publish_all(
        &self,
        tables: &[(&Table, Option<&TableProgress>)],
        counter: &Counter,
    ) -> Result<Vec<Arc<TableTopic>>, Error> {
        counter.expect(tables.len());
        let publishing = (0..tables.len()).map(|at| async move {
            let (table, known) = tables[at];
            let published = self.publish(table.clone(), known).await?;
            counter.add(1);
            Ok(Arc::new(published))
        });
        stream::iter(publishing)
            .buffered(PUBLISHED_AT_ONCE)
            .try_collect()
            .await
    }

    /// Registers a table's schemas and compiles its plan. `known` is what progress says of its topic: with
    /// `on_key_change = "resnapshot"` the key may be another one, see [`TableTopic::has_other_key`].
    ///
    /// # Errors
    /// The registry is away (retry), refuses a schema, or gives a key schema another id than before (stop).
    pub(crate) async fn publish(
        &self,
        mut table: Table,
        known: Option<&TableProgress>,
    ) -> Result<TableTopic, Error> {
        let typed = table.clone();
        self.config.apply_forms(&mut table);
        let text = TextColumns::new(typed, &table);
        let topic = self.config.topic_name(&table)?;
        let key_columns = table.key_columns();
        failpoint::hit(failpoint::REGISTERING);
        let (key_schema_id, new_generation) = self.register_key(&topic, &table, known).await?;
        let mut rekeyed = new_generation || known.is_some_and(|known| known.followed.rekeyed);
        let value_subject = format!("{topic}-value");
        if new_generation {
            // A column of the key is never null, one outside may be: no schema reads both generations.
            self.set_compatibility(&value_subject, "NONE").await?;
        }
        let reformed = self.allow_text(&topic, &table, &text).await?;
        let schema = avro::value_schema(&topic, &table);
        let (value_schema_id, retyped) =
            self.register_value(&topic, &table, &schema, known).await?;
        rekeyed |= retyped;
        let compatibility = if rekeyed || reformed {
            BACKWARD
        } else {
            BACKWARD_TRANSITIVE
        };
        // Behind the registration: a setting for a subject that does not exist yet may be forgotten.
        self.set_compatibility(&value_subject, compatibility)
            .await?;
        failpoint::hit(failpoint::REGISTERED);
        let truncate_schema_id = self
            .register(
                &format!("{topic}-truncate-key"),
                &avro::truncate_key_schema(&topic),
            )
            .await?;
        warn_of_text_forms(&table);
        if key_columns.is_empty() {
            warn_of_missing_key(&table);
        }
        let partitions = match known {
            Some(known) => known.partitions,
            None if key_columns.is_empty() => 1,
            None => self.config.kafka.partitions,
        };
        let max_record_bytes = self.max_record_bytes(&topic).await?;
        Ok(TableTopic {
            max_record_bytes,
            dead_letters: self.dead_letters().await?,
            plan: EncodePlan::compile(&table, &self.identity),
            topic_id: self.topic_id(&topic),
            topic: topic.into(),
            partitions,
            key_columns,
            table,
            key_schema_id,
            rekeyed,
            value_schema_id,
            truncate_schema_id,
        })
    }

    async fn dead_letters(&self) -> Result<Option<Arc<DeadLetters>>, Error> {
        let Some(topic) = self.config.dead_letter_topic() else {
            return Ok(None);
        };
        let ask = async || {
            Ok(Arc::new(DeadLetters {
                max_bytes: self.max_record_bytes(&topic).await?,
                topic: topic.as_str().into(),
                service: self.config.name.clone(),
            }))
        };
        self.dead_letters
            .get_or_try_init(ask)
            .await
            .cloned()
            .map(Some)
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
        let key = table.key_columns().into_iter();
        let key: Vec<_> = key.map(|at| table.columns[at].name.clone()).collect();
        let mut changed = key != known.followed.key;
        if changed {
            self.key_has_changed(topic, known, &key)?;
            self.set_compatibility(&subject, "NONE").await?;
        }
        let Some(schema) = schema else {
            return Ok((None, changed));
        };
        let id = self.register(&subject, &schema).await?;
        if known.key_schema_id.is_some_and(|before| before != id) {
            self.key_has_changed(topic, known, &key)?;
            changed = true;
        }
        Ok((Some(id), changed))
    }

    /// The id of the value's schema, and whether it cannot read what is in the topic.
    async fn register_value(
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

    /// What is in the topic is to be read again: it has not the form that its schema says, or will not have.
    pub(crate) fn retyped(&self, topic: &str) {
        locked(&self.retyped).insert(topic.to_owned());
    }

    /// The topics whose newest schema cannot read what is there, since the last call: all rows are to be read again.
    pub(crate) fn take_retyped(&self) -> BTreeSet<String> {
        std::mem::take(&mut *locked(&self.retyped))
    }

    pub(super) async fn set_compatibility(&self, subject: &str, level: &str) -> Result<(), Error> {
        self.registry.set_compatibility(subject, level).await
    }

    /// Decides about a key that is another one than the topic's records have.
    fn key_has_changed(
        &self,
        topic: &str,
        known: &TableProgress,
        key: &[String],
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
        let what = match known.key_schema_id {
            _ if before != key => {
                format!("the key of table {name} was ({before}) and is ({key}) now")
            }
            before => format!(
                "the registry gives the key schema of topic '{topic}' another id, it was {} before: a column's type has changed, or the registry has lost its store",
                before.unwrap_or_default()
            ),
        };
        Err(Error::stop_msg(format!("{what}: records of one row would get different keys"))
            .remedy(format!("set postgres.on_key_change = \"resnapshot\" to read all rows again under the new key into topic '{topic}', or start over with a new kafka.topic_prefix; a registry that has lost its store is to be restored")))
    }

    /// The largest batch that a topic takes.
    pub(crate) async fn max_batch_bytes(&self, topic: &str) -> Result<usize, Error> {
        self.topics.max_record_bytes(topic).await
    }

    /// Registers a schema; its id.
    pub(crate) async fn register(&self, subject: &str, schema: &str) -> Result<u32, Error> {
        self.registry.register(subject, schema).await
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn warn_of_missing_key(table: &Table) {
    tracing::warn!(
        "{}; to do: {KEY_REMEDY}",
        without_key(&format!("{}.{}", table.schema, table.name))
    );
}

/// Says once per column that its type has no form of its own yet.
fn warn_of_text_forms(table: &Table) {
    for column in &table.columns {
        for type_name in column.column_type.text_forms() {
            tracing::warn!(
                table = format!("{}.{}", table.schema, table.name),
                column = column.name,
                r#type = type_name,
                "the type has no Avro form of its own: its values travel as the text that Postgres prints"
            );
        }
    }
}
