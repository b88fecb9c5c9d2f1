//! A table that grows with the records: columns are added and widened, in a transaction before that of the rows.

use tokio_postgres::types::Type;
use tributary_engine::{Change, RowForm};
use tributary_runtime::Error;
use tributary_schemas::record::RecordType;

use crate::name::{Qualified, Quoted};
use crate::postgres::column::{Fit, fit};
use crate::postgres::failure::{Attempt, Failure};
use crate::postgres::metric;
use crate::postgres::reform::{reform, reforming};
use crate::postgres::row::{record_types, same_types};
use crate::postgres::session::Session;
use crate::postgres::target::{Target, TargetColumn, Wanted, WantedColumn, lock_definition};

/// What must be done to a table before it can take the records.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Growth {
    /// The clauses of one ALTER TABLE; empty where the table fits.
    clauses: Vec<String>,
    /// Whether a column gets another type: Postgres may then write the whole table anew, under a lock that nobody can
    /// read beside.
    rewrites: bool,
}

impl Growth {
    pub(crate) const fn is_none(&self) -> bool {
        self.clauses.is_empty()
    }
}

/// Lets the table take all of these changes. Its transaction holds nothing else, so that a rewrite that took long is
/// not lost with a batch that fails.
pub(crate) async fn prepare<'a>(
    session: &Session,
    name: &Qualified,
    changes: impl Iterator<Item = Change<'a>>,
) -> Result<(), Failure> {
    lock_definition(session, name).await?;
    let mut target = Target::read(session, name).await?;
    let mut known = Vec::new();
    for change in changes {
        let types = record_types(&change);
        if known.iter().rev().any(|other| same_types(*other, types)) {
            continue;
        }
        let wanted = Wanted::new(types.0, types.1)?;
        let has_changed = match &target {
            // Its form must suit all of them: it is made anew for the first one only.
            Some(found) if known.is_empty() => adapt(session, found, &wanted, types.1).await?,
            Some(found) => grow(session, found, &found.need(&wanted, types.1)?).await?,
            None if types.1.is_none() => false,
            None => {
                Target::create(session, name, &wanted).await?;
                true
            }
        };
        known.push(types);
        if has_changed {
            target = Target::read(session, name).await?;
        }
    }
    Ok(())
}

/// Makes the table for rows of this form, or lets the one that is there take them.
pub(crate) async fn prepare_empty(
    session: &Session,
    name: &Qualified,
    form: &RowForm,
) -> Result<(), Failure> {
    lock_definition(session, name).await?;
    let row_type = Some(&form.row_type);
    let wanted = Wanted::new(form.key_type.as_ref(), row_type)?;
    match Target::read(session, name).await? {
        Some(found) => adapt(session, &found, &wanted, row_type).await.map(drop),
        None => Target::create(session, name, &wanted).await,
    }
}

/// The statements by which [`prepare_empty`] would do that; `is_emptied` of a table whose rows are gone by then.
pub(crate) async fn needed(
    session: &Session,
    name: &Qualified,
    form: &RowForm,
    is_emptied: bool,
) -> Result<Vec<String>, Failure> {
    let row_type = Some(&form.row_type);
    let wanted = Wanted::new(form.key_type.as_ref(), row_type)?;
    let Some(found) = Target::read(session, name).await? else {
        return Target::creation(session, name, &wanted).await;
    };
    match found.need(&wanted, row_type) {
        Ok(growth) if growth.is_none() => Ok(Vec::new()),
        Ok(growth) => Ok(vec![found.alter(&growth.clauses)]),
        Err(contradiction) => {
            if !is_emptied && found.has_rows(session).await? {
                return Err(contradiction.into());
            }
            let alter = reforming(session, &found, &wanted).await?;
            Ok(vec![alter.ok_or(contradiction)?])
        }
    }
}

/// Lets a table take such records, also one that would contradict them if it had rows; whether it was changed.
async fn adapt(
    session: &Session,
    target: &Target,
    wanted: &Wanted,
    row_type: Option<&RecordType>,
) -> Result<bool, Failure> {
    match target.need(wanted, row_type) {
        Ok(growth) => grow(session, target, &growth).await,
        Err(contradiction) => reform(session, target, wanted, contradiction)
            .await
            .map(|()| true),
    }
}

/// Changes the table, where it needs that; whether it was changed.
async fn grow(session: &Session, target: &Target, growth: &Growth) -> Result<bool, Failure> {
    if growth.is_none() {
        return Ok(false);
    }
    let name = &target.name;
    let change = growth.clauses.join(", ");
    let alter = target.alter(&growth.clauses);
    let altering = async {
        session.client.batch_execute(&alter).await.attempt(
            || format!("change table {name} ({change})"),
            || format!("ALTER TABLE {name} OWNER TO {}", Quoted(&session.user)),
        )
    };
    if growth.rewrites {
        announce(session, name, &change).await?;
        let _under_way = metric::whole_table();
        session.unhurried(altering).await?;
    } else {
        altering.await?;
    }
    tracing::info!(table = %name, change, "changed a target table");
    Ok(true)
}

/// Says what is about to be rewritten, and how much of it there is.
async fn announce(session: &Session, name: &Qualified, change: &str) -> Result<(), Failure> {
    let row = session
        .client
        .query_typed_opt(
            "SELECT c.reltuples::bigint, pg_total_relation_size(c.oid) FROM pg_class c \
             JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2",
            &[(&name.schema, Type::TEXT), (&name.name, Type::TEXT)],
        )
        .await
        .attempt(|| format!("look for table {name}"), String::new)?;
    // Without statistics, the number of rows is -1.
    let rows: Option<i64> = row.as_ref().map(|row| row.get(0)).filter(|rows| *rows >= 0);
    let bytes: Option<i64> = row.as_ref().map(|row| row.get(1));
    tracing::warn!(
        table = %name,
        change,
        rows,
        bytes,
        "changes the type of a column: the table may be written anew, and nobody can read it meanwhile"
    );
    Ok(())
}

impl Target {
    /// What the table needs before it can take records of this kind; deletes, which have no row, need its key alone.
    ///
    /// # Errors
    /// What cannot be done safely: another key, a column of a type that cannot be widened to the new one, a
    /// column of somebody else's that must not be null.
    pub(crate) fn need(
        &self,
        wanted: &Wanted,
        row_type: Option<&RecordType>,
    ) -> Result<Growth, Error> {
        self.check_key(&wanted.key)?;
        let mut clauses = Vec::new();
        let mut rewrites = false;
        for want in &wanted.columns {
            let column = Quoted(&want.name);
            match self
                .column(&want.name)
                .map(|have| (have, fit(&have.sql_type, &want.sql_type)))
            {
                None => clauses.push(format!("ADD COLUMN {column} {}", want.sql_type)),
                Some((_, Fit::Holds)) => {}
                Some((_, Fit::Widen(to))) => {
                    clauses.push(format!("ALTER COLUMN {column} TYPE {to}"));
                    rewrites = true;
                }
                Some((have, Fit::Contradicts)) => return Err(self.contradiction(have, want)),
            }
        }
        let unknown = self.columns.iter().find(|have| {
            row_type.is_some()
                && have.required
                && !wanted.columns.iter().any(|want| want.name == have.name)
        });
        if let Some(column) = unknown {
            return Err(Error::stop_msg(format_args!(
                "table {} has the column {} that the records lack and that takes no null",
                self.name,
                Quoted(&column.name)
            ))
            .remedy(format!(
                "ALTER TABLE {} ALTER COLUMN {column} DROP IDENTITY IF EXISTS, ALTER COLUMN {column} DROP NOT NULL",
                self.name,
                column = Quoted(&column.name)
            )));
        }
        Ok(Growth { clauses, rewrites })
    }

    fn contradiction(&self, have: &TargetColumn, want: &WantedColumn) -> Error {
        let column = Quoted(&have.name);
        let (name, to) = (&self.name, &want.sql_type);
        Error::stop_msg(format_args!(
            "column {column} of table {name} is {}, the records need {to}, and nothing is converted that could \
             lose something",
            have.sql_type
        ))
        .remedy(format!(
            "ALTER TABLE {name} ALTER COLUMN {column} TYPE {to} USING {column}::{to} where that is right, or \
             rebuild the table"
        ))
    }
}

#[cfg(test)]
mod tests {
    use tributary_schemas::record::{Field, FieldType, RecordType};

    use crate::name::Qualified;
    use crate::postgres::target::{SEQ, Target, TargetColumn, Wanted};

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

    fn target(columns: &[(&str, &str)], key: &[&str]) -> Target {
        Target {
            name: Qualified::new("s", "t"),
            columns: columns
                .iter()
                .map(|(name, sql_type)| TargetColumn {
                    name: (*name).to_owned(),
                    sql_type: (*sql_type).to_owned(),
                    required: false,
                })
                .collect(),
            key: key.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    #[test]
    fn a_table_grows_by_what_is_missing_or_too_narrow() {
        let key = record(&[("id", FieldType::Int64)]);
        let value = record(&[("id", FieldType::Int64), ("new", FieldType::Bool)]);
        let wanted = Wanted::new(Some(&key), Some(&value)).unwrap();
        let have = target(
            &[("id", "integer"), ("old", "text"), (SEQ, "bigint")],
            &["id"],
        );
        assert_eq!(
            have.need(&wanted, Some(&value)).unwrap().clauses,
            [
                r#"ALTER COLUMN "id" TYPE bigint"#,
                r#"ADD COLUMN "new" boolean"#
            ]
        );
    }

    #[test]
    fn what_contradicts_stops_with_the_remedy() {
        let key = record(&[("id", FieldType::Int64)]);
        let wanted = Wanted::new(Some(&key), Some(&key)).unwrap();
        let message = |have: &Target| have.need(&wanted, Some(&key)).unwrap_err().to_string();

        let other_type = target(&[("id", "date"), (SEQ, "bigint")], &["id"]);
        assert!(
            message(&other_type).contains(r#"ALTER TABLE "s"."t" ALTER COLUMN "id" TYPE bigint"#)
        );

        let other_key = target(&[("id", "bigint"), (SEQ, "bigint")], &["id", "region"]);
        assert!(
            message(&other_key)
                .contains(r#"has the primary key ("id", "region"), the records have ("id")"#)
        );

        let mut required = target(&[("id", "bigint"), ("x", "text"), (SEQ, "bigint")], &["id"]);
        required.columns[1].required = true;
        assert!(message(&required).contains(r#"ALTER COLUMN "x" DROP NOT NULL"#));
    }
}
