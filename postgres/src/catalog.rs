//! What Postgres' catalog says of the tables: the facts that Relation messages lack (keys, labels, domains).

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use tributary_runtime::Error;
use tributary_schemas::table::{Column, ColumnType, Table};

use crate::database::Database;

mod identity;
mod pattern;
mod pgtype;
mod selection;

use identity::{Identities, Leaf};
pub use pattern::TablePattern;
use pgtype::TypeCatalog;
pub use selection::{PartitionTopics, Selection, TopicNames, Unusable, Wanted};

/// A table together with what the source must know to publish it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogTable {
    /// Its columns on the wire. Those of the key have a place in it only if the identity of every row is
    /// logged: see [`CatalogTable::is_keyless`].
    pub table: Table,
    /// Replica identity FULL: updates and deletes carry the whole old row.
    pub full_identity: bool,
    /// A partitioned table, published under its own name.
    pub partitioned: bool,
    /// Of a partitioned table: the relations that hold its rows. Empty for any other.
    pub leaves: BTreeMap<u32, LeafState>,
}

/// What tells a partition that stayed from one that was rewritten, or was taken out and put back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeafState {
    /// `pg_relation_filenode`
    filenode: u32,
    /// The transactions that attached it, and the partitions above it (`pg_inherits.xmin`).
    attached: String,
}

impl CatalogTable {
    /// Whether its rows cannot be told apart: they are only ever appended, and Postgres would refuse the
    /// application's UPDATE and DELETE in a publication of these.
    pub fn is_keyless(&self) -> bool {
        self.table
            .columns
            .iter()
            .all(|column| column.key_position.is_none())
    }

    /// `schema.table`, for messages.
    pub fn display_name(&self) -> String {
        format!("{}.{}", self.table.schema, self.table.name)
    }

    /// The names of the key's columns, in key order.
    pub fn key(&self) -> Vec<String> {
        let columns = &self.table.columns;
        let key = self.table.key_columns().into_iter();
        key.map(|index| columns[index].name.clone()).collect()
    }
}

const COLUMNS: &str = "
    SELECT attrelid, attname, attnum, atttypid, atttypmod, attndims::int4
    FROM pg_catalog.pg_attribute
    WHERE attrelid = ANY($1) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
    ORDER BY attrelid, attnum";

const LEAVES: &str = "
    SELECT root.oid, leaf.oid, pg_catalog.pg_relation_filenode(leaf.oid), leaf.relreplident::text,
        (SELECT pg_catalog.string_agg(link.xmin::text, ' ' ORDER BY link.inhrelid)
         FROM pg_catalog.pg_partition_ancestors(leaf.oid) above(oid) JOIN pg_catalog.pg_inherits link ON link.inhrelid = above.oid)
    FROM pg_catalog.unnest($1::oid[]) root(oid), pg_catalog.pg_partition_tree(root.oid) tree, pg_catalog.pg_class leaf
    WHERE tree.isleaf AND leaf.oid = tree.relid AND leaf.relkind = 'r'";

/// Reads the catalog through one connection.
pub struct Catalog<'a> {
    client: &'a Client,
    database: &'a Database,
    types: TypeCatalog,
}

/// A table before its columns are read.
struct TableHead {
    oid: u32,
    schema: String,
    name: String,
    partitioned: bool,
    identity: String,
}

impl<'a> Catalog<'a> {
    /// The catalog of the database that this connection leads to.
    pub fn new(client: &'a Client, database: &'a Database) -> Self {
        Self {
            client,
            database,
            types: TypeCatalog::default(),
        }
    }

    /// One table by its OID; `None` if it is gone.
    pub async fn table(&mut self, oid: u32) -> Result<Option<CatalogTable>, Error> {
        let query = "SELECT n.nspname, c.relname, c.relkind = 'p', c.relreplident::text FROM pg_catalog.pg_class c
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
            partitioned: row.get(2),
            identity: row.get(3),
        };
        Ok(self.complete(vec![head]).await?.pop())
    }

    /// Resolves types that a Relation message names and the catalog's columns do not have any more. Of an array's
    /// dimensions the message says nothing.
    pub async fn column_type(
        &mut self,
        oid: u32,
        typmod: i32,
        dimensions: usize,
    ) -> Result<ColumnType, Error> {
        self.types
            .load(self.client, &[oid])
            .await
            .map_err(|e| self.database.explain(e))?;
        Ok(self.types.resolve(oid, typmod, dimensions))
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
        let leaves = self.leaves(&heads).await?;
        let identities = Identities::read(self.client, &heads, &leaves)
            .await
            .map_err(|e| self.database.explain(e))?;
        let mut by_table: HashMap<u32, Vec<Column>> = HashMap::new();
        for row in &columns {
            let (oid, attnum): (u32, i16) = (row.get(0), row.get(2));
            by_table.entry(oid).or_default().push(Column {
                name: row.get(1),
                attnum,
                column_type: self.types.resolve(
                    row.get(3),
                    row.get(4),
                    pgtype::dimensions(row.get(5)),
                ),
                key_position: None,
            });
        }
        let tables = heads.into_iter().map(|head| {
            let mut columns = by_table.remove(&head.oid).unwrap_or_default();
            identities.mark_key(head.oid, &mut columns);
            let own = leaves.iter().filter(|leaf| leaf.table == head.oid);
            CatalogTable {
                full_identity: head.identity == "f",
                partitioned: head.partitioned,
                leaves: own.map(|leaf| (leaf.oid, leaf.state.clone())).collect(),
                table: Table {
                    columns,
                    oid: head.oid,
                    schema: head.schema,
                    name: head.name,
                },
            }
        });
        Ok(tables.collect())
    }

    /// The relations that hold the rows of the partitioned ones of these tables.
    async fn leaves(&self, heads: &[TableHead]) -> Result<Vec<Leaf>, Error> {
        let roots = heads.iter().filter(|head| head.partitioned);
        let roots: Vec<u32> = roots.map(|head| head.oid).collect();
        if roots.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self
            .client
            .query(LEAVES, &[&roots])
            .await
            .map_err(|e| self.database.explain(e))?;
        let leaves = rows.iter().map(|row| Leaf {
            table: row.get(0),
            oid: row.get(1),
            identity: row.get(3),
            state: LeafState {
                filenode: row.get::<_, Option<u32>>(2).unwrap_or(0),
                attached: row.get::<_, Option<String>>(4).unwrap_or_default(),
            },
        });
        Ok(leaves.collect())
    }
}
