//! A table without rows is given another form: nothing is lost where nothing is converted.

use tributary_runtime::Error;

use crate::postgres::ddl::{alter, clauses};
use crate::postgres::failure::Attempt;
use crate::postgres::rules::Postgres;
use crate::postgres::session::Session;
use crate::postgres::table::{has_rows, key_constraint};
use crate::warehouse::failure::Failure;
use crate::warehouse::name::Quoted;
use crate::warehouse::target::{Target, Wanted};

/// Gives the table the form that the records ask for, if it has no rows. Views and grants stay.
///
/// # Errors
/// `contradiction`, if it has rows, or would still not fit.
pub(crate) async fn reform(
    session: &Session,
    target: &Target,
    wanted: &Wanted,
    contradiction: Error,
) -> Result<(), Failure> {
    let name = &target.name;
    // Before a lock is waited for that nobody can read beside.
    if has_rows(session, name).await? {
        return Err(contradiction.into());
    }
    let doing = || format!("give table {name}, which has no rows, another form");
    let owner = || format!("ALTER TABLE {name} OWNER TO {}", Quoted(&session.user));
    let lock = format!("LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE");
    let locked = session.client.batch_execute(&lock).await;
    locked.attempt(doing, owner)?;
    let statement = match reforming(session, target, wanted).await? {
        Some(statement) if !has_rows(session, name).await? => statement,
        _ => return Err(contradiction.into()),
    };
    let altered = session.client.batch_execute(&statement).await;
    altered.attempt(doing, owner)?;
    tracing::info!(table = %name, change = statement, "gave a target table without rows another form");
    Ok(())
}

/// The statement that does it, where one can. The table must have no rows then.
pub(crate) async fn reforming(
    session: &Session,
    target: &Target,
    wanted: &Wanted,
) -> Result<Option<String>, Failure> {
    let key = key_constraint(session, &target.name).await?;
    let clauses = clauses(&target.reform::<Postgres>(wanted), key.as_deref());
    Ok((!clauses.is_empty()).then(|| alter(&target.name, &clauses)))
}
