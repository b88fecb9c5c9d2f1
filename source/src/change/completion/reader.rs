//! Reads rows as they are now, once they hold what the stream has told.

use super::incomplete::{Found, Incomplete, Key};
use super::target::{Target, query};
use super::visibility::ServerSnapshot;
use crate::failpoint;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, SimpleQueryRow};
use tokio_util::sync::CancellationToken;
use tributary_postgres::database::Database;
use tributary_postgres::fault::is_undefined;
use tributary_runtime::{Error, ResultExt};
use tributary_schemas::Lsn;

/// How long a commit that is in the WAL may stay invisible (a synchronous standby is awaited) before the
/// session begins again.
const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(2);
/// Looks at the flush position before a flush is forced.
const FLUSH_POLLS: u32 = 5;

/// How long a look-up waits for its table's lock before it lets go and begins again.
const LOCK_TIMEOUT: &str = "2s";

/// Reads rows by their keys.
pub(super) struct RowReader {
    pub(super) database: Database,
    /// Ends the wait for a lock.
    pub(super) shutdown: CancellationToken,
}

/// What a look-up came to.
enum Looked {
    Found(HashMap<Key, Found>, Lsn),
    /// The snapshot does not have the rows as the stream told them: another one may.
    NotYet,
    /// Somebody else has locked the table.
    Locked,
}

impl RowReader {
    /// Reads the missing columns of these rows (all of one table) in a snapshot that sees all their
    /// transactions; of rows larger than `share` their size only.
    pub(super) async fn look_up(
        &self,
        client: &Client,
        rows: &[&Incomplete],
        share: Option<usize>,
    ) -> Result<(HashMap<Key, Found>, Lsn), Error> {
        let deadline = Instant::now() + VISIBILITY_TIMEOUT;
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"
        );
        let mut is_told = false;
        loop {
            client
                .batch_execute(&begin)
                .await
                .map_err(|e| self.database.explain(e))?;
            let result = self.look_up_once(client, rows, share).await;
            client
                .batch_execute("COMMIT")
                .await
                .map_err(|e| self.database.explain(e))?;
            match result.doing(|| {
                format!(
                    "look up unchanged columns of table {}",
                    rows[0].table.display_name()
                )
            })? {
                Looked::Found(found, lsn) => return Ok((found, lsn)),
                Looked::Locked => {
                    let table = rows[0].table.display_name();
                    if self.shutdown.is_cancelled() {
                        return Err(Error::interrupted(format!(
                            "wait for the lock on table {table}"
                        )));
                    }
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::warn!(
                            table,
                            "unchanged columns cannot be looked up, since a transaction has locked the table: the stream waits for it"
                        );
                    }
                }
                Looked::NotYet if Instant::now() >= deadline => {
                    return Err(Error::retry_msg(format!(
                        "a committed transaction is still invisible after {} s: is a synchronous standby away?",
                        VISIBILITY_TIMEOUT.as_secs()
                    )));
                }
                Looked::NotYet => tokio::time::sleep(POLL).await,
            }
        }
    }

    async fn look_up_once(
        &self,
        client: &Client,
        rows: &[&Incomplete],
        share: Option<usize>,
    ) -> Result<Looked, Error> {
        let state = "SELECT pg_catalog.pg_current_snapshot()::text, pg_catalog.pg_current_wal_insert_lsn()::text";
        let state = self.query(client, state).await?;
        let text = |row: Option<&SimpleQueryRow>, index| {
            row.and_then(|row| row.get(index).map(str::to_owned))
        };
        let (Some(snapshot), Some(insert_lsn)) = (text(state.first(), 0), text(state.first(), 1))
        else {
            return Err(Error::retry_msg("the server does not tell its snapshot"));
        };
        let (Some(snapshot), Ok(insert_lsn)) =
            (ServerSnapshot::parse(&snapshot), insert_lsn.parse::<Lsn>())
        else {
            return Err(Error::stop_msg("the server's snapshot has an unknown form"));
        };
        if !rows.iter().all(|row| snapshot.sees(row.origin.xid)) {
            return Ok(Looked::NotYet);
        }
        failpoint::pause(failpoint::LOOKUP_SNAPSHOT, String::new).await;
        let Some(target) = Target::resolve(&self.database, client, rows).await? else {
            return Ok(Looked::Found(HashMap::new(), insert_lsn));
        };
        let read = match target.read(client, rows, share).await {
            Ok(found) => match target.was_unchanged(client).await {
                Ok(true) => Ok(Looked::Found(found, insert_lsn)),
                // A table that was rewritten behind the snapshot looks empty in it.
                Ok(false) => Ok(Looked::NotYet),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        match read {
            // The statement has waited for a lock, and behind it the names were others.
            Err(error) if is_undefined(&error) => Ok(Looked::NotYet),
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Ok(Looked::Locked),
            read => read.map_err(|error| self.database.explain(error)),
        }
    }

    /// With `synchronous_commit = off` a visible row may still be lost in a crash: waits until the WAL up to
    /// here is flushed, and forces it if nobody else does.
    pub(super) async fn wait_until_flushed(&self, client: &Client, lsn: Lsn) -> Result<(), Error> {
        let flushed = format!("SELECT pg_catalog.pg_current_wal_flush_lsn() >= '{lsn}'::pg_lsn");
        let deadline = Instant::now() + VISIBILITY_TIMEOUT;
        let mut polls = 0;
        loop {
            let rows = self.query(client, &flushed).await?;
            if rows.first().and_then(|row| row.get(0)) == Some("t") {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Error::retry_msg(format!(
                    "the server does not flush its WAL up to {lsn}"
                )));
            }
            polls += 1;
            if polls == FLUSH_POLLS {
                // The commit of a transaction of our own flushes all WAL before it.
                let flush = "BEGIN; SET LOCAL synchronous_commit = local;
                    SELECT pg_catalog.pg_logical_emit_message(true, 'tributary', ''); COMMIT";
                client
                    .batch_execute(flush)
                    .await
                    .map_err(|e| self.database.explain(e))?;
            } else {
                tokio::time::sleep(POLL).await;
            }
        }
    }

    async fn query(&self, client: &Client, sql: &str) -> Result<Vec<SimpleQueryRow>, Error> {
        let rows = query(client, sql).await;
        rows.map_err(|e| self.database.explain(e))
    }
}
