//! How the partitions of a service reach their tables: connections, the ledger, and what it says of a table.

use std::future::Future;

use tributary_engine::{Known, Mark, Note, RowForm, TableName, TopicPartition};
use tributary_runtime::Error;

use crate::name::Qualified;
use crate::postgres::deadline::Deadline;
use crate::postgres::failure::{Attempt, Failure};
use crate::postgres::growth::prepare_empty;
use crate::postgres::ledger::{Entry, Ledger, Presence, TopicState};
use crate::postgres::pool::Pool;
use crate::postgres::session::Session;
use crate::postgres::takeover::watched;
use crate::postgres::target::{Target, lock_definition};

/// What all partitions of a service share.
pub(crate) struct Shared {
    pub(crate) pool: Pool,
    pub(crate) ledger: Ledger,
    /// One schema for all tables; by default each has the one that it has in the source.
    pub(crate) schema: Option<String>,
}

impl Shared {
    /// The table that a topic's table becomes.
    pub(crate) fn target(&self, table: &TableName) -> Qualified {
        Qualified::new(self.schema.as_ref().unwrap_or(&table.schema), &table.table)
    }

    /// Does what a whole transaction is for, whatever the server does, within the time of a transaction.
    pub(crate) async fn bounded<T>(
        &self,
        deadline: &Deadline,
        doing: &str,
        what: impl std::fmt::Display,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let done = deadline.bound(work).await;
        done.unwrap_or_else(|| {
            let overdue = Error::retry_msg(format_args!(
                "{doing} {what}: the warehouse did not answer within {} s",
                deadline.limit().as_secs()
            ));
            Err(overdue
                .remedy(
                    "look for locks on the target table, or raise [warehouse] statement_timeout_ms",
                )
                .into())
        })
    }

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
            self.state(session, &partition.topic, target).await?;
            self.ledger.take(session, partition, target).await
        }));
        let entry = watched(&self.pool, session, taking).await?;
        session.commit().await?;
        Ok(entry)
    }

    /// What the ledger knows of a topic.
    ///
    /// # Errors
    /// Stop: another service or topic has the table.
    async fn state(
        &self,
        session: &Session,
        topic: &str,
        target: &Qualified,
    ) -> Result<TopicState, Failure> {
        let state = self.ledger.topic_state(session, topic, target).await?;
        if let Some((service, topic)) = state.rival {
            let apart = if service == self.ledger.service() {
                "leave one of the two topics to another service, or [warehouse] schema out"
            } else {
                "set [warehouse] schema to a schema of this service's own"
            };
            return Err(Error::stop_msg(format_args!(
                "table {target} is kept by service '{service}' from topic '{topic}'"
            ))
            .remedy(format!(
                "{apart}; if nobody writes that topic to it any more: {}",
                self.ledger.forget_for(&service, &topic)
            ))
            .into());
        }
        Ok(state)
    }

    /// What ledger and table say together.
    pub(crate) async fn known(
        &self,
        session: &Session,
        topic: &str,
        target: &Qualified,
    ) -> Result<Known, Failure> {
        self.ledger.ensure(session).await?;
        let state = self.state(session, topic, target).await?;
        let mut mark = self.ledger.mark(session, topic).await?;
        if mark.is_none() && state.known {
            // Of an older version, which kept offsets alone.
            self.ledger.adopt(session, topic).await?;
            let begun = Mark::unknown();
            self.ledger.begin(session, topic, target, &begun).await?;
            mark = self.ledger.mark(session, topic).await?;
        }
        self.judged(session, topic, target, (mark, state)).await
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
            state = self.state(session, topic, target).await?;
        }
        if presence.whole {
            mark = self.ledger.mark(session, topic).await?;
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
        let table = Target::read(session, target).await?;
        match (mark, table) {
            (Some(mark), None) if state.loaded => Ok(Known::Unfit {
                generation: Some(mark.generation),
                reason: self.is_gone(topic, target),
            }),
            (Some(mark), _) => Ok(Known::Marked(mark)),
            (None, Some(table)) if table.has_rows(session).await? => {
                let reason = format!(
                    "table {target} holds rows, but the ledger {} knows no offset of topic '{topic}': deletes may have \
                     been missed",
                    self.ledger.name()
                );
                Ok(Known::Unfit {
                    generation: None,
                    reason,
                })
            }
            (None, _) => Ok(Known::Nothing),
        }
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

    /// Adds notes to the mark, if it is of this generation; whether it is.
    pub(crate) async fn note(
        &self,
        session: &Session,
        topic: &str,
        generation: &str,
        notes: &[Note],
    ) -> Result<bool, Failure> {
        session.begin().await?;
        let ledger = &self.ledger;
        let is_it = ledger
            .lock_generation(session, topic, Some(generation))
            .await?;
        if is_it {
            ledger.note(session, topic, notes).await?;
        }
        session.commit().await?;
        Ok(is_it)
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
            if Target::read(session, target).await?.is_some() {
                tracing::warn!(table = %target, "empties the table");
                session
                    .client
                    .batch_execute(&Target::emptying(target))
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

    /// The table is gone that the ledger's offsets speak of.
    pub(crate) fn is_gone(&self, topic: &str, target: &Qualified) -> String {
        format!(
            "table {target} is gone, but the ledger {} has offsets of topic '{topic}'",
            self.ledger.name()
        )
    }
}
