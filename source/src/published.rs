//! A table as it is published: its topic, its schemas' ids, its encode plan.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tributary_runtime::registry::{BACKWARD, BACKWARD_TRANSITIVE, Registry};
use tributary_runtime::{Error, ResultExt};
use tributary_schemas::encode::{Change, EncodePlan, SourceIdentity};
use tributary_schemas::table::{Cell, Table};
use tributary_schemas::{avro, name, partition, wire};

use crate::catalog::CatalogTable;
use crate::config::{OnKeyChange, SourceConfig};
use crate::database::qualified;
use crate::failpoint;
use crate::outbox::{Outbox, Record};
use crate::progress::TableProgress;
use crate::topics::{Cleanup, TopicSpec, Topics};
use crate::watch::Followed;

mod unfit;

pub(crate) use unfit::DeadLetters;
use unfit::Fault;

/// What `source.connector` says: consumers of Debezium's topics look for it.
const CONNECTOR: &str = "postgresql";

/// The topic of a table.
///
/// # Errors
/// The name would be longer than Kafka takes.
pub(crate) fn topic_name(config: &SourceConfig, table: &Table) -> Result<String, Error> {
    topic_of(config, &table.schema, &table.name)
}

/// The topic of a table of this name; errors as [`topic_name`].
pub(crate) fn topic_of(config: &SourceConfig, schema: &str, table: &str) -> Result<String, Error> {
    name::topic(&config.kafka.topic_prefix, schema, table).map_err(|error| {
        Error::stop(error)
            .remedy("rename the table, shorten kafka.topic_prefix, or leave the table out")
    })
}

/// The topic that a table needs.
pub(crate) fn topic_spec(config: &SourceConfig, table: &CatalogTable) -> Result<TopicSpec, Error> {
    let keyless = table.is_keyless();
    Ok(TopicSpec {
        name: topic_name(config, &table.table)?,
        partitions: if keyless { 1 } else { config.kafka.partitions },
        cleanup: if keyless {
            Cleanup::KeepAll
        } else {
            Cleanup::Compact
        },
    })
}

/// A table with all that turns its rows into records.
#[derive(Debug)]
pub(crate) struct PublishedTable {
    pub(crate) table: Table,
    pub(crate) topic: Arc<str>,
    topic_id: Option<String>,
    pub(crate) partitions: i32,
    /// Indexes of the key's columns, in key order; empty without a key.
    pub(crate) key_columns: Vec<usize>,
    plan: EncodePlan,
    key_schema_id: Option<u32>,
    /// [`Followed::rekeyed`]
    rekeyed: bool,
    value_schema_id: u32,
    truncate_schema_id: u32,
    /// The topic's `max.message.bytes`.
    max_record_bytes: usize,
    /// Where changes go that cannot be published; `None` where the source stops.
    dead_letters: Option<Arc<DeadLetters>>,
}

impl PublishedTable {
    /// A table with three partitions, whose schemas have the ids 1, 2 and 3.
    #[cfg(test)]
    pub(crate) fn for_test(table: Table) -> Self {
        let identity = SourceIdentity {
            version: "0".to_owned(),
            connector: CONNECTOR.to_owned(),
            name: "p".to_owned(),
            db: "d".to_owned(),
            region: None,
        };
        let key_columns = table.key_columns();
        Self {
            plan: EncodePlan::compile(&table, &identity),
            topic: "p.s.t".into(),
            topic_id: None,
            partitions: if key_columns.is_empty() { 1 } else { 3 },
            key_schema_id: (!key_columns.is_empty()).then_some(1),
            rekeyed: false,
            value_schema_id: 2,
            truncate_schema_id: 3,
            max_record_bytes: usize::MAX,
            dead_letters: None,
            key_columns,
            table,
        }
    }

    /// What progress must remember of it.
    pub(crate) fn progress(&self) -> TableProgress {
        TableProgress {
            table: self.display_name(),
            oid: self.table.oid,
            partitions: self.partitions,
            key_schema_id: self.key_schema_id,
            topic_id: self.topic_id.clone(),
            followed: Followed {
                key: self.key(),
                rekeyed: self.rekeyed,
                ..Followed::default()
            },
            snapshot: None,
        }
    }

    /// `"schema"."table"`, for SQL.
    pub(crate) fn quoted_name(&self) -> String {
        qualified(&self.table.schema, &self.table.name)
    }

    /// The names of the key's columns, in key order.
    pub(crate) fn key(&self) -> Vec<String> {
        let columns = &self.table.columns;
        let key = self.key_columns.iter();
        key.map(|index| columns[*index].name.clone()).collect()
    }

    /// Whether its records have other keys than those that progress knows: then all rows are read again, or the
    /// topic would mix them.
    pub(crate) fn has_other_key(&self, known: &TableProgress) -> bool {
        self.key_schema_id != known.key_schema_id
    }

    /// `schema.table`, for messages.
    pub(crate) fn display_name(&self) -> String {
        format!("{}.{}", self.table.schema, self.table.name)
    }

    /// The key of a row in the wire format; `None` without a key.
    pub(crate) fn key_bytes(&self, row: &[Cell<'_>]) -> Result<Option<Vec<u8>>, Error> {
        let Some(id) = self.key_schema_id else {
            return Ok(None);
        };
        let mut key = wire::prefix(id).to_vec();
        self.plan
            .encode_key(row, &mut key)
            .map_err(|error| self.refuse_key(&error, row))?;
        Ok(Some(key))
    }

    /// Appends a record: the row's key, and the change or, without one, a tombstone.
    pub(crate) fn append(
        &self,
        outbox: &mut Outbox,
        key: Option<&[u8]>,
        change: Option<&Change<'_>>,
        seq: u64,
        headers: Vec<(&'static str, Vec<u8>)>,
    ) -> Result<(), Error> {
        let partition = key.map_or(0, |key| partition::partition_for(key, self.partitions));
        let key = key.map(|key| extend(&mut outbox.bytes, key));
        let mut record = Record {
            topic: Arc::clone(&self.topic),
            partition,
            key,
            value: None,
            seq,
            headers,
        };
        if let Some(change) = change {
            match self.try_append_value(outbox, change, record.key_bytes(), &record.headers) {
                Ok(value) => record.value = Some(value),
                Err(fault) => return self.put_aside(outbox, record, change, &fault),
            }
        }
        outbox.records.push(record);
        Ok(())
    }

    /// Gives a record that has its place the value of this change; one that cannot be published is put aside.
    pub(crate) fn complete(
        &self,
        outbox: &mut Outbox,
        record: usize,
        change: &Change<'_>,
    ) -> Result<(), Error> {
        let Some(place) = outbox.records.get(record) else {
            return Ok(());
        };
        let (key_bytes, headers) = (place.key_bytes(), place.headers.clone());
        match self.try_append_value(outbox, change, key_bytes, &headers) {
            Ok(value) => outbox.records[record].value = Some(value),
            Err(fault) => {
                let (key, seq) = (
                    outbox.records[record].key.clone(),
                    outbox.records[record].seq,
                );
                outbox.records[record] = self.letter(outbox, key, change, seq, &fault)?;
            }
        }
        Ok(())
    }

    fn append_value(
        &self,
        outbox: &mut Outbox,
        change: &Change<'_>,
    ) -> Result<std::ops::Range<usize>, Error> {
        self.try_append_value(outbox, change, 0, &[])
            .map_err(|fault: Fault| self.refuse(&fault, change))
    }

    /// Appends "rows of this table with a `seq` below are gone" to every partition of the topic.
    pub(crate) fn append_gone_below(
        &self,
        outbox: &mut Outbox,
        change: &Change<'_>,
        below: u64,
        mut next_seq: impl FnMut() -> u64,
    ) -> Result<(), Error> {
        let mut key = wire::prefix(self.truncate_schema_id).to_vec();
        self.plan.encode_truncate_key(&mut key);
        let value = self.append_value(outbox, change)?;
        let key = extend(&mut outbox.bytes, &key);
        for partition in 0..self.partitions {
            let below = (
                tributary_schemas::header::BELOW,
                below.to_be_bytes().to_vec(),
            );
            outbox.records.push(Record {
                topic: Arc::clone(&self.topic),
                partition,
                key: Some(key.clone()),
                value: Some(value.clone()),
                seq: next_seq(),
                headers: vec![below],
            });
        }
        Ok(())
    }
}

fn extend(bytes: &mut Vec<u8>, more: &[u8]) -> std::ops::Range<usize> {
    let start = bytes.len();
    bytes.extend_from_slice(more);
    start..bytes.len()
}

/// Turns catalog tables into published ones: registers their schemas.
pub(crate) struct Registrar {
    registry: Registry,
    topics: Topics,
    identity: SourceIdentity,
    config: Arc<SourceConfig>,
    /// By topic.
    topic_ids: Mutex<BTreeMap<String, String>>,
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
        })
    }

    /// What every record says of its source.
    pub(crate) const fn identity(&self) -> &SourceIdentity {
        &self.identity
    }

    /// Takes the ids of topics over: what is published from now on remembers them.
    pub(crate) fn learn_topics(&self, ids: &BTreeMap<String, String>) {
        let mut known = self
            .topic_ids
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        known.extend(ids.clone());
    }

    fn topic_id(&self, topic: &str) -> Option<String> {
        let known = self
            .topic_ids
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        known.get(topic).cloned()
    }

    /// Registers a table's schemas and compiles its plan. `known` is what progress says of its topic: with
    /// `on_key_change = "resnapshot"` the key may be another one, see [`PublishedTable::has_other_key`].
    ///
    /// # Errors
    /// The registry is away (retry), refuses a schema, or gives a key schema another id than before (stop).
    pub(crate) async fn publish(
        &self,
        mut table: Table,
        known: Option<&TableProgress>,
    ) -> Result<PublishedTable, Error> {
        self.config.apply_forms(&mut table);
        let topic = topic_name(&self.config, &table)?;
        let key_columns = table.key_columns();
        failpoint::hit(failpoint::REGISTERING);
        let (key_schema_id, new_generation) = self.register_key(&topic, &table, known).await?;
        let rekeyed = new_generation || known.is_some_and(|known| known.followed.rekeyed);
        let value_subject = format!("{topic}-value");
        if new_generation {
            // A column of the key is never null, one outside may be: no schema reads both generations.
            self.set_compatibility(&value_subject, "NONE").await?;
        }
        let value_schema_id = self
            .register(&value_subject, &avro::value_schema(&topic, &table))
            .await?;
        let compatibility = if rekeyed {
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
        let max_record_bytes = self.topics.max_record_bytes(&topic).await?;
        Ok(PublishedTable {
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
        Ok(Some(Arc::new(DeadLetters {
            max_bytes: self.topics.max_record_bytes(&topic).await?,
            topic: topic.into(),
            service: self.config.name.clone(),
        })))
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

    async fn set_compatibility(&self, subject: &str, level: &str) -> Result<(), Error> {
        self.registry
            .set_compatibility(subject, level)
            .await
            .doing(|| format!("set the compatibility of subject '{subject}'"))
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

    /// Registers a schema; its id.
    pub(crate) async fn register(&self, subject: &str, schema: &str) -> Result<u32, Error> {
        self.registry
            .register(subject, schema)
            .await
            .doing(|| format!("register the schema of subject '{subject}'"))
    }
}

fn warn_of_missing_key(table: &Table) {
    tracing::warn!(
        table = format!("{}.{}", table.schema, table.name),
        "the table has no usable key: only its inserts and truncates are published, as rows to append; updates and \
         deletes are not. To do: give it a primary key, or ALTER TABLE … REPLICA IDENTITY USING INDEX"
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
