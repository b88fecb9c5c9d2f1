//! The statement that looks rows up by their keys.

use std::collections::HashMap;
use std::pin::pin;

use futures::TryStreamExt;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};
use tributary_runtime::Error;

use super::incomplete::{Found, Incomplete, Key};
use crate::log::outbox::MAX_BYTES;
use tributary_postgres::database::Database;
use tributary_postgres::quote::{identifier, literal, qualified};

/// What is kept of the rows that one statement brings: their sizes were estimated before they came.
const MAX_READ_BYTES: usize = 4 * MAX_BYTES;

/// The table as it is now: it may have been renamed since the change, and columns dropped.
pub(super) struct Target {
    relation: String,
    /// As the snapshot has them: its name, quoted, and its OID.
    identity: (String, u32),
    /// Key columns first, then the missing ones: index in our table, and the name now.
    key: Vec<(usize, String)>,
    missing: Vec<(usize, String)>,
    /// The bytes of the missing columns as text, estimated without reading them.
    size: String,
    /// How the key's columns are compared, where that has to be said: an operator is looked for in `pg_catalog` alone, and
    /// a record is compared with no literal but of its own type.
    comparisons: Option<Vec<Comparison>>,
}

/// How a column is compared with a literal.
struct Comparison {
    /// Qualified.
    operator: String,
    /// The column's type, qualified.
    type_name: String,
}

const COLUMNS: &str = "
    SELECT n.nspname, c.relname, c.relkind, a.attnum, a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),
        coalesce((SELECT pg_catalog.format('OPERATOR(%I.=)', s.nspname) FROM pg_catalog.pg_operator o
                JOIN pg_catalog.pg_namespace s ON s.oid = o.oprnamespace
                WHERE o.oprname = '=' AND o.oprleft = o.oprright AND s.nspname <> 'pg_catalog'
                  AND o.oprleft IN (t.oid, t.typbasetype) LIMIT 1),
            (SELECT '=' FROM pg_catalog.pg_type r WHERE r.typtype = 'c' AND r.oid IN (t.oid, t.typbasetype) LIMIT 1)),
        CASE WHEN CASE t.typbasetype WHEN 0 THEN t.oid ELSE t.typbasetype END IN (
                'pg_catalog.text'::pg_catalog.regtype, 'pg_catalog.varchar'::pg_catalog.regtype,
                'pg_catalog.bpchar'::pg_catalog.regtype, 'pg_catalog.bytea'::pg_catalog.regtype)
            THEN 'pg_catalog.octet_length' ELSE '4 * pg_catalog.pg_column_size' END
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    WHERE c.oid = ";

impl Target {
    /// `None` if the table or a column of its key is gone.
    pub(super) async fn resolve(
        database: &Database,
        client: &Client,
        rows: &[&Incomplete],
    ) -> Result<Option<Self>, Error> {
        let table = &rows[0].table;
        let sql = format!("{COLUMNS}{}", table.table.oid);
        let columns = query(client, &sql).await;
        let columns = columns.map_err(|e| database.explain(e))?;
        let Some(first) = columns.first() else {
            return Ok(None);
        };
        // A partitioned table has no rows of its own; any other must not show its children's.
        let only = if first.get(2) == Some("p") {
            ""
        } else {
            "ONLY "
        };
        let name = qualified(
            first.get(0).unwrap_or_default(),
            first.get(1).unwrap_or_default(),
        );
        let relation = format!("{only}{name}");
        let by_number: HashMap<&str, &SimpleQueryRow> = columns
            .iter()
            .filter_map(|row| Some((row.get(3)?, row)))
            .collect();
        let now = |index: usize| {
            let number = table.table.columns[index].attnum.to_string();
            by_number.get(number.as_str()).copied()
        };
        let name_now = |index: usize| Some((index, now(index)?.get(4)?.to_owned()));
        let Some(key) = table
            .key_columns
            .iter()
            .map(|&index| name_now(index))
            .collect()
        else {
            return Ok(None);
        };
        let mut missing: Vec<usize> = rows
            .iter()
            .flat_map(|row| row.unchanged.iter().copied())
            .collect();
        missing.sort_unstable();
        missing.dedup();
        let key_columns = table.key_columns.iter().filter_map(|&index| now(index));
        let is_to_be_said = key_columns.clone().any(|row| row.get(6).is_some());
        let comparison = |row: &SimpleQueryRow| Comparison {
            operator: row.get(6).unwrap_or("=").to_owned(),
            type_name: row.get(5).unwrap_or_default().to_owned(),
        };
        let missing: Vec<_> = missing.into_iter().filter_map(name_now).collect();
        let sizes = missing.iter().map(|(index, name)| {
            let measure = now(*index).and_then(|row| row.get(7)).unwrap_or_default();
            format!(" + coalesce({measure}({})::int8, 0)", identifier(name))
        });
        Ok(Some(Self {
            relation,
            identity: (name, table.table.oid),
            key,
            comparisons: is_to_be_said.then(|| key_columns.map(comparison).collect()),
            size: format!("0{}", sizes.collect::<String>()),
            missing,
        }))
    }

    /// The rows that are there, by their keys. Of those larger than `share`, and of those behind which more would come
    /// than is to be held, the size only.
    pub(super) async fn read(
        &self,
        client: &Client,
        rows: &[&Incomplete],
        share: Option<usize>,
    ) -> Result<HashMap<Key, Found>, tokio_postgres::Error> {
        let mut found = HashMap::new();
        let mut kept = 0;
        // As they come: the server sends no faster than they are taken.
        let mut messages = pin!(
            client
                .simple_query_raw(&self.statement(rows, share))
                .await?
        );
        while let Some(message) = messages.try_next().await? {
            let SimpleQueryMessage::Row(row) = message else {
                continue;
            };
            let own = |index: usize| row.get(2 + index).map(|text| Box::from(text.as_bytes()));
            let size = row.get(1).and_then(|size| size.parse().ok());
            let missing = self.key.len()..self.key.len() + self.missing.len();
            let bytes = missing
                .clone()
                .filter_map(|at| row.get(2 + at))
                .map(str::len)
                .sum();
            let is_whole = share.zip(size).is_none_or(|(share, size)| size <= share);
            let is_kept = is_whole && (kept == 0 || kept + bytes <= MAX_READ_BYTES);
            if is_kept {
                kept += bytes;
            }
            let columns = missing.zip(&self.missing);
            let one = Found {
                xmin: row.get(0).and_then(|xmin| xmin.parse().ok()),
                columns: is_kept
                    .then(|| columns.map(|(at, (index, _))| (*index, own(at))).collect()),
                bytes: if is_whole {
                    bytes
                } else {
                    size.unwrap_or_default()
                },
            };
            found.insert((0..self.key.len()).map(own).collect(), one);
        }
        Ok(found)
    }

    /// Whether what was read, or not found, is what the snapshot has: the name was still this table's, and no file had been
    /// replaced. In the reading's transaction, whose locks keep that so.
    pub(super) async fn was_unchanged(
        &self,
        client: &Client,
    ) -> Result<bool, tokio_postgres::Error> {
        let (name, oid) = &self.identity;
        // The catalog's rows are the snapshot's; what the functions say holds now.
        let proof = format!(
            "WITH RECURSIVE tree(relation) AS (
                SELECT {oid}::pg_catalog.oid
                UNION ALL
                SELECT link.inhrelid FROM tree
                JOIN pg_catalog.pg_class above ON above.oid = tree.relation AND above.relkind = 'p'
                JOIN pg_catalog.pg_inherits link ON link.inhparent = tree.relation)
            SELECT 1 WHERE pg_catalog.to_regclass({})::pg_catalog.oid = {oid} AND NOT EXISTS (
                SELECT FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.relation AND c.relkind = 'r'
                WHERE c.relfilenode IS DISTINCT FROM pg_catalog.pg_relation_filenode(c.oid))",
            literal(name)
        );
        Ok(!query(client, &proof).await?.is_empty())
    }

    fn statement(&self, rows: &[&Incomplete], share: Option<usize>) -> String {
        let mut keys: Vec<Key> = rows.iter().map(|row| row.key()).collect();
        keys.sort_unstable();
        keys.dedup();
        let key_names: Vec<String> = self.key.iter().map(|(_, name)| identifier(name)).collect();
        let key_names = key_names.join(", ");
        let condition = match &self.comparisons {
            None => {
                let keys: Vec<String> = keys.iter().map(key_literal).collect();
                format!("({key_names}) IN ({})", keys.join(", "))
            }
            Some(comparisons) => {
                let keys = keys.iter().map(|key| self.is_key(comparisons, key));
                keys.collect::<Vec<_>>().join(" OR ")
            }
        };
        let missing = self.missing.iter().map(|(_, name)| match share {
            None => format!(", {}", identifier(name)),
            Some(share) => format!(
                ", CASE WHEN {} <= {share} THEN {} END",
                self.size,
                identifier(name)
            ),
        });
        format!(
            "SELECT xmin, {}, {key_names}{} FROM {} WHERE {condition}",
            if share.is_some() { &self.size } else { "NULL" },
            missing.collect::<String>(),
            self.relation,
        )
    }

    /// The condition that finds the row with this key.
    fn is_key(&self, comparisons: &[Comparison], key: &Key) -> String {
        let columns = self.key.iter().zip(comparisons).zip(key);
        let columns = columns.map(|(((_, name), comparison), value)| {
            let Comparison {
                operator,
                type_name,
            } = comparison;
            let value = value_literal(value.as_deref());
            format!("{} {operator} {value}::{type_name}", identifier(name))
        });
        format!("({})", columns.collect::<Vec<_>>().join(" AND "))
    }
}

fn key_literal(key: &Key) -> String {
    let values = key.iter().map(|value| value_literal(value.as_deref()));
    format!("({})", values.collect::<Vec<_>>().join(", "))
}

fn value_literal(value: Option<&[u8]>) -> String {
    value.map_or_else(
        || "NULL".to_owned(),
        |text| literal(&String::from_utf8_lossy(text)),
    )
}

/// Runs a simple query. Its rows.
pub(super) async fn query(
    client: &Client,
    sql: &str,
) -> Result<Vec<SimpleQueryRow>, tokio_postgres::Error> {
    let messages = client.simple_query(sql).await?.into_iter();
    let rows = messages.filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    Ok(rows.collect())
}
