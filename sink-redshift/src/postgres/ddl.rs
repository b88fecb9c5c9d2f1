//! The statements that make and change a table.

use crate::warehouse::growth::Alteration;
use crate::warehouse::name::{Qualified, Quoted, quoted_list};
use crate::warehouse::target::Wanted;

/// Whoever needs a schema makes it, unless somebody was faster.
pub(crate) fn create_schema(name: &str) -> String {
    format!("CREATE SCHEMA IF NOT EXISTS {}", Quoted(name))
}

/// The table for what the records ask for.
pub(crate) fn create_table(name: &Qualified, wanted: &Wanted) -> String {
    let mut ddl = format!("CREATE TABLE {name} (");
    for column in &wanted.columns {
        let null = if wanted.requires(column) {
            " NOT NULL"
        } else {
            ""
        };
        ddl += &format!("{} {}{null}, ", Quoted(&column.name), column.sql_type);
    }
    ddl += &format!(
        "PRIMARY KEY ({}))",
        quoted_list(wanted.key.iter().map(String::as_str))
    );
    ddl
}

/// Empties a table. It is not dropped: what others have made of it, views and grants, stays.
pub(crate) fn emptying(name: &Qualified) -> String {
    format!("TRUNCATE TABLE {name}")
}

/// One statement with all of these.
pub(crate) fn alter(name: &Qualified, clauses: &[String]) -> String {
    format!("ALTER TABLE {name} {}", clauses.join(", "))
}

/// The clauses of an ALTER TABLE. `key` is the primary key's constraint, where there is one to be dropped.
pub(crate) fn clauses(alterations: &[Alteration], key: Option<&str>) -> Vec<String> {
    alterations
        .iter()
        .filter_map(|alteration| clause(alteration, key))
        .collect()
}

fn clause(alteration: &Alteration, key: Option<&str>) -> Option<String> {
    Some(match alteration {
        Alteration::Add { column, sql_type } => {
            format!("ADD COLUMN {} {sql_type}", Quoted(column))
        }
        Alteration::Widen { column, to } => format!("ALTER COLUMN {} TYPE {to}", Quoted(column)),
        Alteration::Replace { column, to } => {
            format!("ALTER COLUMN {} TYPE {to} USING NULL::{to}", Quoted(column))
        }
        Alteration::AllowNull { column } => {
            format!("ALTER COLUMN {} DROP NOT NULL", Quoted(column))
        }
        Alteration::DropKey => format!("DROP CONSTRAINT {}", Quoted(key?)),
        Alteration::SetKey { columns } => {
            let key = quoted_list(columns.iter().map(String::as_str));
            format!("ADD PRIMARY KEY ({key})")
        }
    })
}

#[cfg(test)]
mod tests {
    use tributary_schemas::record::FieldType;

    use super::{alter, clauses, create_table};
    use crate::postgres::rules::Postgres;
    use crate::warehouse::growth::Alteration;
    use crate::warehouse::name::Qualified;
    use crate::warehouse::rules::plain::record;
    use crate::warehouse::target::Wanted;

    #[test]
    fn a_table_is_created_from_key_and_value() {
        let key = record(&[("b", FieldType::Int64), ("a \"x\"", FieldType::Json)]);
        let value = record(&[("n", FieldType::String), ("b", FieldType::Int64)]);
        let wanted = Wanted::new::<Postgres>(Some(&key), Some(&value)).unwrap();
        assert_eq!(
            create_table(&Qualified::new("s", "t"), &wanted),
            r#"CREATE TABLE "s"."t" ("a ""x""" jsonb NOT NULL, "n" text, "b" bigint NOT NULL, "_tributary_seq" bigint NOT NULL, PRIMARY KEY ("b", "a ""x"""))"#
        );
    }

    #[test]
    fn each_alteration_is_a_clause() {
        let (column, to) = (|| "a b".to_owned(), || "bigint".to_owned());
        let alterations = [
            Alteration::DropKey,
            Alteration::AllowNull { column: column() },
            Alteration::Add {
                column: column(),
                sql_type: to(),
            },
            Alteration::Widen {
                column: column(),
                to: to(),
            },
            Alteration::Replace {
                column: column(),
                to: to(),
            },
            Alteration::SetKey {
                columns: vec![column(), "c".to_owned()],
            },
        ];
        let expected = [
            r#"DROP CONSTRAINT "t_pkey""#,
            r#"ALTER COLUMN "a b" DROP NOT NULL"#,
            r#"ADD COLUMN "a b" bigint"#,
            r#"ALTER COLUMN "a b" TYPE bigint"#,
            r#"ALTER COLUMN "a b" TYPE bigint USING NULL::bigint"#,
            r#"ADD PRIMARY KEY ("a b", "c")"#,
        ];
        assert_eq!(clauses(&alterations, Some("t_pkey")), expected);
        // A table that never had a key.
        assert_eq!(clauses(&alterations, None), expected[1..]);
        let clauses = clauses(&alterations[2..4], None);
        assert_eq!(
            alter(&Qualified::new("s", "t"), &clauses),
            r#"ALTER TABLE "s"."t" ADD COLUMN "a b" bigint, ALTER COLUMN "a b" TYPE bigint"#
        );
    }
}
