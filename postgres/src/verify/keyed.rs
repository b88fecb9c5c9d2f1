//! A table with a key, and the statements that read it by its key.

use tokio_postgres::Client;
use tributary_runtime::{Error, Result};
use tributary_schemas::table::Table;

use crate::catalog::{Catalog, KEY_REMEDY};
use crate::database::Database;
use crate::quote::{identifier, literal, qualified};

/// Which version of a row it is: another one each time that it is written.
const STAMP: &str = "t.tableoid::text || ' ' || t.xmin::text || ' ' || t.ctid::text";

/// The key is read by its index, whatever the statistics say, and by one process.
pub(super) const BY_INDEX: &str = "SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL enable_seqscan = off;
    SET LOCAL enable_bitmapscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off";

/// A column's type as text is to be cast to it, and the operators of the index that has it: those of an extension's type are
/// in a schema that the search path does not have. With -1 for a modifier `format_type` gives the type of any length.
const KEY: &str = "
    SELECT a.attnum, pg_catalog.format_type(a.atttypid, -1), n.nspname, o.oprname, s.amopstrategy::int4
    FROM pg_catalog.pg_attribute a
    CROSS JOIN LATERAL (
        SELECT c.opcfamily, c.opcintype FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
        JOIN pg_catalog.pg_am m ON m.oid = x.relam AND m.amname = 'btree'
        CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(i.indkey::int2[]), pg_catalog.unnest(i.indclass::oid[]))
            WITH ORDINALITY k(attnum, opclass, place)
        JOIN pg_catalog.pg_opclass c ON c.oid = k.opclass
        WHERE i.indrelid = a.attrelid AND i.indisvalid AND i.indisunique AND i.indimmediate
            AND k.attnum = a.attnum AND k.place <= i.indnkeyatts
        ORDER BY i.indisprimary DESC, i.indisreplident DESC LIMIT 1) family
    JOIN pg_catalog.pg_amop s ON s.amopfamily = family.opcfamily AND s.amoplefttype = family.opcintype
        AND s.amoprighttype = family.opcintype AND s.amopstrategy IN (1, 3, 5)
    JOIN pg_catalog.pg_operator o ON o.oid = s.amopopr
    JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
    WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped";

/// About how many rows there are; in partitions too.
const ESTIMATE: &str = "
    WITH RECURSIVE tree(relation) AS (
        SELECT $1::pg_catalog.oid
        UNION ALL
        SELECT link.inhrelid FROM tree JOIN pg_catalog.pg_inherits link ON link.inhparent = tree.relation)
    SELECT pg_catalog.sum(c.reltuples) FILTER (WHERE c.reltuples > 0)::int8 FROM tree
    JOIN pg_catalog.pg_class c ON c.oid = tree.relation AND c.relkind = 'r'";

/// A table with a key.
#[derive(Debug, Clone)]
pub struct KeyedTable {
    pub(super) table: Table,
    /// As it stands behind FROM.
    from: String,
    key: Vec<KeyColumn>,
    /// About how many rows it has.
    pub estimate: Option<u64>,
    /// What the catalog says of its columns.
    shape: String,
}

#[derive(Debug, Clone, Default)]
struct KeyColumn {
    /// Its place in the table's columns.
    place: usize,
    name: String,
    type_name: String,
    less: String,
    equal: String,
    greater: String,
    /// Whether its operators are Postgres' own.
    is_usual: bool,
}

impl KeyedTable {
    /// Looks a table up.
    ///
    /// # Errors
    /// Stop: it is not there, or has no key. Otherwise the server's.
    pub(super) async fn find(
        client: &Client,
        database: &Database,
        (schema, name): (&str, &str),
    ) -> Result<Self> {
        let explain = |error| database.explain(error);
        let display = format!("{schema}.{name}");
        let relation = qualified(schema, name);
        let row = client
            .query_one("SELECT pg_catalog.to_regclass($1)::oid", &[&relation])
            .await
            .map_err(explain)?;
        let found = match row.get::<_, Option<u32>>(0) {
            Some(oid) => Catalog::new(client, database).table(oid).await?,
            None => None,
        };
        let found = found.ok_or_else(|| {
            Error::stop_msg(format_args!("there is no table {display} in database {}", database.name()))
                .remedy("give the database that the source reads: postgres.url; or the index of another table: --index")
        })?;
        if found.is_keyless() {
            return Err(Error::stop_msg(format_args!(
                "table {display} has no key, so its rows cannot be told apart, nor compared one by one"
            ))
            .remedy(KEY_REMEDY));
        }
        let (from, oid) = match found.partitioned {
            true => (relation, found.table.oid),
            false => (format!("ONLY {relation}"), found.table.oid),
        };
        let mut keyed = Self {
            key: Self::key(client, database, &found.table).await?,
            table: found.table,
            from,
            estimate: None,
            shape: String::new(),
        };
        let rows = client.query_one(ESTIMATE, &[&oid]).await.map_err(explain)?;
        keyed.estimate = rows
            .get::<_, Option<i64>>(0)
            .and_then(|rows| u64::try_from(rows).ok());
        let shape = client.query_one(&keyed.shape_query(), &[]).await;
        keyed.shape = shape.map_err(explain)?.get(0);
        Ok(keyed)
    }

    async fn key(client: &Client, database: &Database, table: &Table) -> Result<Vec<KeyColumn>> {
        let rows = client.query(KEY, &[&table.oid]).await;
        let rows = rows.map_err(|error| database.explain(error))?;
        let mut key = Vec::new();
        for place in table.key_columns() {
            let column = &table.columns[place];
            let mut known = KeyColumn {
                place,
                name: format!("t.{}", identifier(&column.name)),
                is_usual: true,
                ..KeyColumn::default()
            };
            for row in rows
                .iter()
                .filter(|row| row.get::<_, i16>(0) == column.attnum)
            {
                let (schema, operator): (&str, &str) = (row.get(2), row.get(3));
                known.type_name = row.get(1);
                known.is_usual &= schema == "pg_catalog" && matches!(operator, "<" | "=" | ">");
                let operator = format!("OPERATOR({}.{operator})", identifier(schema));
                match row.get::<_, i32>(4) {
                    1 => known.less = operator,
                    3 => known.equal = operator,
                    _ => known.greater = operator,
                }
            }
            if known.less.is_empty() || known.equal.is_empty() || known.greater.is_empty() {
                return Err(Error::stop_msg(format_args!(
                    "column \"{}\" of the key of table {}.{} has no order by which it could be read",
                    column.name, table.schema, table.name
                ))
                .remedy("compare it in another way"));
            }
            key.push(known);
        }
        Ok(key)
    }

    /// `schema.table`, for messages.
    pub fn display_name(&self) -> String {
        format!("{}.{}", self.table.schema, self.table.name)
    }

    /// The table, as the catalog has it.
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// The places of the key's columns in a row, in key order.
    pub(super) fn key_places(&self) -> impl Iterator<Item = usize> {
        self.key.iter().map(|column| column.place)
    }

    /// Takes the lock, which `LOCK` does without a snapshot.
    pub(super) fn lock(&self) -> String {
        format!("LOCK TABLE {} IN ACCESS SHARE MODE", self.from)
    }

    /// What the catalog says of the table that has the name now.
    pub(super) fn shape_query(&self) -> String {
        let name = literal(&qualified(&self.table.schema, &self.table.name));
        format!(
            "SELECT COALESCE(pg_catalog.string_agg(pg_catalog.concat_ws(' ', attrelid, attnum, attname, atttypid, atttypmod,
                attgenerated), ',' ORDER BY attnum), '')
             FROM pg_catalog.pg_attribute WHERE attrelid = pg_catalog.to_regclass({name}) AND attnum > 0 AND NOT attisdropped"
        )
    }

    /// # Errors
    /// Stop: it is not the table any more that was found.
    pub(super) fn check_shape(&self, now: &str) -> Result<()> {
        if now == self.shape {
            return Ok(());
        }
        let name = self.display_name();
        Err(Error::stop_msg(format_args!(
            "table {name} was changed while it was compared"
        ))
        .remedy("run the command again when the source has published the change"))
    }

    /// The statement that reads the next rows in the order of the key.
    pub(super) fn range(&self, after: Option<&[String]>, rows: usize) -> String {
        let behind = after.map_or_else(String::new, |after| {
            format!(" WHERE {}", self.behind(after))
        });
        let order: Vec<_> = self
            .key
            .iter()
            .map(|column| format!("{} USING {}", column.name, column.less))
            .collect();
        format!(
            "COPY (SELECT {} FROM {} t{behind} ORDER BY {} LIMIT {rows}) TO STDOUT",
            self.columns(),
            self.from,
            order.join(", ")
        )
    }

    /// The statement that reads the rows of some keys.
    pub(super) fn rows(&self, keys: &[&[String]]) -> String {
        let rows: Vec<_> = keys
            .iter()
            .map(|key| format!("({})", self.literals(key).join(", ")))
            .collect();
        let names: Vec<_> = (0..self.key.len())
            .map(|place| format!("k{place}"))
            .collect();
        let equal: Vec<_> = self
            .key
            .iter()
            .zip(&names)
            .map(|(column, wanted)| format!("{} {} k.{wanted}", column.name, column.equal))
            .collect();
        format!(
            "COPY (SELECT {} FROM (VALUES {}) k({}) JOIN {} t ON {}) TO STDOUT",
            self.columns(),
            rows.join(", "),
            names.join(", "),
            self.from,
            equal.join(" AND ")
        )
    }

    fn columns(&self) -> String {
        let columns = self.table.columns.iter();
        let columns: String = columns
            .flat_map(|column| [", t.".to_owned(), identifier(&column.name)])
            .collect();
        format!("{STAMP}{columns}")
    }

    fn literals(&self, key: &[String]) -> Vec<String> {
        let columns = self.key.iter().zip(key);
        columns
            .map(|(column, text)| format!("{}::{}", literal(text).trim_start(), column.type_name))
            .collect()
    }

    /// The condition that a row stands behind this key. A comparison of rows names one operator for all columns; where they have
    /// several it is written out, with the first column in front, which the index then begins at.
    fn behind(&self, key: &[String]) -> String {
        let (literals, names): (_, Vec<&str>) = (
            self.literals(key),
            self.key.iter().map(|column| column.name.as_str()).collect(),
        );
        if self.key.iter().all(|column| column.is_usual) {
            return format!(
                "ROW({}) OPERATOR(pg_catalog.>) ROW({})",
                names.join(", "),
                literals.join(", ")
            );
        }
        let mut behind = String::new();
        for (column, literal) in self.key.iter().zip(&literals).rev() {
            let KeyColumn {
                name,
                equal,
                greater,
                ..
            } = column;
            behind = match behind.as_str() {
                "" => format!("{name} {greater} {literal}"),
                rest => {
                    format!("({name} {greater} {literal} OR ({name} {equal} {literal} AND {rest}))")
                }
            };
        }
        behind
    }
}

#[cfg(test)]
mod tests {
    use tributary_schemas::table::{Column, ColumnType, Table};

    use super::{KeyColumn, KeyedTable};

    fn table(is_usual: bool) -> KeyedTable {
        let columns = ["v", "a", "b\""].map(|name| Column {
            name: name.to_owned(),
            attnum: 1,
            column_type: ColumnType::Text,
            key_position: None,
        });
        let column = |place, name: &str, type_name: &str| KeyColumn {
            place,
            name: name.to_owned(),
            type_name: type_name.to_owned(),
            less: "<".to_owned(),
            equal: "=".to_owned(),
            greater: ">".to_owned(),
            is_usual,
        };
        KeyedTable {
            table: Table {
                oid: 1,
                schema: "s".to_owned(),
                name: "t".to_owned(),
                columns: columns.to_vec(),
            },
            from: "ONLY \"s\".\"t\"".to_owned(),
            key: vec![
                column(2, "t.\"b\"\"\"", "text"),
                column(1, "t.\"a\"", "integer"),
            ],
            estimate: None,
            shape: "x".to_owned(),
        }
    }

    const COLUMNS: &str = "t.tableoid::text || ' ' || t.xmin::text || ' ' || t.ctid::text, t.\"v\", t.\"a\", t.\"b\"\"\"";

    #[test]
    fn a_range_begins_behind_the_last_key() {
        let key = ["it's \\".to_owned(), "7".to_owned()];
        assert_eq!(
            table(true).range(None, 10),
            format!(
                "COPY (SELECT {COLUMNS} FROM ONLY \"s\".\"t\" t ORDER BY t.\"b\"\"\" USING <, t.\"a\" USING < LIMIT 10) TO STDOUT"
            )
        );
        let range = table(true).range(Some(&key), 10);
        let behind = " WHERE ROW(t.\"b\"\"\", t.\"a\") OPERATOR(pg_catalog.>) ROW(E'it''s \\\\'::text, '7'::integer) ORDER";
        assert!(range.contains(behind), "{range}");
        let range = table(false).range(Some(&key), 10);
        let behind = " WHERE (t.\"b\"\"\" > E'it''s \\\\'::text OR (t.\"b\"\"\" = E'it''s \\\\'::text AND t.\"a\" > '7'::integer)) ORDER";
        assert!(range.contains(behind), "{range}");
    }

    #[test]
    fn rows_are_found_by_all_columns_of_the_key() {
        let keys = [["x", "1"], ["y", "2"]].map(|key| key.map(str::to_owned));
        let keys: Vec<&[String]> = keys.iter().map(<[String; 2]>::as_slice).collect();
        assert_eq!(
            table(true).rows(&keys),
            format!(
                "COPY (SELECT {COLUMNS} FROM (VALUES ('x'::text, '1'::integer), ('y'::text, '2'::integer)) k(k0, k1) \
                 JOIN ONLY \"s\".\"t\" t ON t.\"b\"\"\" = k.k0 AND t.\"a\" = k.k1) TO STDOUT"
            )
        );
    }

    #[test]
    fn another_shape_is_another_table() {
        table(true).check_shape("x").unwrap();
        let error = table(true).check_shape("y").unwrap_err().to_string();
        assert!(error.contains("s.t was changed"), "{error}");
    }
}
