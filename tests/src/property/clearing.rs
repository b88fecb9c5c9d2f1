//! Leaves nothing of a world behind in the servers.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::config::ClientConfig;
use tokio_postgres::Client;

use crate::pipeline::Pipeline;
use crate::service::Service;

const PATIENCE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(20);

/// Ends the source, and removes its slots, these topics, those that every world has, and the databases.
///
/// # Errors
/// The source does not end well, or a server refuses.
pub(super) async fn clear(
    mut source: Service,
    client: &Client,
    pipeline: &Pipeline,
    kafka: &str,
    topics: impl Iterator<Item = String>,
) -> Result<()> {
    let ended = tokio::task::block_in_place(|| source.stop(PATIENCE))?;
    ensure!(ended.success(), "the source's end: {ended}");
    // The server may still be at a slot that the source does not wait for any more.
    let slots = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
        WHERE database = current_database() AND NOT active";
    let held = "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE database = current_database())
        OR EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'walsender')";
    let deadline = Instant::now() + PATIENCE;
    loop {
        client.batch_execute(slots).await?;
        if !client.query_one(held, &[]).await?.get::<_, bool>(0) {
            break;
        }
        ensure!(Instant::now() < deadline, "a slot is still held");
        tokio::time::sleep(POLL).await;
    }
    let admin: AdminClient<_> = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .create()?;
    let prefix = pipeline.prefix();
    let mut topics: Vec<String> = topics.collect();
    topics.extend([format!("{prefix}.progress"), format!("{prefix}.mark.mark")]);
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    admin.delete_topics(&topics, &AdminOptions::new()).await?;
    pipeline.remove().await
}
