//! From catalog tables to published ones: topics, schemas, plans.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::OnceCell;
use tributary_runtime::Error;
use tributary_runtime::registry::Registry;
use tributary_schemas::encode::{EncodePlan, SourceIdentity};
use tributary_schemas::table::Table;

use super::fault::DeadLetters;
use super::forms::TextColumns;
use super::table::{CONNECTOR, TableTopic};
use crate::config::SourceConfig;
use crate::failpoint;
use crate::log::progress::TableProgress;
use crate::log::steps::Counter;
use crate::log::topics::{DescribedTopic, TopicFacts, TopicSpec, Topics};
use tributary_postgres::catalog::{KEY_REMEDY, without_key};

/// The schemas of so many tables are registered at the same time.
const PUBLISHED_AT_ONCE: usize = 16;

/// Turns catalog tables into published ones: registers their schemas.
pub(crate) struct Registrar {
    pub(super) registry: Registry,
    topics: Topics,
    identity: SourceIdentity,
    pub(super) config: Arc<SourceConfig>,
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

    /// Those of these topics that exist.
    ///
    /// # Errors
    /// The brokers do not answer, or refuse.
    pub(crate) async fn described(
        &self,
        topics: &[String],
    ) -> Result<BTreeMap<String, DescribedTopic>, Error> {
        self.topics.described(topics).await
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
        failpoint::hit(failpoint::REGISTERING);
        let schemas = Box::pin(self.register_schemas(&topic, &table, &text, known)).await?;
        failpoint::hit(failpoint::REGISTERED);
        warn_of_text_forms(&table);
        if table.is_keyless() {
            warn_of_missing_key(&table);
        }
        let partitions = match known {
            Some(known) => known.partitions,
            None if table.is_keyless() => 1,
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
            key_columns: table.key_columns(),
            table,
            key_schema_id: schemas.key,
            rekeyed: schemas.rekeyed,
            value_schema_id: schemas.value,
            truncate_schema_id: schemas.truncate_key,
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
