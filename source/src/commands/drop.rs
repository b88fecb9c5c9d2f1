//! `drop`: after the last use, nothing on the server holds WAL any more.

use serde_json::json;
use tokio_postgres::Client;
use tributary_runtime::cli::Answer;
use tributary_runtime::{Error, Policy, ResultExt};

use crate::config::SourceConfig;
use tributary_postgres::database::Database;
use tributary_postgres::quote::identifier;
use tributary_postgres::slot::{Slot, drop_free, end_left_over};

/// Says what would go, and with `yes` lets it go.
pub(super) async fn run(config: &SourceConfig, yes: bool) -> Result<Answer, Error> {
    let database = config.database().map_err(Error::stop)?;
    let client = database.connect().await?;
    let name = config.slot_name();
    let slot = Slot::read(&client, &database, &name).await?;
    if let Some(slot) = &slot {
        of_this_database(slot, &name, &database)?;
        let is_left_over = match slot.half_made_by() {
            Some(process) if yes => end_left_over(&client, &database, process).await?,
            half_made => half_made.is_some(),
        };
        if !is_left_over {
            unused(slot, &name)?;
        }
    }
    let publications = publications(&client, &database, config).await?;

    let mut text = String::new();
    if let Some(slot) = &slot {
        let (held, unread) = (slot.retained_bytes(), slot.lag_bytes());
        text.push_str(&match slot.half_made_by() {
            Some(_) => format!("slot {name}, which a first start was creating\n"),
            None => format!(
                "slot {name}, which holds {held} bytes of WAL, {unread} of them not in the topics yet\n"
            ),
        });
    }
    for publication in &publications {
        text.push_str(&format!("publication {publication}\n"));
    }
    let json = json!({
        "slot": slot.as_ref().map(|_| &name),
        "publications": publications,
    });
    if text.is_empty() {
        let address = database.address();
        let text =
            format!("nothing to drop: {address} has neither slot nor publication of this source\n");
        return Ok(Answer::ok(text, json));
    }
    if !yes {
        let text = format!(
            "would drop, in {}:\n{text}the topics and what the sinks have written stay; a later `run` of this source with the \
             same topics finds a gap\n",
            database.address()
        );
        return Ok(Answer::unconfirmed(text, json));
    }
    // The slot first: it is what holds WAL.
    if slot.is_some() {
        drop_free(&client, &database, &name).await.map_err(stop)?;
    }
    for publication in &publications {
        let statement = format!("DROP PUBLICATION IF EXISTS {}", identifier(publication));
        client
            .batch_execute(&statement)
            .await
            .map_err(|e| {
                stop(database.explain(e)).remedy(format!("as its owner, run: {statement}"))
            })
            .doing(|| format!("drop publication '{publication}'"))?;
    }
    Ok(Answer::ok(format!("dropped:\n{text}"), json))
}

/// A slot of that name that is not this source's is left alone.
fn of_this_database(slot: &Slot, name: &str, database: &Database) -> Result<(), Error> {
    if slot.database.as_deref() != Some(database.name()) {
        return Err(Error::stop_msg(format!(
            "slot '{name}' exists, but in database '{}'",
            slot.database.as_deref().unwrap_or_default()
        ))
        .remedy("correct postgres.url, or `name`"));
    }
    Ok(())
}

/// So is one that somebody uses.
fn unused(slot: &Slot, name: &str) -> Result<(), Error> {
    if slot.active {
        let pid = slot
            .active_pid
            .map(|pid| format!(" by process {pid} of the server"));
        return Err(Error::stop_msg(format!(
            "slot '{name}' is in use{}: nothing was dropped",
            pid.unwrap_or_default()
        ))
        .remedy("stop the source first, all instances of it"));
    }
    Ok(())
}

async fn publications(
    client: &Client,
    database: &Database,
    config: &SourceConfig,
) -> Result<Vec<String>, Error> {
    let names = [config.slot_name(), config.keyless_publication()];
    let rows = client
        .query(
            "SELECT pubname::text FROM pg_catalog.pg_publication WHERE pubname = ANY($1::text[]) ORDER BY 1",
            &[&&names[..]],
        )
        .await
        .map_err(|e| database.explain(e))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// A command does not try again: whoever typed it does.
fn stop(error: Error) -> Error {
    match error.policy() {
        Policy::Retry => Error::stop_msg(error),
        Policy::Stop => error,
    }
}
