//! The relations that hold a table's rows: itself, or the leaves of a partitioned one.

use std::collections::HashMap;

use tokio_postgres::GenericClient;

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

// For all tables at once: a look at the catalog for each would cost as much as there are tables, squared.
const RELATIONS: &str = "
    SELECT t.oid, c.oid, n.nspname, c.relname, pg_catalog.pg_relation_filenode(c.oid),
        pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::bigint
    FROM pg_catalog.pg_class t
    CROSS JOIN LATERAL (SELECT t.oid WHERE t.relkind = 'r'
        UNION ALL SELECT tree.relid FROM pg_catalog.pg_partition_tree(t.oid) tree WHERE t.relkind = 'p' AND tree.isleaf) leaf(oid)
    JOIN pg_catalog.pg_class c ON c.oid = leaf.oid AND c.relkind = 'r'
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE t.oid = ANY($1)
    ORDER BY c.oid";

/// The relations of a table; none if it is gone.
pub(crate) async fn relations(
    client: &impl GenericClient,
    table: u32,
) -> Result<Vec<Relation>, tokio_postgres::Error> {
    let all = relations_of(client, &[table]).await?;
    Ok(all.into_values().flatten().collect())
}

/// The relations of each of these tables, by table; those that are gone are not in it.
pub(super) async fn relations_of(
    client: &impl GenericClient,
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
