//! The target: what a configuration makes of it.

use std::sync::Arc;
use std::time::Duration;

use tributary_engine::{TableName, Target};
use tributary_runtime::Error;

use crate::config::Warehouse;
use crate::postgres::access::Shared;
use crate::postgres::lane::PostgresLane;
use crate::postgres::ledger::LedgerTable;
use crate::postgres::pool::Pool;
use crate::postgres::rules::Postgres;
use crate::postgres::session::Limits;
use crate::postgres::settings::connection;
use crate::warehouse::ledger::Ledger;
use crate::warehouse::metric;
use crate::warehouse::placement::Placement;

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
        let placement = Placement::new(warehouse.schema.as_deref());
        Ok(Self {
            shared: Arc::new(Shared {
                pool: pool(name, warehouse)?,
                ledger: LedgerTable::new(Ledger::new(placement.ledger(), name)),
                placement,
            }),
        })
    }
}

/// The connections that the configuration allows.
pub(crate) fn pool(name: &str, warehouse: &Warehouse) -> Result<Pool, Error> {
    let mut config = connection(warehouse).map_err(|problem| {
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
        let target = self.shared.placement.table::<Postgres>(table)?;
        let shared = Arc::clone(&self.shared);
        Ok(PostgresLane::new(shared, topic.to_owned(), target))
    }
}
