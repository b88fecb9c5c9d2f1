//! Creates slots, and tells what the server waits for meanwhile: the transactions that were open already.

use std::fmt;
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use crate::quote::literal;
use crate::replication::{CreatedSlot, ReplicationConnection, ReplicationError};

/// How often it is asked what the server waits for.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How often the log says what it waits for.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// How long an answer may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// A transaction that must end before a slot can be created.
#[derive(Debug, Clone, PartialEq)]
pub struct Awaited {
    xid: String,
    holder: Holder,
    user: String,
    database: String,
    /// In seconds; none where we may not see it.
    age: Option<f64>,
    /// For how long the server has waited for it, in seconds.
    waited: f64,
}

/// Who can end it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Holder {
    /// A server process.
    Process(i32),
    /// Nobody but who names its identifier.
    Prepared(String),
}

impl Awaited {
    /// What the server process of a connection of ours waits for. Needs no privilege; the age of another role's
    /// transaction is shown to members of `pg_read_all_stats` only.
    async fn find(client: &Client, process: i32) -> Result<Option<Self>, tokio_postgres::Error> {
        // A prepared transaction's lock has no process.
        let query = "SELECT w.transactionid::text, h.pid, p.gid, COALESCE(p.owner, a.usename)::text,
                COALESCE(p.database, a.datname)::text,
                EXTRACT(EPOCH FROM pg_catalog.clock_timestamp() - COALESCE(p.prepared, a.xact_start))::float8,
                COALESCE(EXTRACT(EPOCH FROM pg_catalog.clock_timestamp() - w.waitstart), 0)::float8
            FROM pg_catalog.pg_locks w
            JOIN pg_catalog.pg_locks h ON h.locktype = 'transactionid' AND h.transactionid = w.transactionid AND h.granted
            LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = h.pid
            LEFT JOIN pg_catalog.pg_prepared_xacts p ON p.transaction = w.transactionid
            WHERE w.pid = $1 AND w.locktype = 'transactionid' AND NOT w.granted";
        let Some(row) = client.query(query, &[&process]).await?.into_iter().next() else {
            return Ok(None);
        };
        let holder = match (row.get(1), row.get(2)) {
            (Some(pid), _) => Holder::Process(pid),
            (None, Some(gid)) => Holder::Prepared(gid),
            // It has just ended.
            (None, None) => return Ok(None),
        };
        let text = |column: usize| row.get::<_, Option<String>>(column);
        Ok(Some(Self {
            xid: row.get(0),
            holder,
            user: text(3).unwrap_or_else(|| "unknown".to_owned()),
            database: text(4).unwrap_or_else(|| "unknown".to_owned()),
            age: row.get(5),
            waited: row.get(6),
        }))
    }
}

impl fmt::Display for Awaited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            xid,
            holder,
            user,
            database,
            age,
            waited,
        } = self;
        let prepared = match holder {
            Holder::Process(pid) => {
                write!(f, "transaction {xid} of process {pid}")?;
                false
            }
            Holder::Prepared(gid) => {
                write!(f, "transaction {xid}, prepared as {}", literal(gid))?;
                true
            }
        };
        write!(f, ", user '{user}', database '{database}', ")?;
        match age {
            Some(age) if prepared => write!(f, "prepared {age:.0} s ago")?,
            Some(age) => write!(f, "open for {age:.0} s")?,
            None => write!(f, "open for more than {waited:.0} s")?,
        }
        match holder {
            Holder::Process(pid) => {
                write!(f, " (SELECT pg_terminate_backend({pid}) would end it)")
            }
            Holder::Prepared(gid) => write!(
                f,
                " (COMMIT PREPARED or ROLLBACK PREPARED {} would end it)",
                literal(gid)
            ),
        }
    }
}

/// When the log is to say again what is waited for: when that is another transaction, and now and then.
#[derive(Debug, Default)]
pub struct Reminder {
    told: Option<(String, Instant)>,
}

impl Reminder {
    /// Whether to say it now.
    pub fn is_due(&mut self, awaited: &Awaited) -> bool {
        let is_known = self
            .told
            .as_ref()
            .is_some_and(|(xid, at)| *xid == awaited.xid && at.elapsed() < LOG_INTERVAL);
        if !is_known {
            self.told = Some((awaited.xid.clone(), Instant::now()));
        }
        !is_known
    }
}

/// A slot that is to be created.
pub struct SlotCreation<'a> {
    /// For questions about it: another connection than the one that creates it.
    pub client: &'a Client,
    /// Its name.
    pub name: &'a str,
    /// The output plug-in.
    pub plugin: &'a str,
    /// Whether it goes with its connection.
    pub temporary: bool,
}

impl SlotCreation<'_> {
    /// Creates the slot with an exported snapshot. While that waits, `told` hears every few seconds what for.
    ///
    /// Killed, it leaves nothing for longer than a few seconds: the server looks whether we are still there.
    ///
    /// # Errors
    /// The server's, as of [`ReplicationConnection::create_slot_exporting_snapshot`].
    pub async fn run(
        &self,
        connection: &mut ReplicationConnection,
        told: impl FnMut(&Awaited),
    ) -> Result<CreatedSlot, ReplicationError> {
        // The last SQL before: it starts the server's clock as well.
        let process = connection.backend_pid().await?;
        let (name, plugin) = (self.name, self.plugin);
        let creating = async {
            if self.temporary {
                let created = connection.create_temporary_slot_exporting_snapshot(name, plugin);
                created.await
            } else {
                connection
                    .create_slot_exporting_snapshot(name, plugin)
                    .await
            }
        };
        tokio::select! {
            created = creating => created,
            never = self.watch(process, told) => match never {},
        }
    }

    async fn watch(
        &self,
        process: i32,
        mut told: impl FnMut(&Awaited),
    ) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let found = Awaited::find(self.client, process);
            match tokio::time::timeout(LOOK_TIMEOUT, found).await {
                Ok(Ok(Some(awaited))) => told(&awaited),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => tracing::debug!(%error, "what the slot waits for is not known"),
                Err(_) => tracing::debug!("what the slot waits for is not known: no answer"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Awaited, Holder};

    #[test]
    fn what_is_waited_for_has_a_process_an_age_and_a_user() {
        let mut awaited = Awaited {
            xid: "725".to_owned(),
            holder: Holder::Process(17),
            user: "app".to_owned(),
            database: "shop".to_owned(),
            age: Some(63.4),
            waited: 2.0,
        };
        assert_eq!(
            awaited.to_string(),
            "transaction 725 of process 17, user 'app', database 'shop', open for 63 s \
             (SELECT pg_terminate_backend(17) would end it)"
        );
        awaited.age = None;
        assert!(awaited.to_string().contains("open for more than 2 s"));
        awaited.holder = Holder::Prepared("it's".to_owned());
        awaited.age = Some(5.0);
        assert_eq!(
            awaited.to_string(),
            "transaction 725, prepared as 'it''s', user 'app', database 'shop', prepared 5 s ago \
             (COMMIT PREPARED or ROLLBACK PREPARED 'it''s' would end it)"
        );
    }
}
