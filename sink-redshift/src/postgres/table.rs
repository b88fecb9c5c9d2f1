//! The target table in the catalog: how it is read, and how it is made.

use tokio_postgres::types::Type;
use tributary_runtime::Error;

use crate::postgres::ddl::{create_schema, create_table};
use crate::postgres::failure::Attempt;
use crate::postgres::session::Session;
use crate::warehouse::failure::Failure;
use crate::warehouse::name::{Qualified, Quoted, literal};
use crate::warehouse::target::{Target, TargetColumn, Wanted, foreign};

/// Reads the table from the catalog; `None` where there is none.
///
/// # Errors
/// A relation that is no table, or a table that is not ours.
pub(crate) async fn read(session: &Session, name: &Qualified) -> Result<Option<Target>, Failure> {
    let rows = session
        .client
        .query_typed(
            "SELECT c.relkind IN ('r', 'p'), a.attname::text, format_type(a.atttypid, a.atttypmod), \
             a.attnotnull, a.attgenerated <> '', array_position((i.indkey::int2[])[0:i.indnkeyatts - 1], a.attnum), \
             c.relpersistence = 'p', row_security_active(c.oid) \
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
    if !first.get::<_, bool>(6) {
        return Err(Error::stop_msg(format_args!(
            "table {name} is not logged: a crash of the server empties it, and the offsets stay"
        ))
        .remedy(format!(
            "ALTER TABLE {name} SET LOGGED; if the server has crashed since it was not: DROP TABLE {name}, and start once with \
             on_unfit_target = \"rebuild\""
        ))
        .into());
    }
    if first.get::<_, bool>(7) {
        let user = Quoted(&session.user);
        return Err(Error::stop_msg(format_args!(
            "row-level security of table {name} applies to {user}: rows would be hidden from it"
        ))
        .remedy(format!(
            "ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY where {user} owns it; otherwise ALTER ROLE {user} BYPASSRLS"
        ))
        .into());
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
    let key = key.into_iter().map(|(_, column)| column).collect();
    Ok(Some(Target::new(name, columns, key)?))
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
    let table = create_table(name, wanted);
    Ok(schema.into_iter().chain([table]).collect())
}

/// Creates the table, and its schema where that is missing.
pub(crate) async fn create(
    session: &Session,
    name: &Qualified,
    wanted: &Wanted,
) -> Result<(), Failure> {
    let schema = Quoted(&name.schema);
    let statements = creation(session, name, wanted).await?;
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
    session: &Session,
    name: &Qualified,
) -> Result<Option<String>, Failure> {
    let row = session
        .client
        .query_typed_opt(
            "SELECT conname::text FROM pg_constraint WHERE conrelid = $1::text::regclass AND contype = 'p'",
            &[(&name.to_string(), Type::TEXT)],
        )
        .await
        .attempt(|| format!("look for the primary key of table {name}"), String::new)?;
    Ok(row.map(|row| row.get(0)))
}

/// Whether the table holds any row.
pub(crate) async fn has_rows(session: &Session, name: &Qualified) -> Result<bool, Failure> {
    let row = session
        .client
        .query_typed_one(&format!("SELECT EXISTS (SELECT FROM {name})"), &[])
        .await
        .attempt(
            || format!("look into table {name}"),
            || use_grant(session, name),
        )?;
    Ok(row.get(0))
}

/// What writing into an existing table asks for.
pub(crate) fn use_grant(session: &Session, name: &Qualified) -> String {
    format!(
        "{}; {}",
        session.grant("USAGE", &format!("SCHEMA {}", Quoted(&name.schema))),
        session.grant("SELECT, INSERT, UPDATE, DELETE", &name.to_string())
    )
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
