//! What `check` tries: the connection and every privilege, changing nothing.

use tokio_postgres::types::Type;
use tributary_runtime::{Error, Problem};

use crate::config::Warehouse;
use crate::postgres::database::pool;
use crate::postgres::failure::Attempt;
use crate::postgres::ledger::LedgerTable;
use crate::postgres::pool::Pool;
use crate::postgres::session::Session;
use crate::postgres::table::use_grant;
use crate::warehouse::failure::Failure;
use crate::warehouse::ledger::Ledger;
use crate::warehouse::name::{Qualified, Quoted};
use crate::warehouse::placement::Placement;

/// The oldest server that holds all values: infinite numerics came with PG14.
const OLDEST_VERSION: i32 = 140_000;

/// Everything that stands in the way of the service `name`, as far as the server tells.
pub(crate) async fn check(name: &str, topics: &[String], warehouse: &Warehouse) -> Vec<Problem> {
    let found = match pool(name, warehouse) {
        Ok(pool) => look(&pool, name, topics, warehouse).await,
        Err(error) => Err(error),
    };
    found.unwrap_or_else(|error| vec![Problem::from(&error)])
}

async fn look(
    pool: &Pool,
    name: &str,
    topics: &[String],
    warehouse: &Warehouse,
) -> Result<Vec<Problem>, Error> {
    let lease = pool.lease().await?;
    let session = &lease.session;
    let placement = Placement::new(warehouse.schema.as_deref());
    let ledger = LedgerTable::new(Ledger::new(placement.ledger(), name));
    let problems = async {
        let mut problems = server(session).await?;
        let mut missing = false;
        for schema in placement.schemas(topics) {
            match schema_privileges(session, &schema).await? {
                Some(found) => problems.extend(found),
                None => missing = true,
            }
        }
        problems.extend(database(session, missing).await?);
        problems.extend(tables(session, &ledger, name).await?);
        Ok::<_, Failure>(problems)
    };
    let problems = problems.await.map_err(Failure::into_error)?;
    lease.give_back();
    Ok(problems)
}

async fn server(session: &Session) -> Result<Vec<Problem>, Failure> {
    let row = session
        .client
        .query_typed_one(
            "SELECT current_setting('server_version_num')::int4, current_setting('server_version'), \
             pg_is_in_recovery() OR current_setting('transaction_read_only')::bool, \
             current_setting('server_encoding')",
            &[],
        )
        .await
        .attempt(|| "ask the warehouse for its settings".to_owned(), String::new)?;
    let mut problems = Vec::new();
    if row.get::<_, i32>(0) < OLDEST_VERSION {
        let version: String = row.get(1);
        problems.push(
            Problem::new(format!("the warehouse is PostgreSQL {version}"))
                .remedy("use PostgreSQL 14 or newer"),
        );
    }
    if row.get(2) {
        problems.push(
            Problem::new(
                "the warehouse takes no writes (a standby, or default_transaction_read_only)",
            )
            .remedy("let `warehouse.url` point to the primary"),
        );
    }
    let encoding: String = row.get(3);
    if encoding != "UTF8" {
        problems.push(
            Problem::new(format!(
                "the warehouse's encoding is {encoding}: not every text fits"
            ))
            .remedy("create the database with ENCODING 'UTF8'"),
        );
    }
    Ok(problems)
}

/// What is missing on an existing schema; `None` where there is no such schema.
async fn schema_privileges(
    session: &Session,
    schema: &str,
) -> Result<Option<Option<Problem>>, Failure> {
    let row = session
        .client
        .query_typed_opt(
            "SELECT has_schema_privilege(oid, 'USAGE') AND has_schema_privilege(oid, 'CREATE') \
             FROM pg_namespace WHERE nspname = $1",
            &[(&schema, Type::TEXT)],
        )
        .await
        .attempt(|| format!("look at schema {}", Quoted(schema)), String::new)?;
    Ok(row.map(|row| {
        let schema = format!("SCHEMA {}", Quoted(schema));
        (!row.get::<_, bool>(0)).then(|| {
            Problem::new(format!(
                "the warehouse's user may not create tables in {schema}"
            ))
            .remedy(session.grant("USAGE, CREATE", &schema))
        })
    }))
}

async fn database(session: &Session, create: bool) -> Result<Vec<Problem>, Failure> {
    let row = session
        .client
        .query_typed_one(
            "SELECT has_database_privilege(current_database(), 'CREATE'), \
             has_database_privilege(current_database(), 'TEMPORARY')",
            &[],
        )
        .await
        .attempt(|| "look at the database".to_owned(), String::new)?;
    let mut problems = Vec::new();
    if create && !row.get::<_, bool>(0) {
        problems.push(
            Problem::new("the warehouse's user may not create the schemas that are missing")
                .remedy(session.grant_on_database("CREATE")),
        );
    }
    if !row.get::<_, bool>(1) {
        problems.push(
            Problem::new("the warehouse's user may not create temporary tables")
                .remedy(session.grant_on_database("TEMPORARY")),
        );
    }
    Ok(problems)
}

/// What is missing on the ledger and on the tables that it knows.
async fn tables(
    session: &Session,
    ledger: &LedgerTable,
    service: &str,
) -> Result<Vec<Problem>, Failure> {
    let name = ledger.name();
    let Some(usable) = table_privileges(session, name, "SELECT, INSERT, UPDATE").await? else {
        return Ok(Vec::new());
    };
    if !usable {
        return Ok(vec![
            Problem::new(format!(
                "the warehouse's user may not use the ledger {name}"
            ))
            .remedy(ledger.usage(session)),
        ]);
    }
    let rows = session
        .client
        .query_typed(
            &format!("SELECT DISTINCT target_schema, target_table FROM {name} WHERE service = $1"),
            &[(&service, Type::TEXT)],
        )
        .await
        .attempt(
            || format!("read the ledger {name}"),
            || ledger.usage(session),
        )?;
    let mut problems = Vec::new();
    for row in &rows {
        let table = Qualified::new(row.get::<_, String>(0), row.get::<_, String>(1));
        let privileges = "SELECT, INSERT, UPDATE, DELETE";
        if table_privileges(session, &table, privileges).await? == Some(false) {
            problems.push(
                Problem::new(format!("the warehouse's user may not write table {table}"))
                    .remedy(use_grant(session, &table)),
            );
        }
    }
    Ok(problems)
}

/// Whether we have all of the privileges on a table; `None` where there is no such table.
async fn table_privileges(
    session: &Session,
    table: &Qualified,
    privileges: &str,
) -> Result<Option<bool>, Failure> {
    let all: Vec<_> = privileges
        .split(", ")
        .map(|privilege| format!("has_table_privilege(c.oid, '{privilege}')"))
        .collect();
    let row = session
        .client
        .query_typed_opt(
            &format!(
                "SELECT has_schema_privilege(n.oid, 'USAGE') AND {} FROM pg_class c \
                 JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2",
                all.join(" AND ")
            ),
            &[(&table.schema, Type::TEXT), (&table.name, Type::TEXT)],
        )
        .await
        .attempt(|| format!("look at table {table}"), String::new)?;
    Ok(row.map(|row| row.get(0)))
}
