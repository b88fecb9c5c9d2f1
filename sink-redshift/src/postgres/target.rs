//! The table that a topic becomes: what the catalog says of it, and how it is created.

use tokio_postgres::types::Type;
use tributary_runtime::Error;
use tributary_schemas::record::RecordType;

use crate::name::{Qualified, Quoted, identifier, literal, quoted_list};
use crate::postgres::column::sql_type;
use crate::postgres::failure::{Attempt, Failure};
use crate::postgres::ledger::create_schema;
use crate::postgres::session::Session;

/// The row's version, in every target table.
pub(crate) const SEQ: &str = "_tributary_seq";
/// Where a row of a table without a key comes from: its partition.
pub(crate) const PARTITION: &str = "_tributary_partition";
/// Where a row of a table without a key comes from: its offset.
pub(crate) const OFFSET: &str = "_tributary_offset";
/// In temporary tables only: whether the row is to be deleted.
pub(crate) const DELETED: &str = "_tributary_deleted";
/// In temporary tables only: the columns of which the row has no value, by their index.
pub(crate) const LACKING: &str = "_tributary_lacking";
/// What the names of our own columns begin with.
const OWN_PREFIX: &str = "_tributary_";

/// A target table as the catalog describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) name: Qualified,
    /// In the table's order; generated columns are not among them.
    pub(crate) columns: Vec<TargetColumn>,
    /// The primary key's columns, in the order of its index.
    pub(crate) key: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetColumn {
    pub(crate) name: String,
    /// As `format_type` spells it.
    pub(crate) sql_type: String,
    /// Whether an insert that says nothing about the column fails.
    pub(crate) required: bool,
}

/// What the records ask for.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) columns: Vec<WantedColumn>,
    /// The key's columns in key order, or partition and offset.
    pub(crate) key: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct WantedColumn {
    pub(crate) name: String,
    pub(crate) sql_type: String,
}

impl Wanted {
    /// The table for rows with this key and value; without a key each row is told by partition and offset.
    ///
    /// # Errors
    /// A column that Postgres could not name, or that has the name of one of ours.
    pub(crate) fn new(
        key_type: Option<&RecordType>,
        row_type: Option<&RecordType>,
    ) -> Result<Self, Error> {
        let key_fields = key_type.map_or(&[][..], |key| &key.fields);
        let row_fields = row_type.map_or(&[][..], |row| &row.fields);
        let in_key = |name: &str| key_fields.iter().any(|field| field.name == name);
        let only_in_key = key_fields
            .iter()
            .filter(|field| !row_fields.iter().any(|other| other.name == field.name));
        let mut columns = Vec::with_capacity(row_fields.len() + 3);
        for field in only_in_key.chain(row_fields) {
            identifier(&field.name)?;
            if field.name.starts_with(OWN_PREFIX) {
                return Err(Error::stop_msg(format_args!(
                    "column '{}' has the prefix of our own columns, {OWN_PREFIX}",
                    field.name
                ))
                .remedy("rename the column at its source, or leave it out there"));
            }
            columns.push(WantedColumn {
                name: field.name.clone(),
                sql_type: sql_type(&field.field_type, in_key(&field.name)),
            });
        }
        let own = |name: &str, sql_type: &str| WantedColumn {
            name: name.to_owned(),
            sql_type: sql_type.to_owned(),
        };
        let mut key: Vec<_> = key_fields.iter().map(|field| field.name.clone()).collect();
        if key_type.is_none() {
            columns.push(own(PARTITION, "integer"));
            columns.push(own(OFFSET, "bigint"));
            key = vec![PARTITION.to_owned(), OFFSET.to_owned()];
        }
        columns.push(own(SEQ, "bigint"));
        Ok(Self { columns, key })
    }
}

impl Target {
    /// Reads the table from the catalog; `None` where there is none.
    ///
    /// # Errors
    /// A relation that is no table, or a table that is not ours.
    pub(crate) async fn read(session: &Session, name: &Qualified) -> Result<Option<Self>, Failure> {
        let rows = session
            .client
            .query_typed(
                "SELECT c.relkind IN ('r', 'p'), a.attname::text, format_type(a.atttypid, a.atttypmod), \
                 a.attnotnull, a.attgenerated <> '', array_position((i.indkey::int2[])[0:i.indnkeyatts - 1], a.attnum) \
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                 LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
                 LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary \
                 WHERE n.nspname = $1 AND c.relname = $2 ORDER BY a.attnum",
                &[(&name.schema, Type::TEXT), (&name.name, Type::TEXT)],
            )
            .await
            .attempt(|| format!("look for table {name}"), String::new)?;
        let Some(first) = rows.first() else {
            return Ok(None);
        };
        if !first.get::<_, bool>(0) {
            return Err(foreign(name, "is no table").into());
        }
        let mut columns = Vec::with_capacity(rows.len());
        let mut key = Vec::new();
        for row in &rows {
            let Some(column) = row.get::<_, Option<String>>(1) else {
                continue;
            };
            if let Some(place) = row.get::<_, Option<i32>>(5) {
                key.push((place, column.clone()));
            }
            if !row.get::<_, bool>(4) {
                columns.push(TargetColumn {
                    name: column,
                    sql_type: row.get(2),
                    required: row.get(3),
                });
            }
        }
        key.sort_unstable();
        let target = Self {
            name: name.clone(),
            columns,
            key: key.into_iter().map(|(_, column)| column).collect(),
        };
        if target.column(SEQ).is_none() {
            return Err(foreign(name, &format!("has no column {SEQ}")).into());
        }
        Ok(Some(target))
    }

    pub(crate) fn column(&self, name: &str) -> Option<&TargetColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether a table without a key is kept here.
    pub(crate) fn is_keyless(&self) -> bool {
        self.key == [PARTITION, OFFSET]
    }

    /// Refuses rows of another key than the one that the table was made for.
    pub(crate) fn check_key(&self, wanted: &[String]) -> Result<(), Error> {
        let same =
            self.key.len() == wanted.len() && wanted.iter().all(|name| self.key.contains(name));
        if same {
            return Ok(());
        }
        Err(Error::stop_msg(format_args!(
            "table {} has the primary key ({}), the records have ({})",
            self.name,
            quoted_list(self.key.iter().map(String::as_str)),
            quoted_list(wanted.iter().map(String::as_str)),
        ))
        .remedy(format!(
            "have the topic hold one key only: stop the source, delete the topic, and start the source with on_gap = \
             \"resnapshot\"; then DROP TABLE {}, and start the service once with on_unfit_target = \"rebuild\"",
            self.name
        )))
    }

    /// The statements that create the table, and its schema where that is missing.
    pub(crate) async fn creation(
        session: &Session,
        name: &Qualified,
        wanted: &Wanted,
    ) -> Result<Vec<String>, Failure> {
        let exists: bool = session
            .client
            .query_typed_one(
                "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)",
                &[(&name.schema, Type::TEXT)],
            )
            .await
            .attempt(
                || format!("look for schema {}", Quoted(&name.schema)),
                String::new,
            )?
            .get(0);
        let schema = (!exists).then(|| create_schema(&name.schema));
        let table = create_statement(name, wanted);
        Ok(schema.into_iter().chain([table]).collect())
    }

    /// Creates the table, and its schema where that is missing.
    pub(crate) async fn create(
        session: &Session,
        name: &Qualified,
        wanted: &Wanted,
    ) -> Result<(), Failure> {
        let schema = Quoted(&name.schema);
        let statements = Self::creation(session, name, wanted).await?;
        let Some((table, schemas)) = statements.split_last() else {
            return Ok(());
        };
        for statement in schemas {
            session
                .client
                // Another table's first batch may create it at the same moment.
                .batch_execute(&format!(
                    "SELECT pg_advisory_xact_lock(hashtextextended({}, 0)); {statement}",
                    literal(&format!("tributary schema {schema}"))
                ))
                .await
                .attempt(
                    || format!("create schema {schema}"),
                    || session.grant_on_database("CREATE"),
                )?;
        }
        session.client.batch_execute(table).await.attempt(
            || format!("create table {name}"),
            || session.grant("USAGE, CREATE", &format!("SCHEMA {schema}")),
        )?;
        tracing::info!(table = %name, "created a target table");
        Ok(())
    }

    /// The name of the primary key's constraint.
    pub(crate) async fn key_constraint(
        &self,
        session: &Session,
    ) -> Result<Option<String>, Failure> {
        let row = session
            .client
            .query_typed_opt(
                "SELECT conname::text FROM pg_constraint WHERE conrelid = $1::text::regclass AND contype = 'p'",
                &[(&self.name.to_string(), Type::TEXT)],
            )
            .await
            .attempt(|| format!("look for the primary key of table {}", self.name), String::new)?;
        Ok(row.map(|row| row.get(0)))
    }

    /// The statement with these clauses.
    pub(crate) fn alter(&self, clauses: &[String]) -> String {
        format!("ALTER TABLE {} {}", self.name, clauses.join(", "))
    }

    /// The statement that empties a table. It is not dropped: what others have made of it, views and grants, stays.
    pub(crate) fn emptying(name: &Qualified) -> String {
        format!("TRUNCATE TABLE {name}")
    }

    /// Whether the table holds any row.
    pub(crate) async fn has_rows(&self, session: &Session) -> Result<bool, Failure> {
        let row = session
            .client
            .query_typed_one(&format!("SELECT EXISTS (SELECT FROM {})", self.name), &[])
            .await
            .attempt(
                || format!("look into table {}", self.name),
                || use_grant(session, &self.name),
            )?;
        Ok(row.get(0))
    }
}

/// What writing into an existing table asks for.
pub(crate) fn use_grant(session: &Session, name: &Qualified) -> String {
    format!(
        "{}; {}",
        session.grant("USAGE", &format!("SCHEMA {}", Quoted(&name.schema))),
        session.grant("SELECT, INSERT, UPDATE, DELETE", &name.to_string())
    )
}

fn create_statement(name: &Qualified, wanted: &Wanted) -> String {
    let mut ddl = format!("CREATE TABLE {name} (");
    for column in &wanted.columns {
        let required = column.name == SEQ || wanted.key.contains(&column.name);
        ddl += &format!(
            "{} {}{}, ",
            Quoted(&column.name),
            column.sql_type,
            if required { " NOT NULL" } else { "" }
        );
    }
    ddl += &format!(
        "PRIMARY KEY ({}))",
        quoted_list(wanted.key.iter().map(String::as_str))
    );
    ddl
}

fn foreign(name: &Qualified, why: &str) -> Error {
    Error::stop_msg(format_args!("{name} {why}: it was not made by Tributary"))
        .remedy("move it away, or set [warehouse] schema to a schema of Tributary's own")
}

/// Lets one transaction at a time create or change a table; held until the transaction ends.
pub(crate) async fn lock_definition(session: &Session, name: &Qualified) -> Result<(), Failure> {
    session
        .client
        .batch_execute(&format!(
            "SELECT pg_advisory_xact_lock(hashtextextended({}, 0))",
            literal(&format!("tributary table {name}"))
        ))
        .await
        .attempt(|| format!("wait to change table {name}"), String::new)
}

#[cfg(test)]
mod tests {
    use tributary_schemas::record::{Field, FieldType, RecordType};

    use super::{Wanted, create_statement};
    use crate::name::Qualified;

    fn record(fields: &[(&str, FieldType)]) -> RecordType {
        RecordType {
            full_name: "t.Value".to_owned(),
            fields: fields
                .iter()
                .map(|(name, field_type)| Field {
                    name: (*name).to_owned(),
                    field_type: field_type.clone(),
                    nullable: true,
                })
                .collect(),
        }
    }

    #[test]
    fn a_table_is_created_from_key_and_value() {
        let key = record(&[("b", FieldType::Int64), ("a \"x\"", FieldType::Json)]);
        let value = record(&[("n", FieldType::String), ("b", FieldType::Int64)]);
        let wanted = Wanted::new(Some(&key), Some(&value)).unwrap();
        assert_eq!(
            create_statement(&Qualified::new("s", "t"), &wanted),
            r#"CREATE TABLE "s"."t" ("a ""x""" jsonb NOT NULL, "n" text, "b" bigint NOT NULL, "_tributary_seq" bigint NOT NULL, PRIMARY KEY ("b", "a ""x"""))"#
        );
    }

    #[test]
    fn a_column_with_our_prefix_is_refused() {
        let value = record(&[("_tributary_seq", FieldType::Int64)]);
        assert!(Wanted::new(None, Some(&value)).is_err());
    }
}
