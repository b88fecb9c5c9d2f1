//! Waiting for the slot while somebody else holds it, which is what all instances of a source but one do.

use std::time::{Duration, Instant};

use tokio_postgres::Client;
use tributary_runtime::Error;
use tributary_runtime::health::Health;

use crate::config::SourceConfig;
use tributary_postgres::database::Database;
use tributary_postgres::fault::ObjectInUse;
use tributary_postgres::slot::{Slot, end_left_over};

/// How often it is looked whether the slot is free.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How often the log says that we wait.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// What one wait says in the log. It outlives sessions: when the holder ends, several instances may try, and all but one
/// wait on.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    /// Since when, and when it was said last.
    told: Option<(Instant, Instant)>,
}

impl Waiting {
    /// The slot is held by somebody else.
    fn tell(&mut self, what: &str) {
        let now = Instant::now();
        match &mut self.told {
            None => {
                tracing::info!("waiting: {what}");
                self.told = Some((now, now));
            }
            Some((since, told)) if now.duration_since(*told) >= LOG_INTERVAL => {
                let waited_seconds = now.duration_since(*since).as_secs();
                tracing::info!(waited_seconds, "still waiting: {what}");
                *told = now;
            }
            Some(_) => {}
        }
    }

    /// The slot is ours.
    pub(crate) fn is_over(&mut self) {
        if let Some((since, _)) = self.told.take() {
            let waited_seconds = since.elapsed().as_secs();
            tracing::info!(waited_seconds, "the slot is free, and ours");
        }
    }
}

/// Whether a session ended only because another instance was faster.
pub(crate) fn is_held_by_another(error: &Error) -> bool {
    error.cause().downcast_ref::<ObjectInUse>().is_some()
}

/// Waits until nobody holds the slot, and returns it, if there is one.
///
/// # Errors
/// The slot is not ours, or the server is away.
pub(crate) async fn wait_until_free(
    client: &Client,
    database: &Database,
    config: &SourceConfig,
    health: &Health,
    waiting: &mut Waiting,
) -> Result<Option<Slot>, Error> {
    let name = config.slot_name();
    loop {
        let Some(slot) = Slot::read(client, database, &name).await? else {
            return Ok(None);
        };
        slot.ours(&name, config.postgres.plugin, database)?;
        let Some(holder) = slot.active_pid else {
            return Ok(Some(slot));
        };
        let is_half_made = slot.half_made_by().is_some();
        if is_half_made && end_left_over(client, database, holder).await? {
            tracing::info!(
                slot = name,
                "a first start was killed while it created the slot: what is left of it is removed"
            );
        } else {
            let doing = if is_half_made { "is creating" } else { "holds" };
            let what = format!(
                "process {holder} of the server {doing} slot '{name}': another instance of this source works, or has just \
                 ended"
            );
            waiting.tell(&what);
            health.set_phase("waiting for the slot");
            health.set_ready(false, format!("waiting: {what}"));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
