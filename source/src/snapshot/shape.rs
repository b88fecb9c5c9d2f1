//! Reading a relation under a snapshot that is older than the lock on it: what ALTER TABLE does, no snapshot hides.
//!
//! A relation that was rewritten since the snapshot looks empty in it, and one whose columns were dropped is read without
//! them. So it is locked, and then proved to be what the snapshot knows. The lock stands behind a savepoint, so that it can
//! be given back when the range is read, while the transaction keeps its snapshot.

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryMessage};

use tributary_postgres::fault::is_undefined;
use tributary_postgres::quote::literal;

/// How long a lock is waited for before a change of the table is let pass.
pub(crate) const LOCK_TIMEOUT_MS: u32 = 2_000;

/// A relation that holds rows of a table: the table, or a leaf of a partitioned one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeldRelation<'a> {
    pub(crate) oid: u32,
    /// Its name in the snapshot, quoted.
    pub(crate) name: &'a str,
}

/// Locks a relation against changes of its shape. Returns whether the transaction's snapshot still shows its rows as they
/// were: not if it was rewritten, dropped, renamed or lost columns since, nor if somebody keeps the lock for himself.
/// Behind either answer comes [`give_back`].
///
/// One lock alone, that on the rows, so that no circle of locks can close. It is enough: a change of a partitioned table's
/// columns needs the locks of all its leaves.
///
/// # Errors
/// Other ones of the server.
pub(crate) async fn hold(
    client: &Client,
    held: HeldRelation<'_>,
) -> Result<bool, tokio_postgres::Error> {
    let lock = format!(
        "SAVEPOINT reading; SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}; LOCK TABLE ONLY {} IN ACCESS SHARE MODE",
        held.name
    );
    match client.batch_execute(&lock).await {
        Ok(()) => is_unchanged(client, held).await,
        Err(error) if cannot_be_had(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a lock cannot be had: the relation is not there under this name, or somebody changes it.
pub(super) fn cannot_be_had(error: &tokio_postgres::Error) -> bool {
    is_undefined(error) || error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE)
}

/// Gives all locks back that were taken since [`hold`].
///
/// # Errors
/// Those of the server.
pub(crate) async fn give_back(client: &Client) -> Result<(), tokio_postgres::Error> {
    let end = "ROLLBACK TO SAVEPOINT reading; RELEASE SAVEPOINT reading";
    client.batch_execute(end).await
}

/// Whether the name is still this relation's, its file is the one that the snapshot knows, and its columns are, with others
/// behind them at the most.
async fn is_unchanged(
    client: &Client,
    held: HeldRelation<'_>,
) -> Result<bool, tokio_postgres::Error> {
    let HeldRelation { oid, name } = held;
    // The rows of the catalog are as the snapshot has them; what the functions say, and the columns of `*`, is as it is now.
    let proof = format!(
        "SELECT 1 FROM pg_catalog.pg_class WHERE oid = {oid} AND relfilenode = pg_catalog.pg_relation_filenode(oid)
            AND oid = pg_catalog.to_regclass({})::pg_catalog.oid;
        SELECT attname FROM pg_catalog.pg_attribute WHERE attrelid = {oid} AND attnum > 0 AND NOT attisdropped
            ORDER BY attnum;
        SELECT * FROM ONLY {name} LIMIT 0",
        literal(name)
    );
    let (mut statement, mut same_file) = (0, false);
    let (mut before, mut now) = (Vec::new(), Vec::new());
    for message in client.simple_query(&proof).await? {
        match message {
            SimpleQueryMessage::Row(_) if statement == 0 => same_file = true,
            SimpleQueryMessage::Row(row) => before.extend(row.get(0).map(str::to_owned)),
            SimpleQueryMessage::RowDescription(columns) if statement == 2 => {
                now = columns.iter().map(|one| one.name().to_owned()).collect();
            }
            SimpleQueryMessage::CommandComplete(_) => statement += 1,
            _ => {}
        }
    }
    Ok(same_file && now.starts_with(&before))
}
