//! The target: what a configuration makes of it.

use std::sync::Arc;
use std::time::Duration;

use tributary_engine::{TableName, Target};
use tributary_runtime::Error;

use crate::config::Warehouse;
use crate::postgres::access::Shared;
use crate::postgres::lane::PostgresLane;
use crate::postgres::ledger::{Ledger, OWN_SCHEMA};
use crate::postgres::metric;
use crate::postgres::pool::Pool;
use crate::postgres::session::Limits;

/// A Postgres database that a service keeps equal to its topics.
pub struct PostgresWarehouse {
    pub(crate) shared: Arc<Shared>,
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

impl Target for PostgresWarehouse {
    type Lane = PostgresLane;

    async fn lane(&self, topic: &str, table: &TableName) -> Result<PostgresLane, Error> {
        let target = self.shared.target(table);
        target.validate()?;
        let shared = Arc::clone(&self.shared);
        Ok(PostgresLane::new(shared, topic.to_owned(), target))
    }
}
