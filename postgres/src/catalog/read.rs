//! Reads tables by their OIDs.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tokio_postgres::Client;
use tributary_runtime::Error;
use tributary_schemas::table::{Column, ColumnType, Table};

use super::identity::{Identities, Leaf};
use super::known_types::KnownTypes;
use super::pgtype::{self, TypeCatalog};
use super::storage::Storage;
use super::table::{CatalogTable, LeafState, TableHead};
use crate::database::Database;

// One statement, and so one moment: a rewrite is told by its columns and its file together.
const COLUMNS: &str = "
    SELECT a.attrelid, a.attname, a.attnum, a.atttypid, a.atttypmod, a.attndims::int4, a.atthasmissing, a.xmin::text,
        a.attgenerated <> '', c.relfilenode, c.reltoastrelid
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
    WHERE a.attrelid = ANY($1) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attrelid, a.attnum";

// Whether the partitioned table itself says so depends on the version.
const DEFAULTED: &str = "
    SELECT attrelid, attname::text FROM pg_catalog.pg_attribute
    WHERE attrelid = ANY($1) AND atthasmissing AND NOT attisdropped";

// The ancestors of each leaf are looked up one by one: a join with them would be planned for a thousand. Not with
// `pg_partition_tree`, which locks every partition: the server's table of locks is no larger than for some thousand.
const LEAVES: &str = "
    WITH RECURSIVE tree(root, relation) AS (
        SELECT oid, oid FROM pg_catalog.unnest($1::pg_catalog.oid[]) root(oid)
        UNION ALL
        SELECT tree.root, link.inhrelid FROM tree
        JOIN pg_catalog.pg_inherits link ON link.inhparent = tree.relation AND NOT link.inhdetachpending)
    SELECT tree.root, leaf.oid, pg_catalog.pg_relation_filenode(leaf.oid), leaf.relreplident::text,
        (SELECT pg_catalog.string_agg(
            (SELECT pg_catalog.min(link.xmin::text) FROM pg_catalog.pg_inherits link WHERE link.inhrelid = above.oid),
            ' ' ORDER BY above.oid)
         FROM pg_catalog.pg_partition_ancestors(leaf.oid) above(oid)),
        leaf.xmin::text::bigint
    FROM tree JOIN pg_catalog.pg_class leaf ON leaf.oid = tree.relation AND leaf.relkind = 'r'";

/// What the catalog says of a table's columns.
#[derive(Default)]
struct Described {
    columns: Vec<Column>,
    storage: Storage,
    defaulted: BTreeSet<i16>,
}

/// Reads the catalog through one connection.
pub struct Catalog<'a> {
    pub(super) client: &'a Client,
    pub(super) database: &'a Database,
    types: TypeCatalog,
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

    /// Takes types that a table had once for those that the catalog does not have any more.
    pub fn remember(&mut self, types: &KnownTypes) {
        self.types.remember(&types.0);
    }

    /// What is to be remembered of these types, which were resolved.
    pub fn known_types(&self, oids: &[u32]) -> KnownTypes {
        KnownTypes(self.types.droppable(oids))
    }

    /// Of a type that was resolved, the type itself or a part of it that is gone, and that nothing is remembered of: it was
    /// taken as text.
    pub fn unknown(&self, oid: u32) -> Option<u32> {
        self.types.unknown(oid)
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

    pub(super) async fn complete(
        &mut self,
        heads: Vec<TableHead>,
    ) -> Result<Vec<CatalogTable>, Error> {
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
        let in_leaves = self.defaulted(&leaves).await?;
        let mut described = self.describe(&columns, &in_leaves);
        let tables = heads.into_iter().map(|head| {
            let Described {
                mut columns,
                storage,
                defaulted,
            } = described.remove(&head.oid).unwrap_or_default();
            identities.mark_key(head.oid, &mut columns);
            let own = || leaves.iter().filter(|leaf| leaf.table == head.oid);
            CatalogTable {
                leaf_writers: own().map(|leaf| (leaf.oid, leaf.writer)).collect(),
                storage,
                defaulted,
                full_identity: head.identity == "f",
                partitioned: head.partitioned,
                leaves: own().map(|leaf| (leaf.oid, leaf.state.clone())).collect(),
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

    /// What the rows of [`COLUMNS`] say, by table.
    fn describe(
        &self,
        rows: &[tokio_postgres::Row],
        in_leaves: &HashMap<u32, BTreeSet<String>>,
    ) -> HashMap<u32, Described> {
        let mut tables: HashMap<u32, Described> = HashMap::new();
        for row in rows {
            let (oid, attnum): (u32, i16) = (row.get(0), row.get(2));
            let table = tables.entry(oid).or_default();
            table.storage.filenode = row.get(9);
            table.storage.toast = row.get(10);
            let is_generated: bool = row.get(8);
            if is_generated {
                table.storage.generated.insert(attnum);
                continue;
            }
            let column_type =
                self.types
                    .resolve(row.get(3), row.get(4), pgtype::dimensions(row.get(5)));
            let column = Column {
                name: row.get(1),
                attnum,
                column_type,
                key_position: None,
            };
            let mut missing: bool = row.get(6);
            missing |= in_leaves
                .get(&oid)
                .is_some_and(|names| names.contains(&column.name));
            if missing {
                table.defaulted.insert(attnum);
            }
            table.storage.add(&column, row.get(7));
            table.storage.types.add(&self.known_types(&[row.get(3)]));
            table.columns.push(column);
        }
        tables
    }

    /// By partitioned table the names of the columns whose values rows of some partition have from the catalog.
    async fn defaulted(&self, leaves: &[Leaf]) -> Result<HashMap<u32, BTreeSet<String>>, Error> {
        let tables: BTreeMap<u32, u32> = leaves.iter().map(|leaf| (leaf.oid, leaf.table)).collect();
        let mut defaulted: HashMap<u32, BTreeSet<String>> = HashMap::new();
        if tables.is_empty() {
            return Ok(defaulted);
        }
        let oids: Vec<u32> = tables.keys().copied().collect();
        let rows = self
            .client
            .query(DEFAULTED, &[&oids])
            .await
            .map_err(|e| self.database.explain(e))?;
        for row in &rows {
            if let Some(table) = tables.get(&row.get(0)) {
                defaulted.entry(*table).or_default().insert(row.get(1));
            }
        }
        Ok(defaulted)
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
            writer: u32::try_from(row.get::<_, i64>(5)).unwrap_or_default(),
            state: LeafState {
                filenode: row.get::<_, Option<u32>>(2).unwrap_or(0),
                attached: row.get::<_, Option<String>>(4).unwrap_or_default(),
            },
        });
        Ok(leaves.collect())
    }
}
