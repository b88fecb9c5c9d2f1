//! A table that grows with the records: columns are added and widened, in a transaction before that of the rows.

use tokio_postgres::types::Type;
use tributary_engine::{Change, RowForm};
use tributary_schemas::record::RecordType;

use crate::postgres::ddl::{alter, clauses};
use crate::postgres::failure::Attempt;
use crate::postgres::reform::{reform, reforming};
use crate::postgres::rules::Postgres;
use crate::postgres::session::Session;
use crate::postgres::table::{self, lock_definition};
use crate::warehouse::batch::{record_types, same_types};
use crate::warehouse::failure::Failure;
use crate::warehouse::growth::Alteration;
use crate::warehouse::metric;
use crate::warehouse::name::{Qualified, Quoted};
use crate::warehouse::target::{Target, Wanted};

/// Lets the table take all of these changes. Its transaction holds nothing else, so that a rewrite that took long is
/// not lost with a batch that fails.
pub(crate) async fn prepare<'a>(
    session: &Session,
    name: &Qualified,
    changes: impl Iterator<Item = Change<'a>>,
) -> Result<(), Failure> {
    lock_definition(session, name).await?;
    let mut target = table::read(session, name).await?;
    let mut known = Vec::new();
    let mut has_form = false;
    for change in changes {
        let types = record_types(&change);
        if known.iter().rev().any(|other| same_types(*other, types)) {
            continue;
        }
        let wanted = Wanted::new::<Postgres>(types.0, types.1)?;
        let has_changed = match &target {
            // Its form must suit all of them: it is made anew for the first one only that brings a row.
            Some(found) if !has_form => adapt(session, found, &wanted, types.1).await?,
            Some(found) => grow(session, found, &found.need::<Postgres>(&wanted, types.1)?).await?,
            None if types.1.is_none() => false,
            None => {
                table::create(session, name, &wanted).await?;
                true
            }
        };
        known.push(types);
        has_form |= types.1.is_some();
        if has_changed {
            target = table::read(session, name).await?;
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
    let wanted = Wanted::new::<Postgres>(form.key_type.as_ref(), row_type)?;
    match table::read(session, name).await? {
        Some(found) => adapt(session, &found, &wanted, row_type).await.map(drop),
        None => table::create(session, name, &wanted).await,
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
    let wanted = Wanted::new::<Postgres>(form.key_type.as_ref(), row_type)?;
    let Some(found) = table::read(session, name).await? else {
        return table::creation(session, name, &wanted).await;
    };
    match found.need::<Postgres>(&wanted, row_type) {
        Ok(growth) if growth.is_empty() => Ok(Vec::new()),
        Ok(growth) => Ok(vec![alter(name, &clauses(&growth, None))]),
        Err(contradiction) => {
            if !is_emptied && table::has_rows(session, name).await? {
                return Err(contradiction.into());
            }
            let statement = reforming(session, &found, &wanted).await?;
            Ok(vec![statement.ok_or(contradiction)?])
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
    match target.need::<Postgres>(wanted, row_type) {
        Ok(growth) => grow(session, target, &growth).await,
        Err(contradiction) => reform(session, target, wanted, contradiction)
            .await
            .map(|()| true),
    }
}

/// Changes the table, where it needs that; whether it was changed.
async fn grow(session: &Session, target: &Target, growth: &[Alteration]) -> Result<bool, Failure> {
    if growth.is_empty() {
        return Ok(false);
    }
    let name = &target.name;
    let clauses = clauses(growth, None);
    let change = clauses.join(", ");
    let statement = alter(name, &clauses);
    let altering = async {
        session.client.batch_execute(&statement).await.attempt(
            || format!("change table {name} ({change})"),
            || format!("ALTER TABLE {name} OWNER TO {}", Quoted(&session.user)),
        )
    };
    // Postgres may then write the whole table anew, under a lock that nobody can read beside.
    let rewrites = |alteration: &Alteration| matches!(alteration, Alteration::Widen { .. });
    if growth.iter().any(rewrites) {
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
    // Of a table that is dropped at this moment the size is null.
    let bytes: Option<i64> = row.as_ref().and_then(|row| row.get(1));
    tracing::warn!(
        table = %name,
        change,
        rows,
        bytes,
        "changes the type of a column: the table may be written anew, and nobody can read it meanwhile"
    );
    Ok(())
}
