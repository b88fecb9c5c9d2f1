//! The replication slot on the server.

mod creation;
mod drop;

use serde::Deserialize;
use tokio_postgres::Client;
use tributary_runtime::{Error, ResultExt};
use tributary_schemas::Lsn;

use crate::plugin::Plugin;
pub use creation::{Awaited, Reminder, SlotCreation};
pub use drop::{drop_free, drop_held, end_left_over};

use crate::database::Database;
use crate::quote::literal;

/// A replication slot as `pg_replication_slots` shows it, and where the server's WAL ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Slot {
    /// The plug-in that it was created with.
    pub plugin: Option<String>,
    /// The database that it decodes.
    pub database: Option<String>,
    /// Whether somebody holds it.
    pub active: bool,
    /// The server process of the holder.
    pub active_pid: Option<i32>,
    /// The oldest WAL that the slot still needs.
    #[serde(rename = "restart_lsn")]
    pub restart: Option<Lsn>,
    /// Up to where it was confirmed.
    #[serde(rename = "confirmed_flush_lsn")]
    pub confirmed_flush: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved`, or `lost`: then the server has removed WAL that it still needs.
    pub wal_status: Option<String>,
    /// How much more WAL may be written before the slot is in danger; none without `max_slot_wal_keep_size`.
    #[serde(rename = "safe_wal_size")]
    pub safe_wal_bytes: Option<i64>,
    /// The slot needed rows that are removed. PG 16 and later.
    pub conflicting: Option<bool>,
    /// PG 17 and later.
    pub invalidation_reason: Option<String>,
    /// Whether standbys keep a copy. PG 17 and later.
    pub failover: Option<bool>,
    /// The end of the server's WAL.
    pub wal_end: Option<Lsn>,
}

impl Slot {
    /// Reads a slot; `None` if there is none of that name.
    ///
    /// # Errors
    /// The server is away.
    pub async fn read(
        client: &Client,
        database: &Database,
        name: &str,
    ) -> Result<Option<Self>, Error> {
        // As JSON: which columns there are depends on the server's version.
        let query = "SELECT (pg_catalog.to_jsonb(s) || pg_catalog.jsonb_build_object('wal_end',
                CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_receive_lsn()
                    ELSE pg_catalog.pg_current_wal_lsn() END))::text
            FROM pg_catalog.pg_replication_slots s WHERE slot_name = $1";
        let row = client
            .query_opt(query, &[&name])
            .await
            .map_err(|e| database.explain(e))?;
        row.map(|row| serde_json::from_str(row.get(0)).map_err(Error::stop))
            .transpose()
            .doing(|| format!("read slot '{name}'"))
    }

    /// How much WAL the server keeps for it, in bytes.
    pub fn retained_bytes(&self) -> u64 {
        self.bytes_since(self.restart)
    }

    /// How much WAL is not confirmed, in bytes.
    pub fn lag_bytes(&self) -> u64 {
        self.bytes_since(self.confirmed_flush)
    }

    fn bytes_since(&self, lsn: Option<Lsn>) -> u64 {
        let end = self.wal_end.unwrap_or(Lsn::ZERO);
        lsn.map_or(0, |lsn| end.bytes_since(lsn))
    }

    /// The server process that is only creating it, if one is: if that fails, the slot is gone.
    pub fn half_made_by(&self) -> Option<i32> {
        match self.confirmed_flush {
            None => self.active_pid,
            Some(_) => None,
        }
    }

    /// Refuses a slot that is not ours.
    ///
    /// # Errors
    /// It belongs to another database, or has another plug-in.
    pub fn ours(&self, name: &str, plugin: Plugin, database: &Database) -> Result<(), Error> {
        let (found, of) = (
            self.plugin.as_deref().unwrap_or_default(),
            self.database.as_deref().unwrap_or_default(),
        );
        if of != database.name() {
            return Err(Error::stop_msg(format!(
                "slot '{name}' exists, but for plug-in '{found}' in database '{of}'"
            ))
            .remedy("give this source another `name`, or drop that slot"));
        }
        // One that is being created has none for a moment.
        if found != plugin.name() && !found.is_empty() {
            return Err(Error::stop_msg(format!(
                "slot '{name}' was created for plug-in '{found}', postgres.plugin is '{}': a slot keeps its plug-in",
                plugin.name()
            ))
            .remedy(format!("set postgres.plugin = \"{found}\"; or give this source another `name` and kafka.topic_prefix, which takes a new snapshot, and drop the slot")));
        }
        Ok(())
    }

    /// Why nothing can be read from it any more.
    pub fn lost(&self) -> Option<&str> {
        match (&self.invalidation_reason, self.wal_status.as_deref()) {
            (Some(reason), _) => Some(reason),
            (None, Some("lost")) => Some("wal_removed"),
            _ => (self.conflicting == Some(true)).then_some("conflicting"),
        }
    }

    /// Refuses a slot that is not ours, or that nothing can be read from.
    ///
    /// # Errors
    /// What it is instead, and what to do.
    pub fn usable(&self, name: &str, plugin: Plugin, database: &Database) -> Result<(), Error> {
        self.ours(name, plugin, database)?;
        match self.lost() {
            None => Ok(()),
            Some(reason) => Err(Error::stop_msg(format!("slot '{name}' is lost ({reason}): the server has removed what was not read yet"))
                .remedy(format!("set on_gap = \"resnapshot\"; or SELECT pg_drop_replication_slot({}), and start over with a new topic prefix", literal(name)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Slot;

    fn slot(columns: &str) -> Slot {
        serde_json::from_str(columns).unwrap()
    }

    #[test]
    fn every_version_tells_a_lost_slot_in_its_way() {
        let fourteen = r#"{"slot_name": "s", "wal_status": "lost", "confirmed_flush_lsn": "0/10"}"#;
        assert_eq!(slot(fourteen).lost(), Some("wal_removed"));
        let sixteen = r#"{"wal_status": "reserved", "conflicting": true}"#;
        assert_eq!(slot(sixteen).lost(), Some("conflicting"));
        let eighteen = r#"{"wal_status": "lost", "conflicting": null, "invalidation_reason": "idle_timeout", "failover": true}"#;
        assert_eq!(slot(eighteen).lost(), Some("idle_timeout"));
        let healthy = slot(
            r#"{"wal_status": "extended", "confirmed_flush_lsn": "0/10", "invalidation_reason": null}"#,
        );
        assert_eq!(healthy.lost(), None);
        assert_eq!(healthy.half_made_by(), None);
        assert_eq!(healthy.confirmed_flush.unwrap().0, 0x10);
    }

    #[test]
    fn a_slot_that_is_being_created_confirms_nothing_yet() {
        let held = r#"{"wal_status": "reserved", "active": true, "active_pid": 7, "confirmed_flush_lsn": null}"#;
        assert_eq!(slot(held).half_made_by(), Some(7));
        let made = r#"{"active_pid": 7, "confirmed_flush_lsn": "0/10"}"#;
        assert_eq!(slot(made).half_made_by(), None);
    }
}
