//! Drops the slot of a source.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tributary_runtime::{Error, ResultExt};

use crate::database::Database;

/// How often it is tried while somebody holds the slot.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(50);

/// Drops a slot that nobody holds, or will hold in a moment: the server may still be about to notice that its holder
/// is gone. One that is not there is as good as dropped.
///
/// # Errors
/// Somebody holds it (retry), or the server refuses.
pub async fn drop_free(client: &Client, database: &Database, name: &str) -> Result<(), Error> {
    give_up(client, database, name, None).await
}

/// Drops a slot although somebody holds it: its holder's connection is ended.
///
/// # Errors
/// The server refuses, or the holder comes back again and again (retry).
pub async fn drop_held(client: &Client, database: &Database, name: &str) -> Result<(), Error> {
    const TERMINATE: &str = "SELECT pg_catalog.pg_terminate_backend(active_pid)
        FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND active_pid IS NOT NULL";
    give_up(client, database, name, Some(TERMINATE)).await
}

/// Ends the server process that creates a slot for an instance of this source that was killed, if it is one: it may wait
/// for a transaction for long before it notices, and its slot goes with it. Returns whether it did.
///
/// A living instance has had another connection since before it began to create a slot, and it connects by the same name
/// as we do; the server ends those of a killed one at once, since they wait for nothing.
///
/// # Errors
/// The server refuses.
pub async fn end_left_over(
    client: &Client,
    database: &Database,
    process: i32,
) -> Result<bool, Error> {
    let query = "SELECT pg_catalog.pg_terminate_backend(w.pid)
        FROM pg_catalog.pg_stat_activity w, pg_catalog.pg_stat_activity me
        WHERE w.pid = $1 AND w.backend_type = 'walsender' AND me.pid = pg_catalog.pg_backend_pid()
            AND w.usesysid = me.usesysid AND w.application_name = me.application_name
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity other
                WHERE other.usesysid = w.usesysid AND other.application_name = w.application_name
                    AND other.backend_type = 'client backend' AND other.backend_start <= w.backend_start)";
    let ended = client.query_opt(query, &[&process]).await;
    let ended = ended.map_err(|e| database.explain(e))?;
    Ok(ended.is_some_and(|row| row.get(0)))
}

async fn give_up(
    client: &Client,
    database: &Database,
    name: &str,
    before: Option<&str>,
) -> Result<(), Error> {
    let mut attempt = 0;
    loop {
        if let Some(statement) = before {
            let done = client.execute(statement, &[&name]).await;
            done.map_err(|e| database.explain(e))?;
        }
        let drop = "SELECT pg_catalog.pg_drop_replication_slot($1)";
        let Err(error) = client.execute(drop, &[&name]).await else {
            return Ok(());
        };
        attempt += 1;
        match error.code() {
            Some(&SqlState::UNDEFINED_OBJECT) => return Ok(()),
            Some(&SqlState::OBJECT_IN_USE) if attempt < ATTEMPTS => {
                tokio::time::sleep(PAUSE).await;
            }
            _ => return Err(database.explain(error)).doing(|| format!("drop slot '{name}'")),
        }
    }
}
