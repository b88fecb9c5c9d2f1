//! The relations that hold a table's rows: itself, or the leaves of a partitioned one.

use tokio_postgres::GenericClient;

use crate::log::progress::RelationRanges;
use tributary_postgres::database::qualified;

/// A relation as it is now.
#[derive(Debug)]
pub(crate) struct Relation {
    /// Its name, quoted.
    pub(crate) name: String,
    /// All of it, unread.
    pub(crate) ranges: RelationRanges,
}

const RELATIONS: &str = "
    SELECT c.oid, n.nspname, c.relname, pg_catalog.pg_relation_filenode(c.oid),
        pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::bigint
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND (c.oid = $1
        OR c.oid IN (SELECT relid FROM pg_catalog.pg_partition_tree($1) WHERE isleaf))
    ORDER BY c.oid";

/// The relations of a table; none if it is gone.
pub(crate) async fn relations(
    client: &impl GenericClient,
    table: u32,
) -> Result<Vec<Relation>, tokio_postgres::Error> {
    let rows = client.query(RELATIONS, &[&table]).await?;
    let relations = rows.iter().map(|row| {
        let pages = u32::try_from(row.get::<_, Option<i64>>(4).unwrap_or(0)).unwrap_or(u32::MAX);
        let filenode = row.get::<_, Option<u32>>(3).unwrap_or(0);
        Relation {
            name: qualified(row.get(1), row.get(2)),
            ranges: RelationRanges::unread(row.get(0), filenode, pages),
        }
    });
    Ok(relations.collect())
}
