//! The facts of a table from the catalog.

use tokio_postgres::{Client, Row};
use tributary_runtime::Error;

use crate::database::Database;
use crate::pgoutput::ReplicaIdentity;
use crate::wal2json::facts::{ColumnFacts, Facts};

/// `$3` is the OID that the table had, for one that has been renamed since.
const TABLE: &str = "
    SELECT c.oid, c.relreplident::text, c.relkind = 'r' AND NOT c.relispartition AND c.relpersistence = 'p'
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE (n.nspname = $1::text AND c.relname = $2::text) OR c.oid = $3
    ORDER BY c.oid = $3 LIMIT 1";

const COLUMNS: &str = "
    SELECT a.attname::text, a.attnum, a.atttypid, a.atttypmod, pg_catalog.format_type(a.atttypid, a.atttypmod),
        a.attlen = -1, a.attgenerated <> '',
        EXISTS (SELECT FROM pg_catalog.pg_index i
                WHERE i.indrelid = a.attrelid AND i.indisvalid AND i.indimmediate AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
                  AND CASE c.relreplident WHEN 'n' THEN false WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END)
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum";

/// Asks the catalog. `remembered` is the OID that a table of that name had when it was last published.
pub(super) async fn read(
    client: &Client,
    database: &Database,
    (schema, table): (&str, &str),
    remembered: Option<u32>,
) -> Result<Facts, Error> {
    let explain = |error| database.explain(error);
    // Before the catalog is read: what was committed by then is visible to the next statement, for
    // whoever changed the table afterwards had to wait until it was.
    let read_at = database.insert_lsn(client).await?;
    let remembered = remembered.unwrap_or_default();
    let row = client
        .query_opt(TABLE, &[&schema, &table, &remembered])
        .await
        .map_err(explain)?;
    let Some(row) = row else {
        return Ok(Facts {
            read_at,
            oid: remembered,
            identity: ReplicaIdentity::Default,
            ordinary: true,
            columns: Vec::new(),
            has_generated: false,
        });
    };
    let oid: u32 = row.get(0);
    let columns = client
        .query(COLUMNS, &[&oid])
        .await
        .map_err(explain)?
        .iter()
        .map(column)
        .collect::<Vec<_>>();
    Ok(Facts {
        read_at,
        oid,
        identity: match row.get(1) {
            "n" => ReplicaIdentity::Nothing,
            "f" => ReplicaIdentity::Full,
            "i" => ReplicaIdentity::Index,
            _ => ReplicaIdentity::Default,
        },
        ordinary: row.get(2),
        has_generated: columns.iter().any(|column| column.generated),
        columns,
    })
}

fn column(row: &Row) -> ColumnFacts {
    ColumnFacts {
        name: row.get(0),
        attnum: row.get(1),
        type_oid: row.get(2),
        type_modifier: row.get(3),
        type_name: row.get(4),
        toastable: row.get(5),
        generated: row.get(6),
        key: row.get(7),
    }
}
