//! The mark of a table, in the ledger: a row of its own for the topic, and in each partition's row when that was caught up.

use tokio_postgres::types::Type;
use tributary_engine::{Mark, Note};

use crate::name::Qualified;
use crate::postgres::failure::{Attempt, Failure};
use crate::postgres::ledger::{FORMAT_VERSION, Ledger};
use crate::postgres::session::Session;

/// The number of the row that is the topic's, and no partition's.
pub(crate) const OF_THE_TOPIC: i32 = -1;

impl Ledger {
    /// The topic's mark; `None` where no generation has begun.
    pub(crate) async fn mark(
        &self,
        session: &Session,
        topic: &str,
    ) -> Result<Option<Mark>, Failure> {
        let rows = session
            .client
            .query_typed(
                &format!(
                    "SELECT partition, generation, topic_id, partitions, versions_are_offsets, caught_up_ms, key_schemas FROM {} \
                     WHERE service = $1 AND topic = $2 ORDER BY partition",
                    self.name()
                ),
                &[(&self.service(), Type::TEXT), (&topic, Type::TEXT)],
            )
            .await
            .attempt(|| self.reading(), || self.usage(session))?;
        let (of_topic, partitions): (Vec<_>, Vec<_>) = rows
            .iter()
            .partition(|row| row.get::<_, i32>(0) == OF_THE_TOPIC);
        let Some((row, generation)) = of_topic
            .first()
            .and_then(|row| Some((row, row.get::<_, Option<String>>(1)?)))
        else {
            return Ok(None);
        };
        let key_schemas: Option<Vec<i64>> = row.get(6);
        let key_schemas = key_schemas.unwrap_or_default().into_iter();
        let caught_up = partitions
            .iter()
            .filter_map(|row| Some((row.get(0), row.get::<_, Option<i64>>(5)?)));
        Ok(Some(Mark {
            generation,
            topic_id: row.get(2),
            partitions: row.get::<_, Option<i32>>(3).unwrap_or_default(),
            versions_are_offsets: row.get::<_, Option<bool>>(4).unwrap_or_default(),
            key_schemas: key_schemas
                .filter_map(|id| u32::try_from(id).ok())
                .collect(),
            caught_up_ms: caught_up.collect(),
        }))
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
        let (mut partitions, mut times) = (Vec::new(), Vec::new());
        let (mut are_offsets, mut key_schemas) = (false, Vec::new());
        for note in notes {
            match note {
                Note::CaughtUp { partition, at_ms } => {
                    partitions.push(*partition);
                    times.push(*at_ms);
                }
                Note::VersionsAreOffsets => are_offsets = true,
                Note::KeySchema(id) => key_schemas.push(i64::from(*id)),
            }
        }
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
                    (&partitions, Type::INT4_ARRAY),
                    (&times, Type::INT8_ARRAY),
                    (&are_offsets, Type::BOOL),
                    (&key_schemas, Type::INT8_ARRAY),
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
