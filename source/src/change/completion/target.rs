//! The statement that looks rows up by their keys.

use std::collections::HashMap;

use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};
use tributary_runtime::Error;

use super::incomplete::{Found, Incomplete, Key};
use tributary_postgres::database::{Database, identifier, literal, qualified};

/// The table as it is now: it may have been renamed since the change, and columns dropped.
pub(super) struct Target {
    relation: String,
    /// Key columns first, then the missing ones: index in our table, and the name now.
    key: Vec<(usize, String)>,
    missing: Vec<(usize, String)>,
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
            (SELECT '=' FROM pg_catalog.pg_type r WHERE r.typtype = 'c' AND r.oid IN (t.oid, t.typbasetype) LIMIT 1))
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
        let relation = format!(
            "{only}{}",
            qualified(
                first.get(0).unwrap_or_default(),
                first.get(1).unwrap_or_default()
            )
        );
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
        Ok(Some(Self {
            relation,
            key,
            comparisons: is_to_be_said.then(|| key_columns.map(comparison).collect()),
            missing: missing.into_iter().filter_map(name_now).collect(),
        }))
    }

    /// The rows that are there, by their keys.
    pub(super) async fn read(
        &self,
        client: &Client,
        rows: &[&Incomplete],
    ) -> Result<HashMap<Key, Found>, tokio_postgres::Error> {
        let names = |columns: &[(usize, String)]| {
            columns
                .iter()
                .map(|(_, name)| identifier(name))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let mut keys: Vec<Key> = rows.iter().map(|row| row.key()).collect();
        keys.sort_unstable();
        keys.dedup();
        let columns: Vec<_> = self.key.iter().chain(&self.missing).cloned().collect();
        let condition = match &self.comparisons {
            None => {
                let keys: Vec<String> = keys.iter().map(key_literal).collect();
                format!("({}) IN ({})", names(&self.key), keys.join(", "))
            }
            Some(comparisons) => {
                let keys = keys.iter().map(|key| self.is_key(comparisons, key));
                keys.collect::<Vec<_>>().join(" OR ")
            }
        };
        let sql = format!(
            "SELECT xmin, {} FROM {} WHERE {condition}",
            names(&columns),
            self.relation,
        );
        let own = |row: &SimpleQueryRow, index: usize| {
            let text = row.get(1 + index);
            text.map(|text: &str| Box::from(text.as_bytes()))
        };
        let found = query(client, &sql).await?;
        let read = |row: &SimpleQueryRow| {
            let key = (0..self.key.len()).map(|index| own(row, index)).collect();
            let missing = self.missing.iter().enumerate();
            let columns = missing.map(|(at, (index, _))| (*index, own(row, self.key.len() + at)));
            let found = Found {
                xmin: row.get(0).and_then(|xmin| xmin.parse().ok()),
                columns: columns.collect(),
            };
            (key, found)
        };
        Ok(found.iter().map(read).collect())
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
