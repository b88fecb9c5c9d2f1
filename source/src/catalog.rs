//! What Postgres' catalog says of the tables: the facts that Relation messages lack (keys, labels, domains).

use std::collections::HashMap;

use tokio_postgres::{Client, GenericClient};
use tributary_runtime::Error;
use tributary_schemas::table::{Column, ColumnType, Table};

use crate::config::TablePattern;
use crate::database::Database;

mod pgtype;

pub(crate) use pgtype::TypeCatalog;

/// A table together with what the source must know to publish it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CatalogTable {
    pub(crate) table: Table,
    /// Replica identity FULL: updates and deletes carry the whole old row.
    pub(crate) full_identity: bool,
    /// A partitioned table, published under its own name (`publish_via_partition_root`).
    pub(crate) partitioned: bool,
}

impl CatalogTable {
    /// Whether its rows cannot be told apart: they are only ever appended.
    pub(crate) fn is_keyless(&self) -> bool {
        self.table
            .columns
            .iter()
            .all(|column| column.key_position.is_none())
    }
}

const TABLES: &str = "
    SELECT c.oid, n.nspname, c.relname, c.relkind::text, c.relreplident::text, c.relpersistence::text
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
      AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
    ORDER BY n.nspname, c.relname";

const COLUMNS: &str = "
    SELECT attrelid, attname, attnum, atttypid, atttypmod
    FROM pg_catalog.pg_attribute
    WHERE attrelid = ANY($1) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
    ORDER BY attrelid, attnum";

// A deferrable key identifies nothing at the time of a change, so Postgres does not use it either.
const KEYS: &str = "
    SELECT indrelid, indisprimary, indisreplident, indkey::int2[]
    FROM pg_catalog.pg_index
    WHERE indrelid = ANY($1) AND indisvalid AND indimmediate AND (indisprimary OR indisreplident)";

/// Reads the catalog through one connection.
pub(crate) struct Catalog<'a> {
    client: &'a Client,
    database: &'a Database,
    types: TypeCatalog,
}

struct TableHead {
    oid: u32,
    schema: String,
    name: String,
    kind: String,
    identity: String,
}

impl<'a> Catalog<'a> {
    pub(crate) fn new(client: &'a Client, database: &'a Database) -> Self {
        Self {
            client,
            database,
            types: TypeCatalog::default(),
        }
    }

    /// The tables that the patterns select, in name order.
    ///
    /// # Errors
    /// A pattern that selects nothing, a table that cannot be published, or a failed query.
    pub(crate) async fn select(&mut self, patterns: &[String]) -> Result<Vec<CatalogTable>, Error> {
        let patterns: Vec<_> = patterns
            .iter()
            .filter_map(|text| TablePattern::parse(text))
            .collect();
        let rows = self
            .client
            .query(TABLES, &[])
            .await
            .map_err(|e| self.database.explain(e))?;
        let mut heads = Vec::new();
        let mut used = vec![false; patterns.len()];
        for row in &rows {
            let (schema, name): (&str, &str) = (row.get(1), row.get(2));
            let hits = patterns
                .iter()
                .enumerate()
                .filter(|(_, pattern)| pattern.matches(schema, name));
            let hits: Vec<_> = hits
                .map(|(index, pattern)| (index, pattern.is_exact()))
                .collect();
            if hits.is_empty() {
                continue;
            }
            for (index, _) in &hits {
                used[*index] = true;
            }
            if row.get::<_, &str>(5) != "p" {
                // An unlogged or temporary table has no WAL.
                if hits.iter().any(|(_, exact)| *exact) {
                    return Err(Error::stop_msg(format!(
                        "table {schema}.{name} is unlogged: its changes are not in the WAL"
                    ))
                    .remedy(format!(
                        "ALTER TABLE {schema}.{name} SET LOGGED, or take it out of postgres.tables"
                    )));
                }
                continue;
            }
            heads.push(TableHead {
                oid: row.get(0),
                schema: schema.to_owned(),
                name: name.to_owned(),
                kind: row.get(3),
                identity: row.get(4),
            });
        }
        if let Some(index) = used.iter().position(|used| !used) {
            let pattern = &patterns[index];
            return Err(Error::stop_msg(format!(
                "no table of {} matches {pattern:?}",
                self.database.address()
            ))
            .remedy("correct postgres.tables, or create the table first"));
        }
        self.complete(heads).await
    }

    /// One table by its OID; `None` if it is gone.
    pub(crate) async fn table(&mut self, oid: u32) -> Result<Option<CatalogTable>, Error> {
        let query = "SELECT n.nspname, c.relname, c.relkind::text, c.relreplident::text FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1";
        let row = self
            .client
            .query_opt(query, &[&oid])
            .await
            .map_err(|e| self.database.explain(e))?;
        let Some(row) = row else { return Ok(None) };
        let head = TableHead {
            oid,
            schema: row.get(0),
            name: row.get(1),
            kind: row.get(2),
            identity: row.get(3),
        };
        Ok(self.complete(vec![head]).await?.pop())
    }

    /// Resolves types that a Relation message names and the catalog's columns do not have any more.
    pub(crate) async fn column_type(&mut self, oid: u32, typmod: i32) -> Result<ColumnType, Error> {
        self.types
            .load(self.client, &[oid])
            .await
            .map_err(|e| self.database.explain(e))?;
        Ok(self.types.resolve(oid, typmod))
    }

    async fn complete(&mut self, heads: Vec<TableHead>) -> Result<Vec<CatalogTable>, Error> {
        let oids: Vec<u32> = heads.iter().map(|head| head.oid).collect();
        let columns = self
            .client
            .query(COLUMNS, &[&oids])
            .await
            .map_err(|e| self.database.explain(e))?;
        let types: Vec<u32> = columns.iter().map(|row| row.get(3)).collect();
        self.types
            .load(self.client, &types)
            .await
            .map_err(|e| self.database.explain(e))?;
        let keys = self.keys(&oids, &heads).await?;
        let mut by_table: HashMap<u32, Vec<Column>> = HashMap::new();
        for row in &columns {
            let (oid, attnum): (u32, i16) = (row.get(0), row.get(2));
            let key_position = keys
                .get(&oid)
                .and_then(|key| key.iter().position(|number| *number == attnum));
            by_table.entry(oid).or_default().push(Column {
                name: row.get(1),
                attnum,
                column_type: self.types.resolve(row.get(3), row.get(4)),
                key_position: key_position.and_then(|position| u16::try_from(position).ok()),
            });
        }
        let tables = heads.into_iter().map(|head| CatalogTable {
            full_identity: head.identity == "f",
            partitioned: head.kind == "p",
            table: Table {
                columns: by_table.remove(&head.oid).unwrap_or_default(),
                oid: head.oid,
                schema: head.schema,
                name: head.name,
            },
        });
        Ok(tables.collect())
    }

    /// Per table the attribute numbers of its key: what identifies the old row of an update or delete.
    async fn keys(
        &self,
        oids: &[u32],
        heads: &[TableHead],
    ) -> Result<HashMap<u32, Vec<i16>>, Error> {
        let rows = self
            .client
            .query(KEYS, &[&oids])
            .await
            .map_err(|e| self.database.explain(e))?;
        let mut keys = HashMap::new();
        for head in heads {
            let chosen = rows.iter().find(|row| {
                row.get::<_, u32>(0) == head.oid
                    && match head.identity.as_str() {
                        "d" | "f" => row.get(1),
                        "i" => row.get(2),
                        _ => false,
                    }
            });
            if let Some(row) = chosen {
                keys.insert(head.oid, row.get::<_, Vec<i16>>(3));
            }
        }
        Ok(keys)
    }
}

/// The server's own facts that decide whether a source can run.
#[derive(Debug)]
pub(crate) struct ServerFacts {
    pub(crate) version_num: i32,
    pub(crate) wal_level: String,
    pub(crate) may_replicate: bool,
    pub(crate) in_recovery: bool,
}

/// Reads [`ServerFacts`].
pub(crate) async fn server_facts(
    client: &impl GenericClient,
) -> Result<ServerFacts, tokio_postgres::Error> {
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::int, current_setting('wal_level'),
                (SELECT rolreplication OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user),
                pg_catalog.pg_is_in_recovery()",
            &[],
        )
        .await?;
    Ok(ServerFacts {
        version_num: row.get(0),
        wal_level: row.get(1),
        may_replicate: row.get(2),
        in_recovery: row.get(3),
    })
}
