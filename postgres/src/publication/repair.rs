//! Puts the publications right before a session begins.

use tokio_postgres::Client;
use tributary_runtime::Error;

use super::definition::{PublicationNames, publications};
use super::members::Members;
use crate::catalog::Selection;
use crate::database::Database;

/// Puts the publications right before a session begins, and tells what they carry. Beside a slot, one that is missing is
/// not made but named: there are places in the slot's WAL at which it did not exist, whatever is made now.
///
/// # Errors
/// One is not of our kind, or the server refuses.
pub async fn put_right(
    client: &Client,
    database: &Database,
    names: &PublicationNames,
    selection: &Selection,
    has_slot: bool,
) -> Result<(Members, Option<String>), Error> {
    for publication in publications(&selection.tables, names) {
        if !has_slot {
            publication.ensure(client, database).await?;
        } else if !publication.exists(client, database).await? {
            let members = Members::read(client, database, names).await?;
            return Ok((members, Some(publication.name)));
        }
    }
    let members = correct(client, database, names, selection, !has_slot).await?;
    Ok((members, None))
}

/// Puts both publications right before a session begins. With `all` every correction must succeed, since a
/// table's changes would be missed from the first one on; without, what fails is warned of.
///
/// # Errors
/// A column list or a row filter; with `all`, a correction that the server refuses.
async fn correct(
    client: &Client,
    database: &Database,
    names: &PublicationNames,
    selection: &Selection,
    all: bool,
) -> Result<Members, Error> {
    let members = Members::read(client, database, names).await?;
    if let Some(problem) = members.restricted(names).into_iter().next() {
        return Err(problem.into());
    }
    let corrections = members.corrections(selection, names);
    if corrections.is_empty() {
        return Ok(members);
    }
    for correction in corrections {
        match correction.run(client, database).await {
            Ok(()) => correction.tell(),
            Err(error) if all => return Err(error.context(correction.why)),
            Err(error) => {
                tracing::warn!(table = correction.table, %error, "{}", correction.why);
            }
        }
    }
    Members::read(client, database, names).await
}
