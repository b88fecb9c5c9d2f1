//! The statements of the ledger.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_postgres::Row;
use tokio_postgres::types::Type;
use tributary_engine::TopicPartition;

use crate::postgres::ddl::create_schema;
use crate::postgres::failure::Attempt;
use crate::postgres::session::Session;
use crate::warehouse::failure::Failure;
use crate::warehouse::ledger::{Entry, FORMAT_VERSION, Ledger, Progress, TopicState, Writer};
use crate::warehouse::name::{Qualified, Quoted, literal};

/// The table that holds one row per service and partition, and one per service and topic.
pub(crate) struct LedgerTable {
    /// What its rows mean.
    pub(crate) meaning: Ledger,
    exists: AtomicBool,
}

/// What there is of the ledger.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Presence {
    schema: bool,
    pub(crate) table: bool,
    /// It has all columns of this version.
    pub(crate) whole: bool,
}

impl LedgerTable {
    /// The table of this ledger.
    pub(crate) const fn new(meaning: Ledger) -> Self {
        Self {
            meaning,
            exists: AtomicBool::new(false),
        }
    }

    /// Its name.
    pub(crate) const fn name(&self) -> &Qualified {
        self.meaning.name()
    }

    /// The service whose rows these are.
    pub(crate) fn service(&self) -> &str {
        self.meaning.service()
    }

    /// Creates the ledger where it is missing. Asked once per process: nobody drops it while we run.
    pub(crate) async fn ensure(&self, session: &Session) -> Result<(), Failure> {
        if self.exists.load(Ordering::Relaxed) {
            return Ok(());
        }
        let presence = self.presence(session).await?;
        let statements = self.statements(presence);
        if !statements.is_empty() {
            let name = self.name();
            let ddl = format!(
                "BEGIN; SELECT pg_advisory_xact_lock(hashtextextended('tributary ledger', 0)); {}; COMMIT",
                statements.join("; ")
            );
            session.client.batch_execute(&ddl).await.attempt(
                || format!("create the ledger {name}"),
                || match presence.schema {
                    true => {
                        let schema = format!("SCHEMA {}", Quoted(&name.schema));
                        session.grant("USAGE, CREATE", &schema)
                    }
                    false => session.grant_on_database("CREATE"),
                },
            )?;
        }
        self.exists.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// What there is of it.
    pub(crate) async fn presence(&self, session: &Session) -> Result<Presence, Failure> {
        let found = session
            .client
            .query_typed_one(
                "SELECT to_regnamespace($1) IS NOT NULL, to_regclass($2) IS NOT NULL, \
                 EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass($2) AND attname = 'key_schemas')",
                &[
                    (&Quoted(&self.name().schema).to_string(), Type::TEXT),
                    (&self.name().to_string(), Type::TEXT),
                ],
            )
            .await
            .attempt(|| "look for the ledger".to_owned(), || self.usage(session))?;
        Ok(Presence {
            schema: found.get(0),
            table: found.get(1),
            whole: found.get(2),
        })
    }

    /// The statements that make it, or bring the one of an older version up to date.
    pub(crate) fn statements(&self, presence: Presence) -> Vec<String> {
        let name = self.name();
        let mut statements = Vec::new();
        if presence.whole {
            return statements;
        }
        if !presence.schema {
            statements.push(create_schema(&name.schema));
        }
        statements.push(format!(
            "CREATE TABLE IF NOT EXISTS {name} (service text NOT NULL, topic text NOT NULL, \
             partition integer NOT NULL, target_schema text NOT NULL, target_table text NOT NULL, \
             epoch bigint NOT NULL, next_offset bigint, loaded boolean NOT NULL, \
             format_version integer NOT NULL, updated_at timestamp with time zone NOT NULL, \
             PRIMARY KEY (service, topic, partition))"
        ));
        statements.push(format!(
            "ALTER TABLE {name} ADD COLUMN IF NOT EXISTS generation text, ADD COLUMN IF NOT EXISTS topic_id text, \
             ADD COLUMN IF NOT EXISTS partitions integer, ADD COLUMN IF NOT EXISTS versions_are_offsets boolean, \
             ADD COLUMN IF NOT EXISTS caught_up_ms bigint, ADD COLUMN IF NOT EXISTS key_schemas bigint[]"
        ));
        statements
    }

    /// What is known about `topic` and about others that write `target`.
    ///
    /// # Errors
    /// As [`Ledger::state`].
    pub(crate) async fn state(
        &self,
        session: &Session,
        topic: &str,
        target: &Qualified,
    ) -> Result<TopicState, Failure> {
        let rows = session
            .client
            .query_typed(
                &format!(
                    "SELECT service, topic, bool_or(loaded), bool_or(next_offset IS NOT NULL), max(format_version), \
                     bool_and(target_schema = $3 AND target_table = $4) FROM {} WHERE (service = $1 AND topic = $2) \
                     OR (target_schema = $3 AND target_table = $4) GROUP BY service, topic",
                    self.name()
                ),
                &[
                    (&self.service(), Type::TEXT),
                    (&topic, Type::TEXT),
                    (&target.schema, Type::TEXT),
                    (&target.name, Type::TEXT),
                ],
            )
            .await
            .attempt(|| self.reading(), || self.usage(session))?;
        let writers: Vec<_> = rows.iter().map(writer).collect();
        let forget = |service: &str, topic: &str| self.forget(service, topic);
        Ok(self.meaning.state(topic, target, &writers, forget)?)
    }

    /// The statement that makes a service begin a topic anew.
    fn forget(&self, service: &str, topic: &str) -> String {
        format!(
            "DELETE FROM {} WHERE service = {} AND topic = {}",
            self.name(),
            literal(service),
            literal(topic)
        )
    }

    /// Raises the partition's epoch, which fences earlier holders, and reads where it stands.
    pub(crate) async fn take(
        &self,
        session: &Session,
        partition: &TopicPartition,
        target: &Qualified,
    ) -> Result<Entry, Failure> {
        let row = session
            .client
            .query_typed_one(
                &format!(
                    "INSERT INTO {} AS l (service, topic, partition, target_schema, target_table, epoch, \
                     next_offset, loaded, format_version, updated_at) \
                     VALUES ($1, $2, $3, $4, $5, 1, NULL, false, {FORMAT_VERSION}, now()) \
                     ON CONFLICT (service, topic, partition) DO UPDATE SET epoch = l.epoch + 1, format_version = {FORMAT_VERSION}, updated_at = now() \
                     RETURNING epoch, next_offset, loaded",
                    self.name()
                ),
                &[
                    (&self.service(), Type::TEXT),
                    (&partition.topic, Type::TEXT),
                    (&partition.partition, Type::INT4),
                    (&target.schema, Type::TEXT),
                    (&target.name, Type::TEXT),
                ],
            )
            .await
            .attempt(
                || format!("take {partition} in the ledger {}", self.name()),
                || self.usage(session),
            )?;
        Ok(entry(&row))
    }

    /// Locks the rows of a topic's partitions until the transaction ends; those that somebody deleted are not among them.
    pub(crate) async fn lock(
        &self,
        session: &Session,
        topic: &str,
        partitions: &[i32],
    ) -> Result<Vec<(i32, Entry)>, Failure> {
        let rows = session
            .client
            .query_typed(
                &format!(
                    "SELECT epoch, next_offset, loaded, partition FROM {} \
                     WHERE service = $1 AND topic = $2 AND partition = ANY ($3) ORDER BY partition FOR UPDATE",
                    self.name()
                ),
                &[
                    (&self.service(), Type::TEXT),
                    (&topic, Type::TEXT),
                    (&partitions, Type::INT4_ARRAY),
                ],
            )
            .await
            .attempt(|| self.reading(), || self.usage(session))?;
        Ok(rows.iter().map(standing).collect())
    }

    /// Moves partitions forward. Their rows must be locked by this transaction.
    pub(crate) async fn advance(
        &self,
        session: &Session,
        topic: &str,
        progress: &[Progress],
        loaded: bool,
    ) -> Result<(), Failure> {
        let partitions: Vec<i32> = progress.iter().map(|to_be| to_be.partition).collect();
        let offsets: Vec<i64> = progress.iter().map(|to_be| to_be.next_offset).collect();
        session
            .client
            .execute_typed(
                &format!(
                    "UPDATE {} AS l SET next_offset = to_be.next_offset, loaded = loaded OR $5, updated_at = now() \
                     FROM unnest($3, $4) AS to_be (partition, next_offset) \
                     WHERE service = $1 AND topic = $2 AND l.partition = to_be.partition",
                    self.name()
                ),
                &[
                    (&self.service(), Type::TEXT),
                    (&topic, Type::TEXT),
                    (&partitions, Type::INT4_ARRAY),
                    (&offsets, Type::INT8_ARRAY),
                    (&loaded, Type::BOOL),
                ],
            )
            .await
            .attempt(
                || format!("note the offsets of topic '{topic}' in the ledger {}", self.name()),
                || self.usage(session),
            )?;
        Ok(())
    }

    /// Where a topic's partitions stand; those without an offset are left out.
    pub(crate) async fn offsets(
        &self,
        session: &Session,
        topic: &str,
    ) -> Result<BTreeMap<i32, i64>, Failure> {
        let rows = session
            .client
            .query_typed(
                &format!(
                    "SELECT partition, next_offset FROM {} \
                     WHERE service = $1 AND topic = $2 AND next_offset IS NOT NULL",
                    self.name()
                ),
                &[(&self.service(), Type::TEXT), (&topic, Type::TEXT)],
            )
            .await
            .attempt(|| self.reading(), || self.usage(session))?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    pub(crate) fn reading(&self) -> String {
        format!("read the ledger {}", self.name())
    }

    /// The grants that using the ledger asks for.
    pub(crate) fn usage(&self, session: &Session) -> String {
        format!(
            "{}; {}",
            session.grant("USAGE", &format!("SCHEMA {}", Quoted(&self.name().schema))),
            session.grant("SELECT, INSERT, UPDATE", &self.name().to_string())
        )
    }
}

fn writer(row: &Row) -> Writer {
    Writer {
        service: row.get(0),
        topic: row.get(1),
        loaded: row.get(2),
        has_offset: row.get(3),
        format_version: row.get(4),
        writes_it: row.get(5),
    }
}

/// A partition's number, which follows the columns of its entry, and where it stands.
pub(crate) fn standing(row: &Row) -> (i32, Entry) {
    (row.get(3), entry(row))
}

fn entry(row: &Row) -> Entry {
    Entry {
        epoch: row.get(0),
        next_offset: row.get(1),
        loaded: row.get(2),
    }
}
