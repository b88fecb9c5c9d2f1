//! How long a sink of Kafka Connect may take.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::debezium::ConnectSink;

const LIMIT: Duration = Duration::from_secs(1200);
/// How long the beginning may remain unnoticed.
pub(super) const POLL: Duration = Duration::from_millis(10);

/// Waits for a moment, unless the sink has failed or it has taken too long.
pub(super) async fn wait(sink: &mut ConnectSink, started: Instant, pause: Duration) -> Result<()> {
    sink.alive()?;
    if started.elapsed() > LIMIT {
        bail!(
            "it does not write all rows; its log ends:\n{}",
            sink.log_tail()
        );
    }
    tokio::time::sleep(pause).await;
    Ok(())
}
