//! The destination: what a configuration makes of it, and how a partition is opened.

use std::sync::Arc;
use std::time::Duration;

use tributary_engine::{Destination, Start, TableName, TopicPartition};
use tributary_runtime::Error;

use crate::config::Warehouse;
use crate::postgres::access::Shared;
use crate::postgres::failure::Failure;
use crate::postgres::ledger::{Ledger, OWN_SCHEMA};
use crate::postgres::metric;
use crate::postgres::pool::Pool;
use crate::postgres::session::Limits;
use crate::postgres::writer::PostgresWriter;

/// A Postgres database that a service keeps equal to its topics.
pub struct PostgresWarehouse {
    shared: Arc<Shared>,
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
    let limits = Limits {
        statement: Duration::from_millis(warehouse.statement_timeout_ms),
        rewrite: Duration::from_millis(warehouse.rewrite_timeout_ms),
    };
    Ok(Pool::new(config, warehouse.max_connections, limits))
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
        let entry = shared
            .bounded(&lease.session.deadline, "open", partition, opening)
            .await
            .map_err(Failure::into_error)?;
        lease.give_back();
        let start = entry.next_offset.map_or(Start::Beginning, Start::At);
        let writer = PostgresWriter::new(Arc::clone(shared), partition.clone(), target, entry);
        Ok((writer, start))
    }
}
