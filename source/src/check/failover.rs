//! What a failover would need and lacks, where `postgres.url` names several hosts.

use tokio_postgres::Client;
use tributary_runtime::{Error, Problem};

use crate::config::{OnGap, SourceConfig};
use tributary_postgres::database::Database;

/// Checks the primary, and the standbys among the hosts that answer.
pub(super) async fn problems(
    config: &SourceConfig,
    all: &Database,
    primary: &Database,
    client: &Client,
) -> Result<Vec<Problem>, Error> {
    let hosts = all.hosts();
    let mut problems = Vec::new();
    if hosts.len() < 2 {
        return Ok(problems);
    }
    let version = "SELECT pg_catalog.current_setting('server_version_num')::int";
    let version = client.query_one(version, &[]);
    let version: i32 = version.await.map_err(|e| primary.explain(e))?.get(0);
    if version < 170_000 {
        if config.on_gap == OnGap::Stop {
            let message = "PostgreSQL before 17 keeps no slot on a standby: after a failover the source would stop at a gap";
            problems.push(Problem::new(message).remedy(
                "set on_gap = \"resnapshot\" (every row is read again then), or upgrade to PostgreSQL 17",
            ));
        }
        return Ok(problems);
    }
    if setting(client, primary, "synchronized_standby_slots")
        .await?
        .is_none_or(|slots| slots.is_empty())
    {
        let message = format!(
            "synchronized_standby_slots is empty on {}: the source could publish what a promoted standby lacks",
            primary.address()
        );
        problems.push(Problem::new(message).remedy(
            "ALTER SYSTEM SET synchronized_standby_slots = 'the physical slots of the standbys', then SELECT pg_reload_conf()",
        ));
    }
    for host in hosts {
        if host.address() == primary.address() {
            continue;
        }
        match host.open().await {
            Ok(client) => problems.extend(standby(&host, &client).await?),
            Err(error) => problems.push(Problem::from(&error)),
        }
    }
    Ok(problems)
}

/// What keeps a standby from having a copy of the slot.
async fn standby(host: &Database, client: &Client) -> Result<Vec<Problem>, Error> {
    let mut problems = Vec::new();
    let recovery = client.query_one("SELECT pg_catalog.pg_is_in_recovery()", &[]);
    if !recovery
        .await
        .map_err(|e| host.explain(e))?
        .get::<_, bool>(0)
    {
        let message = format!("{} takes writes as well: two primaries", host.address());
        problems.push(Problem::new(message).remedy("end the one of old, or make it a standby"));
        return Ok(problems);
    }
    for (name, wanted) in [
        ("sync_replication_slots", "on"),
        ("hot_standby_feedback", "on"),
    ] {
        if setting(client, host, name).await?.as_deref() != Some(wanted) {
            let message = format!("{name} is not {wanted} on the standby {}", host.address());
            let remedy = format!(
                "there: ALTER SYSTEM SET {name} = '{wanted}', then SELECT pg_reload_conf()"
            );
            problems.push(Problem::new(message).remedy(remedy));
        }
    }
    if setting(client, host, "primary_slot_name")
        .await?
        .is_some_and(|name| name.is_empty())
    {
        let message = format!(
            "primary_slot_name is empty on the standby {}",
            host.address()
        );
        problems.push(Problem::new(message).remedy(
            "on the primary: SELECT pg_create_physical_replication_slot('standby'); on the standby: ALTER SYSTEM SET \
             primary_slot_name = 'standby', then SELECT pg_reload_conf(); primary_conninfo must name a dbname",
        ));
    }
    Ok(problems)
}

/// A setting, where there is one and we may see it.
async fn setting(
    client: &Client,
    database: &Database,
    name: &str,
) -> Result<Option<String>, Error> {
    let query = "SELECT setting FROM pg_catalog.pg_settings WHERE name = $1";
    let row = client
        .query_opt(query, &[&name])
        .await
        .map_err(|e| database.explain(e))?;
    Ok(row.and_then(|row| row.get(0)))
}
