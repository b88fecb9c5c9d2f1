//! Taking a partition over from a holder that stands still in the middle of its transaction.
//!
//! The holder's host may be frozen, or cut off: then its backend waits for the rest of a COPY, which no time-out of the
//! server's ends, and holds the partition's row in the ledger. Whoever waits for that row looks who is in the way, and
//! ends the backend of a former holder that has not moved for some seconds. One that works is waited for.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::postgres::failure::Attempt;
use crate::postgres::pool::Pool;
use crate::postgres::session::Session;
use crate::postgres::sqlstate;
use crate::warehouse::failure::Failure;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a holder has to stand still. Below the time-out of a lock, so that the waiting statement gets it.
const FROZEN_AFTER: Duration = Duration::from_secs(4);

/// Who is in the way of a process of the server's: who it is, whether it is a connection of this service, whether it
/// waits for its client, and what changes as soon as it moves.
const BLOCKERS: &str = "SELECT a.pid, a.backend_start::text, \
    a.application_name = current_setting('application_name') AND a.datname = current_database(), \
    a.wait_event_type = 'Client', \
    concat_ws(' ', a.state, a.state_change, a.query_start, c.bytes_processed), \
    coalesce(a.application_name, ''), coalesce(a.usename::text, '') \
    FROM unnest(pg_blocking_pids($1)) AS b (pid) JOIN pg_stat_activity AS a ON a.pid = b.pid \
    LEFT JOIN pg_stat_progress_copy AS c ON c.pid = a.pid";
const END: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 \
    AND backend_start::text = $2 AND application_name = current_setting('application_name')";

/// Who is in the way and is not ended by us.
struct Stranger {
    pid: i32,
    application: String,
    user: String,
}

/// A backend by process id and start: ids are used again.
type Backend = (i32, String);

/// Does `work` on `session`, and looks meanwhile who makes it wait.
pub(crate) async fn watched<T>(
    pool: &Pool,
    session: &Session,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let stranger = Mutex::new(None);
    let done = tokio::select! {
        biased;
        done = work => done,
        never = watch(pool, session.pid, &stranger) => match never {},
    };
    let stranger = stranger
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    done.map_err(|failure| match (failure, stranger) {
        (Failure::Target(error), Some(stranger))
            if error.remedy_text() == Some(sqlstate::LOCKED_REMEDY) =>
        {
            let Stranger {
                pid,
                application,
                user,
            } = stranger;
            Failure::Target(
                error
                    .context(format!(
                        "process {pid} of '{application}', user '{user}', holds the lock"
                    ))
                    .remedy(format!(
                        "if it lasts, end that session: SELECT pg_terminate_backend({pid})"
                    )),
            )
        }
        (failure, _) => failure,
    })
}

/// Looks again and again. Trouble with that is none of the work's.
async fn watch(
    pool: &Pool,
    waiting: i32,
    stranger: &Mutex<Option<Stranger>>,
) -> std::convert::Infallible {
    let mut still = BTreeMap::new();
    let mut observer = None;
    loop {
        sleep(LOOK_EVERY).await;
        let session = match observer.take() {
            Some(session) => session,
            None => match pool.aside().await {
                Ok(session) => session,
                Err(error) => {
                    tracing::debug!(%error, "cannot look who holds a lock");
                    continue;
                }
            },
        };
        match look(&session, waiting, &mut still).await {
            Ok(found) => {
                *stranger.lock().unwrap_or_else(PoisonError::into_inner) = found;
                observer = Some(session);
            }
            Err(failure) => {
                tracing::debug!(error = %failure.into_error(), "cannot look who holds a lock");
            }
        }
    }
}

/// One look: ends who stands still, and gives a stranger that is in the way. `still` holds since when which backend has
/// been seen in which state.
async fn look(
    session: &Session,
    waiting: i32,
    still: &mut BTreeMap<Backend, (String, Instant)>,
) -> Result<Option<Stranger>, Failure> {
    let rows = session
        .client
        .query_typed(BLOCKERS, &[(&waiting, Type::INT4)])
        .await
        .attempt(|| "look who holds a lock".to_owned(), String::new)?;
    let mut before = std::mem::take(still);
    let mut stranger = None;
    for row in &rows {
        let ours = row.get::<_, Option<bool>>(2).unwrap_or(false);
        // What we may not see is null.
        let (Some(start), Some(waits), true) = (
            row.get::<_, Option<String>>(1),
            row.get::<_, Option<bool>>(3),
            ours,
        ) else {
            stranger = Some(Stranger::of(row));
            continue;
        };
        if !waits {
            continue;
        }
        let (backend, state) = ((row.get(0), start), row.get::<_, String>(4));
        let since = match before.remove(&backend) {
            Some((known, since)) if known == state => since,
            _ => Instant::now(),
        };
        if since.elapsed() >= FROZEN_AFTER && !end(session, &backend).await? {
            stranger = Some(Stranger::of(row));
        }
        still.insert(backend, (state, since));
    }
    Ok(stranger)
}

/// Ends a backend, if it is still the same; false where we may not.
async fn end(session: &Session, backend: &Backend) -> Result<bool, Failure> {
    let (pid, start) = backend;
    let ended = session
        .client
        .query_typed(END, &[(pid, Type::INT4), (start, Type::TEXT)])
        .await;
    match ended {
        Ok(rows) => {
            if !rows.is_empty() {
                tracing::warn!(
                    pid,
                    "ended the connection of a former holder: it stood still in the middle of a transaction"
                );
            }
            Ok(true)
        }
        Err(error) if error.code().is_some_and(|code| code.code() == "42501") => Ok(false),
        Err(error) => Err(error).attempt(|| format!("end the connection {pid}"), String::new),
    }
}

impl Stranger {
    fn of(row: &Row) -> Self {
        Self {
            pid: row.get(0),
            application: row.get(5),
            user: row.get(6),
        }
    }
}
