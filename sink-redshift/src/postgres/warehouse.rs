//! The destination: connections, the ledger, and which table a topic goes to.

use std::sync::Arc;
use std::time::Duration;

use tributary_runtime::Error;
use tributary_runtime::sink::{Destination, Start, TableName, TopicPartition};

use crate::config::Warehouse;
use crate::postgres::failure::Failure;
use crate::postgres::ledger::{Entry, Ledger, OWN_SCHEMA};
use crate::postgres::metric;
use crate::postgres::name::Qualified;
use crate::postgres::session::{Pool, Session};
use crate::postgres::target::{Target, lock_definition};
use crate::postgres::writer::PostgresWriter;

/// A Postgres database that a service keeps equal to its topics.
pub struct PostgresWarehouse {
    shared: Arc<Shared>,
}

/// What all partitions of a service share.
pub(crate) struct Shared {
    pub(crate) pool: Pool,
    pub(crate) ledger: Ledger,
    schema: Option<String>,
}

impl PostgresWarehouse {
    /// The warehouse of the service `name`; nothing is connected yet.
    ///
    /// # Errors
    /// A URL that does not parse, or asks for what is not there (TLS).
    pub fn new(name: &str, warehouse: &Warehouse) -> Result<Self, Error> {
        metric::describe();
        let ledger_schema = warehouse.schema.as_deref().unwrap_or(OWN_SCHEMA);
        Ok(Self {
            shared: Arc::new(Shared {
                pool: pool(name, warehouse)?,
                ledger: Ledger::new(ledger_schema, name),
                schema: warehouse.schema.clone(),
            }),
        })
    }
}

/// The connections that the configuration allows.
pub(crate) fn pool(name: &str, warehouse: &Warehouse) -> Result<Pool, Error> {
    let mut config = warehouse.connection().map_err(|problem| {
        Error::stop_msg(&problem.what).remedy(problem.remedy.unwrap_or_default())
    })?;
    config.application_name(format!("tributary-sink-redshift {name}"));
    let statement_timeout = Duration::from_millis(warehouse.statement_timeout_ms);
    Ok(Pool::new(
        config,
        warehouse.max_connections,
        statement_timeout,
    ))
}

impl Destination for PostgresWarehouse {
    type Writer = PostgresWriter;

    async fn open(
        &self,
        partition: &TopicPartition,
        table: &TableName,
    ) -> Result<(Self::Writer, Start), Error> {
        let shared = &self.shared;
        let target = shared.target(table);
        target.validate()?;
        let lease = shared.pool.lease().await?;
        let opening = shared.open(&lease.session, partition, &target);
        let entry = tokio::time::timeout(shared.deadline(), opening)
            .await
            .map_err(|_| shared.overdue("open", partition))?
            .map_err(Failure::into_error)?;
        lease.give_back();
        let start = entry.next_offset.map_or(Start::Beginning, Start::At);
        let writer = PostgresWriter::new(Arc::clone(shared), partition.clone(), target, entry);
        Ok((writer, start))
    }
}

impl Shared {
    /// The table that a topic's table becomes.
    fn target(&self, table: &TableName) -> Qualified {
        Qualified::new(self.schema.as_ref().unwrap_or(&table.schema), &table.table)
    }

    /// The longest that a whole transaction may take, whatever the server does.
    pub(crate) fn deadline(&self) -> Duration {
        self.pool.statement_timeout() * 2
    }

    /// A transaction did not end in time.
    pub(crate) fn overdue(&self, doing: &str, partition: &TopicPartition) -> Error {
        Error::retry_msg(format_args!(
            "{doing} {partition}: the warehouse did not answer within {} s",
            self.deadline().as_secs()
        ))
        .remedy("look for locks on the target table, or raise [warehouse] statement_timeout_ms")
    }

    /// Raises the partition's epoch and reads where it stands, in one transaction.
    async fn open(
        &self,
        session: &Session,
        partition: &TopicPartition,
        target: &Qualified,
    ) -> Result<Entry, Failure> {
        self.ledger.ensure(session).await?;
        session.begin().await?;
        lock_definition(session, target).await?;
        self.check_target(session, partition, target).await?;
        let entry = self.ledger.take(session, partition, target).await?;
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
