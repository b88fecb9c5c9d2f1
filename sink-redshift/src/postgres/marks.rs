//! The statements of the marks in the ledger.

use tokio_postgres::Row;
use tokio_postgres::types::Type;
use tributary_engine::{Mark, Note};

use crate::postgres::failure::Attempt;
use crate::postgres::ledger::{LedgerTable, standing};
use crate::postgres::session::Session;
use crate::warehouse::failure::Failure;
use crate::warehouse::ledger::{Entry, FORMAT_VERSION};
use crate::warehouse::mark::{MarkRow, Notes, OF_THE_TOPIC, mark};
use crate::warehouse::name::Qualified;

impl LedgerTable {
    /// The topic's mark, `None` where no generation has begun; and where its partitions stand.
    pub(crate) async fn mark(
        &self,
        session: &Session,
        topic: &str,
    ) -> Result<(Option<Mark>, Vec<(i32, Entry)>), Failure> {
        let rows = session
            .client
            .query_typed(
                &format!(
                    "SELECT epoch, next_offset, loaded, partition, generation, topic_id, partitions, versions_are_offsets, \
                     caught_up_ms, key_schemas FROM {} \
                     WHERE service = $1 AND topic = $2 ORDER BY partition",
                    self.name()
                ),
                &[(&self.service(), Type::TEXT), (&topic, Type::TEXT)],
            )
            .await
            .attempt(|| self.reading(), || self.usage(session))?;
        let stand = rows.iter().map(standing).collect();
        Ok((mark(rows.iter().map(mark_row).collect()), stand))
    }

    /// Begins a generation, unless one has begun.
    pub(crate) async fn begin(
        &self,
        session: &Session,
        topic: &str,
        target: &Qualified,
        mark: &Mark,
    ) -> Result<(), Failure> {
        session
            .client
            .execute_typed(
                &format!(
                    "INSERT INTO {} AS l (service, topic, partition, target_schema, target_table, epoch, next_offset, \
                     loaded, format_version, updated_at, generation, topic_id, partitions, versions_are_offsets) \
                     VALUES ($1, $2, {OF_THE_TOPIC}, $3, $4, 0, NULL, false, {FORMAT_VERSION}, now(), $5, $6, $7, $8) \
                     ON CONFLICT (service, topic, partition) DO UPDATE SET generation = excluded.generation, \
                     topic_id = excluded.topic_id, partitions = excluded.partitions, \
                     versions_are_offsets = excluded.versions_are_offsets, key_schemas = NULL, updated_at = now() \
                     WHERE l.generation IS NULL",
                    self.name()
                ),
                &[
                    (&self.service(), Type::TEXT),
                    (&topic, Type::TEXT),
                    (&target.schema, Type::TEXT),
                    (&target.name, Type::TEXT),
                    (&mark.generation, Type::TEXT),
                    (&mark.topic_id, Type::TEXT),
                    (&mark.partitions, Type::INT4),
                    (&mark.versions_are_offsets, Type::BOOL),
                ],
            )
            .await
            .attempt(|| self.writing(topic), || self.usage(session))?;
        Ok(())
    }

    /// Notes of partitions that an older version has begun when they were last written.
    pub(crate) async fn adopt(&self, session: &Session, topic: &str) -> Result<(), Failure> {
        session
            .client
            .execute_typed(
                &format!(
                    "UPDATE {} SET caught_up_ms = (extract(epoch FROM updated_at) * 1000)::bigint \
                     WHERE service = $1 AND topic = $2 AND next_offset IS NOT NULL AND caught_up_ms IS NULL",
                    self.name()
                ),
                &[(&self.service(), Type::TEXT), (&topic, Type::TEXT)],
            )
            .await
            .attempt(|| self.writing(topic), || self.usage(session))?;
        Ok(())
    }

    /// Locks the topic's row until the transaction ends; whether it is of this generation.
    pub(crate) async fn lock_generation(
        &self,
        session: &Session,
        topic: &str,
        generation: Option<&str>,
    ) -> Result<bool, Failure> {
        let row = session
            .client
            .query_typed_opt(
                &format!(
                    "SELECT generation FROM {} WHERE service = $1 AND topic = $2 AND partition = {OF_THE_TOPIC} FOR UPDATE",
                    self.name()
                ),
                &[(&self.service(), Type::TEXT), (&topic, Type::TEXT)],
            )
            .await
            .attempt(|| self.reading(), || self.usage(session))?;
        let found: Option<String> = row.and_then(|row| row.get(0));
        Ok(found.as_deref() == generation)
    }

    /// Adds notes. The topic's row must be locked by this transaction.
    pub(crate) async fn note(
        &self,
        session: &Session,
        topic: &str,
        notes: &[Note],
    ) -> Result<(), Failure> {
        let notes = Notes::new(notes);
        session
            .client
            .execute_typed(
                &format!(
                    "UPDATE {} AS l SET versions_are_offsets = l.versions_are_offsets OR \
                     ($5 AND l.partition = {OF_THE_TOPIC}), caught_up_ms = greatest(l.caught_up_ms, noted.at_ms), \
                     key_schemas = CASE WHEN l.partition = {OF_THE_TOPIC} THEN \
                     ARRAY(SELECT unnest(l.key_schemas) UNION SELECT unnest($6)) ELSE l.key_schemas END \
                     FROM (SELECT * FROM unnest($3, $4) UNION ALL SELECT {OF_THE_TOPIC}, NULL WHERE $5 OR $6 <> '{{}}') \
                     AS noted (partition, at_ms) \
                     WHERE service = $1 AND topic = $2 AND l.partition = noted.partition",
                    self.name()
                ),
                &[
                    (&self.service(), Type::TEXT),
                    (&topic, Type::TEXT),
                    (&notes.caught_up, Type::INT4_ARRAY),
                    (&notes.times_ms, Type::INT8_ARRAY),
                    (&notes.versions_are_offsets, Type::BOOL),
                    (&notes.key_schemas, Type::INT8_ARRAY),
                ],
            )
            .await
            .attempt(|| self.writing(topic), || self.usage(session))?;
        Ok(())
    }

    /// Forgets all offsets of a topic and its generation. Epochs rise, so that nobody goes on with the former one.
    pub(crate) async fn reset(&self, session: &Session, topic: &str) -> Result<(), Failure> {
        session
            .client
            .execute_typed(
                &format!(
                    "UPDATE {} SET epoch = epoch + 1, next_offset = NULL, loaded = false, caught_up_ms = NULL, \
                     key_schemas = NULL, generation = NULL, updated_at = now() WHERE service = $1 AND topic = $2",
                    self.name()
                ),
                &[(&self.service(), Type::TEXT), (&topic, Type::TEXT)],
            )
            .await
            .attempt(|| self.writing(topic), || self.usage(session))?;
        Ok(())
    }

    fn writing(&self, topic: &str) -> String {
        format!(
            "note in the ledger {} what topic '{topic}' became",
            self.name()
        )
    }
}

fn mark_row(row: &Row) -> MarkRow {
    MarkRow {
        partition: row.get(3),
        generation: row.get(4),
        topic_id: row.get(5),
        partitions: row.get(6),
        versions_are_offsets: row.get(7),
        caught_up_ms: row.get(8),
        key_schemas: row.get(9),
    }
}
