//! An output plug-in that the server refuses, and what wal2json cannot carry: refused at the start, and named by `check`.

use tokio_postgres::Client;
use tributary_runtime::{Error, Problem};

use crate::catalog::{CatalogTable, Selection, Unusable};
use crate::database::Database;
use crate::plugin::Plugin;
use crate::quote::qualified;
use crate::server;

const USE_PGOUTPUT: &str = "set postgres.plugin = \"pgoutput\" (with a new slot)";

/// Columns whose special values are sent as null: of the types themselves, for a domain's are sent as text.
const DOUBTFUL: &str = "
    SELECT attrelid, attname::text, pg_catalog.format_type(atttypid, atttypmod) FROM pg_catalog.pg_attribute
    WHERE attrelid = ANY ($1) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
      AND atttypid IN ('pg_catalog.float4'::pg_catalog.regtype, 'pg_catalog.float8'::pg_catalog.regtype,
                       'pg_catalog.numeric'::pg_catalog.regtype)
    ORDER BY attrelid, attnum";

/// The server's refusal of the plug-in, and everything about the database and its tables that wal2json cannot carry
/// faithfully.
///
/// # Errors
/// The server is away.
pub async fn problems(
    plugin: Plugin,
    client: &Client,
    database: &Database,
    tables: &[CatalogTable],
) -> Result<Vec<Error>, Error> {
    let refusal = server::plugin_refusal(client, database, plugin.name()).await?;
    let mut problems = Vec::from_iter(refusal);
    if plugin != Plugin::Wal2json {
        return Ok(problems);
    }
    let explain = |error| database.explain(error);
    let row = client
        .query_one("SELECT pg_catalog.current_setting('server_encoding')", &[])
        .await
        .map_err(explain)?;
    let encoding: &str = row.get(0);
    if encoding != "UTF8" {
        problems.push(
            Error::stop_msg(format!(
                "{} has the encoding {encoding}: wal2json sends text as it is stored",
                database.address()
            ))
            .remedy(USE_PGOUTPUT),
        );
    }
    problems.extend(tables.iter().filter_map(partitioned));
    let oids: Vec<u32> = tables.iter().map(|table| table.table.oid).collect();
    for row in &client.query(DOUBTFUL, &[&oids]).await.map_err(explain)? {
        let oid: u32 = row.get(0);
        let table = tables.iter().find(|table| table.table.oid == oid);
        problems.extend(table.and_then(|table| doubtful(table, row.get(1), row.get(2))));
    }
    Ok(problems)
}

/// Leaves out what wal2json's stream lacks of the tables that have come since the start, which refuses it.
pub fn leave_out(plugin: Plugin, selection: &mut Selection) {
    if plugin != Plugin::Wal2json {
        return;
    }
    let Selection {
        tables, unusable, ..
    } = selection;
    tables.retain(|table| {
        let left_out = partitioned(table).map(|error| Unusable {
            oid: table.table.oid,
            table: table.display_name(),
            exact: false,
            problem: Problem::from(&error),
        });
        let is_kept = left_out.is_none();
        unusable.extend(left_out);
        is_kept
    });
}

fn partitioned(table: &CatalogTable) -> Option<Error> {
    table.partitioned.then(|| {
        Error::stop_msg(format!(
            "table {} is partitioned: wal2json sends the changes of each partition under the partition's name",
            table.display_name()
        ))
        .remedy(format!("take it out of postgres.tables, or {USE_PGOUTPUT}"))
    })
}

/// Null may stand for NaN there: looked up in a new row, by its key. An old row cannot be looked up.
fn doubtful(table: &CatalogTable, column: &str, type_name: &str) -> Option<Error> {
    let (why, remedy) = if table.is_keyless() {
        (
            "the table has no key to look it up by",
            "give it a primary key",
        )
    } else if table.full_identity {
        (
            "old rows, which REPLICA IDENTITY FULL sends, cannot be looked up",
            "set REPLICA IDENTITY DEFAULT",
        )
    } else {
        return None;
    };
    let (schema, name) = (&table.table.schema, &table.table.name);
    Some(
        Error::stop_msg(format!(
            "column '{column}' ({type_name}) of table {schema}.{name}: wal2json sends NaN and the infinities as null, and {why}"
        ))
        .remedy(format!("ALTER TABLE {}: {remedy}; or {USE_PGOUTPUT}", qualified(schema, name))),
    )
}
