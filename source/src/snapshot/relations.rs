//! The relations that hold a table's rows: itself, or the leaves of a partitioned one.

use std::collections::HashMap;

use tokio_postgres::Client;

use crate::log::progress::RelationRanges;
use tributary_postgres::quote::qualified;

/// A relation as it is now.
#[derive(Debug, Clone)]
pub(crate) struct Relation {
    /// Its name, quoted.
    pub(crate) name: String,
    /// All of it, unread.
    pub(crate) ranges: RelationRanges,
}

// For all tables at once: a look at the catalog for each would cost as much as there are tables, squared. The size is the
// one thing that takes a lock, which ends with the function; `pg_partition_tree` would keep one on each partition to
// the transaction's end.
const RELATIONS: &str = "
    WITH RECURSIVE tree(root, relation) AS (
        SELECT oid, oid FROM pg_catalog.unnest($1::pg_catalog.oid[]) wanted(oid)
        UNION ALL
        SELECT tree.root, link.inhrelid FROM tree
        JOIN pg_catalog.pg_class above ON above.oid = tree.relation AND above.relkind = 'p'
        JOIN pg_catalog.pg_inherits link ON link.inhparent = tree.relation AND NOT link.inhdetachpending)
    SELECT tree.root, c.oid, n.nspname, c.relname, pg_catalog.pg_relation_filenode(c.oid),
        pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::bigint
    FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.relation AND c.relkind = 'r'
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    ORDER BY c.oid";

/// The relations of a table; none if it is gone.
pub(crate) async fn relations(
    client: &Client,
    table: u32,
) -> Result<Vec<Relation>, tokio_postgres::Error> {
    let all = relations_of(client, &[table]).await?;
    Ok(all.into_values().flatten().collect())
}

/// The relations of each of these tables, by table; those that are gone are not in it.
pub(super) async fn relations_of(
    client: &Client,
    tables: &[u32],
) -> Result<HashMap<u32, Vec<Relation>>, tokio_postgres::Error> {
    let rows = client.query(RELATIONS, &[&tables]).await?;
    let mut relations: HashMap<u32, Vec<Relation>> = HashMap::new();
    for row in &rows {
        let pages = u32::try_from(row.get::<_, Option<i64>>(5).unwrap_or(0)).unwrap_or(u32::MAX);
        let filenode = row.get::<_, Option<u32>>(4).unwrap_or(0);
        relations.entry(row.get(0)).or_default().push(Relation {
            name: qualified(row.get(2), row.get(3)),
            ranges: RelationRanges::unread(row.get(1), filenode, pages),
        });
    }
    Ok(relations)
}
