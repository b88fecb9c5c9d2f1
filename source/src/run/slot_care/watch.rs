//! Watches the slot for as long as the process lives, whatever the sessions do: when Kafka is away, nobody else
//! sees what the server has to keep.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tributary_runtime::Error;
use tributary_runtime::health::Health;
use tributary_schemas::Lsn;

use super::lag::LagClock;
use crate::config::{OnLimit, SlotConfig, SourceConfig};
use crate::run::status::Monitor;
use crate::telemetry;
use tributary_postgres::client::Client;
use tributary_postgres::database::Database;
use tributary_postgres::slot::{Slot, drop_held};

/// How often the slot is looked at.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// How long a look may take.
const POLL_TIMEOUT: Duration = Duration::from_secs(20);

/// For how long a slot must hold too much before it is dropped. What it holds shrinks only when the server writes a record
/// of its running transactions, which it does every 15 s: a burst alone is no reason.
const DROP_AFTER: Duration = Duration::from_secs(20);

/// Looks at the slot every few seconds.
pub(crate) struct SlotWatch {
    config: Arc<SourceConfig>,
    monitor: Arc<Monitor>,
    health: Health,
    clock: LagClock,
    /// Since when the slot holds too much.
    over_since: Option<Instant>,
    connection: Option<(Database, Client)>,
}

impl SlotWatch {
    pub(crate) fn new(config: Arc<SourceConfig>, monitor: Arc<Monitor>, health: Health) -> Self {
        Self {
            config,
            monitor,
            health,
            clock: LagClock::default(),
            over_since: None,
            connection: None,
        }
    }

    /// Never ends.
    pub(crate) async fn run(mut self) {
        loop {
            let poll = tokio::time::timeout(POLL_TIMEOUT, self.poll()).await;
            let failed = match poll {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("the server does not answer".to_owned()),
            };
            if let Some(error) = failed {
                // The session says so too, and louder.
                tracing::debug!(error, "the slot cannot be looked at");
                self.connection = None;
                self.monitor.slot_unknown();
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    async fn poll(&mut self) -> Result<(), Error> {
        let (database, client) = match self.connection.take() {
            Some(open) => open,
            None => {
                let database = self.config.database().map_err(Error::stop)?;
                let client = database.connect().await?;
                (database, client)
            }
        };
        let name = self.config.slot_name();
        let state = Slot::read(&client, &database, &name).await?;
        match state.filter(|state| state.database.as_deref() == Some(database.name())) {
            None => {
                self.over_since = None;
                self.monitor.slot_unknown();
            }
            Some(state) => {
                let over = self.look(&state);
                let since = *self.over_since.get_or_insert_with(Instant::now);
                if !over {
                    self.over_since = None;
                }
                let is_due = over && since.elapsed() >= DROP_AFTER;
                if is_due && self.config.slot.on_limit == OnLimit::DropAndResnapshot {
                    tracing::error!(
                        slot = name,
                        retained_bytes = state.retained_bytes(),
                        "the slot holds more WAL than slot.max_retained_bytes: it is dropped, and the tables are read again"
                    );
                    if let Err(error) = drop_held(&client, &database, &name).await {
                        tracing::error!(slot = name, %error, "the slot cannot be dropped; trying again");
                        return Err(error);
                    }
                    self.over_since = None;
                    metrics::counter!(telemetry::SLOT_DROPS).increment(1);
                }
            }
        }
        self.connection = Some((database, client));
        Ok(())
    }

    /// Records what was seen, warns of it, and says whether the slot holds too much.
    fn look(&mut self, state: &Slot) -> bool {
        let wal_end = state.wal_end.unwrap_or(Lsn::ZERO);
        let confirmed = state.confirmed_flush.unwrap_or(wal_end);
        let waited = self.clock.lag_seconds(wal_end, confirmed, Instant::now());
        let lag_seconds = self.monitor.lag_seconds(waited, 2 * POLL_INTERVAL);
        telemetry::slot(state, lag_seconds);
        self.monitor.slot_polled(state.clone(), lag_seconds);
        let over = self.config.slot.is_over(state);
        for (subject, warning) in warnings(&self.config.slot, state, lag_seconds) {
            let text = warning.clone();
            if !self.health.set_warning(subject, warning) {
                continue;
            }
            match text {
                Some(warning) if subject == LIMIT => tracing::error!("{warning}"),
                Some(warning) => tracing::warn!("{warning}"),
                None => tracing::info!(subject, "the warning is over"),
            }
        }
        over
    }
}

impl SlotConfig {
    fn is_over(&self, state: &Slot) -> bool {
        self.max_retained_bytes
            .is_some_and(|limit| state.retained_bytes() > limit)
    }
}

const LIMIT: &str = "slot.max_retained_bytes";

/// What there is to warn of, by subject; `None` where a warning would be over.
fn warnings(
    config: &SlotConfig,
    state: &Slot,
    lag_seconds: f64,
) -> [(&'static str, Option<String>); 4] {
    let (lag, retained) = (state.lag_bytes(), state.retained_bytes());
    let limit = config.max_retained_bytes.unwrap_or_default();
    let wal_status = match state.wal_status.as_deref() {
        Some("unreserved") => Some(
            "the slot's WAL is about to be removed (wal_status 'unreserved'): it must be read before the next checkpoint, or \
             max_slot_wal_keep_size be raised"
                .to_owned(),
        ),
        Some("lost") => Some("the slot is lost: the server has removed WAL that was not read".to_owned()),
        _ => None,
    };
    [
        (
            "slot.warn_lag_bytes",
            (lag > config.warn_lag_bytes).then(|| {
                let threshold = config.warn_lag_bytes;
                format!("the source is {lag} bytes of WAL behind, more than slot.warn_lag_bytes = {threshold}")
            }),
        ),
        (
            "slot.warn_lag_seconds",
            (lag_seconds > config.warn_lag_seconds).then(|| {
                let threshold = config.warn_lag_seconds;
                format!("the source is {lag_seconds:.0} s behind, more than slot.warn_lag_seconds = {threshold}")
            }),
        ),
        (
            LIMIT,
            config.is_over(state).then(|| {
                format!("the slot holds {retained} bytes of WAL on the server, more than slot.max_retained_bytes = {limit}")
            }),
        ),
        ("slot.wal_status", wal_status),
    ]
}

#[cfg(test)]
mod tests {
    use tributary_schemas::Lsn;

    use super::{LIMIT, Slot, warnings};
    use crate::config::{OnLimit, SlotConfig};

    fn state(restart: u64, confirmed: u64, wal_status: &str) -> Slot {
        Slot {
            active: true,
            restart: Some(Lsn(restart)),
            confirmed_flush: Some(Lsn(confirmed)),
            wal_status: Some(wal_status.to_owned()),
            wal_end: Some(Lsn(1000)),
            ..Slot::default()
        }
    }

    #[test]
    fn each_threshold_warns_by_itself() {
        let config = SlotConfig {
            warn_lag_bytes: 100,
            warn_lag_seconds: 60.0,
            max_retained_bytes: Some(500),
            on_limit: OnLimit::Alert,
        };
        let warned = |state: &Slot, seconds: f64| -> Vec<&str> {
            let all = warnings(&config, state, seconds).into_iter();
            all.filter_map(|(subject, text)| text.map(|_| subject))
                .collect()
        };
        assert!(warned(&state(500, 900, "reserved"), 60.0).is_empty());
        assert_eq!(
            warned(&state(500, 899, "extended"), 0.0),
            ["slot.warn_lag_bytes"]
        );
        assert_eq!(
            warned(&state(500, 1000, "reserved"), 61.0),
            ["slot.warn_lag_seconds"]
        );
        assert_eq!(warned(&state(499, 1000, "reserved"), 0.0), [LIMIT]);
        assert_eq!(
            warned(&state(999, 999, "unreserved"), 0.0),
            ["slot.wal_status"]
        );
        let unlimited = SlotConfig::default();
        let all = warnings(&unlimited, &state(0, 900, "reserved"), 1.0);
        assert!(all.iter().all(|(_, text)| text.is_none()), "{all:?}");
    }
}
