//! How the partitions of a service reach their tables: connections, the ledger, and what it says of a table.

use std::future::Future;

use tributary_engine::{TableName, TopicPartition};
use tributary_runtime::Error;

use crate::name::Qualified;
use crate::postgres::deadline::Deadline;
use crate::postgres::failure::Failure;
use crate::postgres::ledger::{Entry, Ledger};
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
            self.check_target(session, partition, target).await?;
            self.ledger.take(session, partition, target).await
        }));
        let entry = watched(&self.pool, session, taking).await?;
        session.commit().await?;
        Ok(entry)
    }

    /// Refuses to fill a table of which the ledger knows nothing, or to go on with one that is gone.
    async fn check_target(
        &self,
        session: &Session,
        partition: &TopicPartition,
        target: &Qualified,
    ) -> Result<(), Failure> {
        let topic = &partition.topic;
        let state = self.ledger.topic_state(session, topic, target).await?;
        if let Some((service, topic)) = state.rival {
            let remedy = if service == self.ledger.service() {
                "leave one of the two topics to another service, or [warehouse] schema out"
            } else {
                "set [warehouse] schema to a schema of this service's own"
            };
            return Err(Error::stop_msg(format_args!(
                "table {target} is kept by service '{service}' from topic '{topic}'"
            ))
            .remedy(remedy)
            .into());
        }
        match Target::read(session, target).await? {
            None if state.loaded => Err(self.dropped(topic, target).into()),
            Some(table) if !state.known && table.has_rows(session).await? => {
                Err(Error::stop_msg(format_args!(
                    "table {target} holds rows, but the ledger {} knows no offset of topic '{topic}': deletes \
                     may have been missed",
                    self.ledger.name()
                ))
                .remedy(format!("rebuild it: DROP TABLE {target}, then start again"))
                .into())
            }
            _ => Ok(()),
        }
    }

    /// The table is gone that the ledger's offsets speak of.
    pub(crate) fn dropped(&self, topic: &str, target: &Qualified) -> Error {
        Error::stop_msg(format_args!(
            "table {target} is gone, but the ledger {} has offsets of topic '{topic}'",
            self.ledger.name()
        ))
        .remedy(format!("to rebuild it: {}", self.ledger.forget(topic)))
    }
}
