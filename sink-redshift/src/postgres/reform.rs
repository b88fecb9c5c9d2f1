//! A table without rows is given another form: nothing is lost where nothing is converted.

use tributary_runtime::Error;

use crate::name::{Quoted, quoted_list};
use crate::postgres::column::{Fit, fit};
use crate::postgres::failure::{Attempt, Failure};
use crate::postgres::session::Session;
use crate::postgres::target::{Target, Wanted};

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
    // Before a lock is waited for that nobody can read beside.
    if target.has_rows(session).await? {
        return Err(contradiction.into());
    }
    let name = &target.name;
    let doing = || format!("give table {name}, which has no rows, another form");
    let owner = || format!("ALTER TABLE {name} OWNER TO {}", Quoted(&session.user));
    let lock = format!("LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE");
    let locked = session.client.batch_execute(&lock).await;
    locked.attempt(doing, owner)?;
    let alter = match reforming(session, target, wanted).await? {
        Some(alter) if !target.has_rows(session).await? => alter,
        _ => return Err(contradiction.into()),
    };
    let altered = session.client.batch_execute(&alter).await;
    altered.attempt(doing, owner)?;
    tracing::info!(table = %name, change = alter, "gave a target table without rows another form");
    Ok(())
}

/// The statement that does it, where one can. The table must have no rows then.
pub(crate) async fn reforming(
    session: &Session,
    target: &Target,
    wanted: &Wanted,
) -> Result<Option<String>, Failure> {
    let constraint = target.key_constraint(session).await?;
    let clauses = target.clauses(wanted, constraint.as_deref());
    Ok((!clauses.is_empty()).then(|| target.alter(&clauses)))
}

impl Target {
    /// What a table without rows needs to take records of this kind, as the clauses of one ALTER TABLE. `constraint` is its
    /// primary key's.
    fn clauses(&self, wanted: &Wanted, constraint: Option<&str>) -> Vec<String> {
        let mut clauses = Vec::new();
        let other_key = self.check_key(&wanted.key).is_err();
        if other_key {
            let dropped = constraint.map(|name| format!("DROP CONSTRAINT {}", Quoted(name)));
            clauses.extend(dropped);
            let freed = self.key.iter().filter(|name| !wanted.key.contains(name));
            clauses
                .extend(freed.map(|name| format!("ALTER COLUMN {} DROP NOT NULL", Quoted(name))));
        }
        for want in &wanted.columns {
            let (column, to) = (Quoted(&want.name), &want.sql_type);
            match self
                .column(&want.name)
                .map(|have| fit(&have.sql_type, &want.sql_type))
            {
                None => clauses.push(format!("ADD COLUMN {column} {to}")),
                Some(Fit::Holds) => {}
                Some(Fit::Widen(to)) => clauses.push(format!("ALTER COLUMN {column} TYPE {to}")),
                Some(Fit::Contradicts) => {
                    clauses.push(format!("ALTER COLUMN {column} TYPE {to} USING NULL::{to}"));
                }
            }
        }
        if other_key {
            let key = quoted_list(wanted.key.iter().map(String::as_str));
            clauses.push(format!("ADD PRIMARY KEY ({key})"));
        }
        clauses
    }
}
