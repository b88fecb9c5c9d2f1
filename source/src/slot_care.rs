//! What the slot holds on the server, and what is done when that is too much.

mod give_up;
mod lag;
mod watch;

use tokio_postgres::Client;
use tributary_schemas::Lsn;

pub(crate) use give_up::{drop_free, drop_held};
pub(crate) use watch::Watch;

/// A slot as the server shows it, and where the server's WAL ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlotState {
    pub(crate) database: Option<String>,
    pub(crate) active: bool,
    /// The server process of the holder.
    pub(crate) active_pid: Option<i32>,
    /// The oldest WAL that the slot still needs.
    pub(crate) restart: Option<Lsn>,
    pub(crate) confirmed_flush: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub(crate) wal_status: Option<String>,
    /// How much more WAL may be written before the slot is in danger; none without `max_slot_wal_keep_size`.
    pub(crate) safe_wal_bytes: Option<i64>,
    /// The end of the server's WAL.
    pub(crate) wal_end: Lsn,
}

impl SlotState {
    /// Reads a slot; `None` if there is none of that name.
    pub(crate) async fn read(
        client: &Client,
        name: &str,
    ) -> Result<Option<Self>, tokio_postgres::Error> {
        let query = "SELECT database::text, active, active_pid, restart_lsn::text, confirmed_flush_lsn::text, wal_status,
                safe_wal_size,
                CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_receive_lsn()
                    ELSE pg_catalog.pg_current_wal_lsn() END::text
            FROM pg_catalog.pg_replication_slots WHERE slot_name = $1";
        let Some(row) = client.query_opt(query, &[&name]).await? else {
            return Ok(None);
        };
        let lsn = |column: usize| {
            let text: Option<&str> = row.get(column);
            text.and_then(|text| text.parse::<Lsn>().ok())
        };
        Ok(Some(Self {
            database: row.get(0),
            active: row.get(1),
            active_pid: row.get(2),
            restart: lsn(3),
            confirmed_flush: lsn(4),
            wal_status: row.get(5),
            safe_wal_bytes: row.get(6),
            wal_end: lsn(7).unwrap_or(Lsn::ZERO),
        }))
    }

    /// How much WAL the server keeps for it, in bytes.
    pub(crate) fn retained_bytes(&self) -> u64 {
        self.restart
            .map_or(0, |restart| self.wal_end.bytes_since(restart))
    }

    /// How much WAL is not confirmed, in bytes.
    pub(crate) fn lag_bytes(&self) -> u64 {
        self.confirmed_flush
            .map_or(0, |confirmed| self.wal_end.bytes_since(confirmed))
    }
}
