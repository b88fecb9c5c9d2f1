//! How the partitions of a service reach their tables: connections, the ledger, and what it says of a table.

use tributary_engine::{Known, Mark, Note, RowForm, TopicPartition};

use crate::postgres::ddl::emptying;
use crate::postgres::failure::Attempt;
use crate::postgres::growth::prepare_empty;
use crate::postgres::ledger::{LedgerTable, Presence};
use crate::postgres::pool::Pool;
use crate::postgres::session::Session;
use crate::postgres::table::{self, lock_definition};
use crate::postgres::takeover::watched;
use crate::warehouse::claims::Told;
use crate::warehouse::failure::Failure;
use crate::warehouse::ledger::{Content, Entry, TopicState};
use crate::warehouse::name::Qualified;
use crate::warehouse::placement::Placement;

/// What all partitions of a service share.
pub(crate) struct Shared {
    pub(crate) pool: Pool,
    pub(crate) ledger: LedgerTable,
    pub(crate) placement: Placement,
}

impl Shared {
    /// Raises the partition's epoch and reads where it stands, in one transaction.
    pub(crate) async fn open(
        &self,
        session: &Session,
        partition: &TopicPartition,
        target: &Qualified,
    ) -> Result<Entry, Failure> {
        self.ledger.ensure(session).await?;
        session.begin().await?;
        // Locks have a time-out of their own; looking into a large table may take longer than a batch.
        let taking = session.unhurried(Box::pin(async {
            lock_definition(session, target).await?;
            self.ledger.state(session, &partition.topic, target).await?;
            self.ledger.take(session, partition, target).await
        }));
        let entry = watched(&self.pool, session, taking).await?;
        session.commit().await?;
        Ok(entry)
    }

    /// What ledger and table say together, to somebody whom the ledger has told this.
    pub(crate) async fn known(
        &self,
        session: &Session,
        topic: &str,
        target: &Qualified,
        told: &Told,
    ) -> Result<Known, Failure> {
        self.ledger.ensure(session).await?;
        // The mark first: of a generation that is discarded in between nobody takes the offsets for those of an older version.
        let (mut mark, stand) = self.ledger.mark(session, topic).await?;
        let state = self.ledger.state(session, topic, target).await?;
        if self.has_lost(told, &stand) {
            return Ok(Known::Nothing);
        }
        if mark.is_none() && state.known {
            // Of an older version, which kept offsets alone.
            self.ledger.adopt(session, topic).await?;
            let begun = Mark::unknown();
            self.ledger.begin(session, topic, target, &begun).await?;
            (mark, _) = self.ledger.mark(session, topic).await?;
        }
        self.judged(session, topic, target, (mark, state)).await
    }

    /// Whether the ledger lacks what it had said was committed: rows of partitions into which nobody writes are missing too.
    fn has_lost(&self, told: &Told, stand: &[(i32, Entry)]) -> bool {
        let lost = told.lost(&self.ledger.meaning, stand);
        if let Some(error) = &lost {
            tracing::warn!(%error, "a partition is taken again");
        }
        lost.is_some()
    }

    /// The same, changing nothing: as if the ledger were there, and of this version.
    pub(crate) async fn foreseen(
        &self,
        session: &Session,
        topic: &str,
        target: &Qualified,
        presence: Presence,
    ) -> Result<Known, Failure> {
        let mut state = TopicState::default();
        let mut mark = None;
        if presence.table {
            state = self.ledger.state(session, topic, target).await?;
        }
        if presence.whole {
            (mark, _) = self.ledger.mark(session, topic).await?;
        }
        if mark.is_none() && state.known {
            mark = Some(Mark::unknown());
        }
        self.judged(session, topic, target, (mark, state)).await
    }

    /// Whether what the ledger says holds for the table.
    async fn judged(
        &self,
        session: &Session,
        topic: &str,
        target: &Qualified,
        (mark, state): (Option<Mark>, TopicState),
    ) -> Result<Known, Failure> {
        let content = match table::read(session, target).await? {
            None => Content::NoTable,
            Some(_) if mark.is_none() && table::has_rows(session, target).await? => Content::Rows,
            Some(_) => Content::Table,
        };
        let meaning = &self.ledger.meaning;
        Ok(meaning.known(topic, target, (mark, &state), content))
    }

    /// Begins a generation, unless one has begun.
    pub(crate) async fn begin(
        &self,
        session: &Session,
        topic: &str,
        target: &Qualified,
        mark: &Mark,
    ) -> Result<(), Failure> {
        self.ledger.ensure(session).await?;
        self.ledger.begin(session, topic, target, mark).await
    }

    /// The same, with a table for rows of this form, in one transaction.
    pub(crate) async fn found(
        &self,
        session: &Session,
        topic: &str,
        target: &Qualified,
        mark: &Mark,
        form: &RowForm,
    ) -> Result<(), Failure> {
        self.ledger.ensure(session).await?;
        session.begin().await?;
        prepare_empty(session, target, form).await?;
        self.ledger.begin(session, topic, target, mark).await?;
        session.commit().await
    }

    /// Adds notes to the mark, if it is of this generation and nothing is lost of what the ledger has told; whether that holds.
    pub(crate) async fn note(
        &self,
        session: &Session,
        topic: &str,
        (generation, notes): (&str, &[Note]),
        told: &Told,
    ) -> Result<bool, Failure> {
        session.begin().await?;
        let ledger = &self.ledger;
        let is_it = ledger
            .lock_generation(session, topic, Some(generation))
            .await?;
        let holds = is_it && !self.has_lost(told, &ledger.mark(session, topic).await?.1);
        if holds {
            ledger.note(session, topic, notes).await?;
        }
        session.commit().await?;
        Ok(holds)
    }

    /// Empties the table and forgets its offsets, if it is of this generation.
    pub(crate) async fn discard(
        &self,
        session: &Session,
        topic: &str,
        target: &Qualified,
        generation: Option<&str>,
    ) -> Result<(), Failure> {
        self.ledger.ensure(session).await?;
        session.begin().await?;
        lock_definition(session, target).await?;
        let ledger = &self.ledger;
        if ledger.lock_generation(session, topic, generation).await? {
            if table::read(session, target).await?.is_some() {
                tracing::warn!(table = %target, "empties the table");
                session
                    .client
                    .batch_execute(&emptying(target))
                    .await
                    .attempt(
                        || format!("empty table {target}"),
                        || session.grant("TRUNCATE", &target.to_string()),
                    )?;
            }
            ledger.reset(session, topic).await?;
        }
        session.commit().await
    }
}
