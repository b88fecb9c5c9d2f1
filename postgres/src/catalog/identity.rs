//! What identifies a row in the WAL: the columns that every UPDATE and DELETE logs of the old row.

use std::collections::HashMap;

use tokio_postgres::Client;
use tributary_schemas::table::Column;

use super::table::{LeafState, TableHead};

/// A relation that holds rows of a partitioned table.
#[derive(Debug)]
pub(super) struct Leaf {
    /// The partitioned table.
    pub(super) table: u32,
    pub(super) oid: u32,
    pub(super) state: LeafState,
    /// [`CatalogTable::leaf_writers`](super::CatalogTable::leaf_writers)
    pub(super) writer: u32,
    /// `pg_class.relreplident`: that of the leaf counts for its rows, whatever the partitioned table says.
    pub(super) identity: String,
}

// A deferrable key identifies nothing at the time of a change, so Postgres does not use it either. Columns that an index
// only INCLUDEs are behind indnkeyatts.
const INDEXES: &str = "
    SELECT i.indrelid, i.indisprimary, i.indisreplident,
        (SELECT pg_catalog.array_agg(a.attname::text ORDER BY k.place)
         FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, place)
         JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
         WHERE k.place <= i.indnkeyatts)
    FROM pg_catalog.pg_index i
    WHERE i.indrelid = ANY($1) AND i.indisvalid AND i.indimmediate AND (i.indisprimary OR i.indisreplident)";

/// The keys of some tables, by table: column names in key order.
#[derive(Debug)]
pub(super) struct Identities {
    keys: HashMap<u32, Vec<String>>,
}

struct Index {
    table: u32,
    primary: bool,
    chosen: bool,
    columns: Vec<String>,
}

impl Identities {
    pub(super) async fn read(
        client: &Client,
        heads: &[TableHead],
        leaves: &[Leaf],
    ) -> Result<Self, tokio_postgres::Error> {
        let oids = heads.iter().map(|head| head.oid);
        let oids: Vec<u32> = oids.chain(leaves.iter().map(|leaf| leaf.oid)).collect();
        let rows = client.query(INDEXES, &[&oids]).await?;
        let indexes = rows.iter().map(|row| Index {
            table: row.get(0),
            primary: row.get(1),
            chosen: row.get(2),
            columns: row.get::<_, Option<_>>(3).unwrap_or_default(),
        });
        let indexes: Vec<Index> = indexes.collect();
        let heads = heads.iter().map(|head| (head.oid, head.identity.as_str()));
        Ok(Self::of(heads, leaves, &indexes))
    }

    fn of<'a>(
        heads: impl Iterator<Item = (u32, &'a str)>,
        leaves: &[Leaf],
        indexes: &[Index],
    ) -> Self {
        let key_of = |table: u32, identity: &str| {
            let index = indexes.iter().find(|index| {
                index.table == table
                    && match identity {
                        // With FULL the whole old row is logged; its key is still the primary one.
                        "d" | "f" => index.primary,
                        "i" => index.chosen,
                        _ => false,
                    }
            });
            index.map(|index| index.columns.clone())
        };
        let logs = |leaf: &Leaf, key: &[String]| {
            leaf.identity == "f"
                || key_of(leaf.oid, &leaf.identity)
                    .is_some_and(|logged| key.iter().all(|name| logged.contains(name)))
        };
        let keys = heads.filter_map(|(table, identity)| {
            let key = key_of(table, identity)?;
            let mut own = leaves.iter().filter(|leaf| leaf.table == table);
            own.all(|leaf| logs(leaf, &key)).then_some((table, key))
        });
        Self {
            keys: keys.collect(),
        }
    }

    /// Marks the columns of a table's key. None of them, if one is not on the wire: a generated column, say.
    pub(super) fn mark_key(&self, table: u32, columns: &mut [Column]) {
        let key = self.keys.get(&table).map(Vec::as_slice).unwrap_or_default();
        if !key
            .iter()
            .all(|name| columns.iter().any(|column| column.name == *name))
        {
            return;
        }
        for column in columns {
            let place = key.iter().position(|name| *name == column.name);
            column.key_position = place.and_then(|place| u16::try_from(place).ok());
        }
    }
}

#[cfg(test)]
mod tests {
    use tributary_schemas::table::{Column, ColumnType};

    use super::{Identities, Index, Leaf};
    use crate::catalog::LeafState;

    fn index(table: u32, primary: bool, columns: &[&str]) -> Index {
        Index {
            table,
            primary,
            chosen: !primary,
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn key(identities: &Identities, table: u32) -> Option<Vec<&str>> {
        let key = identities.keys.get(&table)?;
        Some(key.iter().map(String::as_str).collect())
    }

    #[test]
    fn the_identity_chooses_the_index() {
        let indexes = [index(1, true, &["a", "b"]), index(1, false, &["c"])];
        for (identity, wanted) in [
            ("d", Some(vec!["a", "b"])),
            ("f", Some(vec!["a", "b"])),
            ("i", Some(vec!["c"])),
            ("n", None),
        ] {
            let identities = Identities::of([(1, identity)].into_iter(), &[], &indexes);
            assert_eq!(key(&identities, 1), wanted, "{identity}");
        }
    }

    #[test]
    fn every_leaf_must_log_the_key() {
        let leaf = |oid, identity: &str| Leaf {
            table: 1,
            oid,
            state: LeafState::default(),
            writer: 0,
            identity: identity.to_owned(),
        };
        let indexes = [
            index(1, true, &["a"]),
            index(2, true, &["a"]),
            index(3, false, &["b", "a"]),
            index(4, false, &["b"]),
        ];
        for (leaves, has_key) in [
            (vec![leaf(2, "d"), leaf(3, "i"), leaf(5, "f")], true),
            (vec![leaf(2, "d"), leaf(4, "i")], false),
            (vec![leaf(2, "n")], false),
            (vec![], true),
        ] {
            let identities = Identities::of([(1, "d")].into_iter(), &leaves, &indexes);
            assert_eq!(key(&identities, 1).is_some(), has_key, "{leaves:?}");
        }
    }

    #[test]
    fn a_key_that_is_not_on_the_wire_is_none() {
        let column = |name: &str| Column {
            name: name.to_owned(),
            attnum: 1,
            column_type: ColumnType::Int4,
            key_position: None,
        };
        let identities =
            Identities::of([(1, "d")].into_iter(), &[], &[index(1, true, &["a", "b"])]);
        let mut columns = [column("b"), column("c"), column("a")];
        identities.mark_key(1, &mut columns);
        assert_eq!(columns.map(|c| c.key_position), [Some(1), None, Some(0)]);
        let mut columns = [column("b"), column("c")];
        identities.mark_key(1, &mut columns);
        assert_eq!(columns.map(|c| c.key_position), [None, None]);
    }
}
