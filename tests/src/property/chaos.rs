//! What happens to the source while it works.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio_postgres::Client;

use crate::service::Service;

/// How long an orderly end may take.
const STOP: Duration = Duration::from_secs(60);

/// Kills, stops or cuts off the source at random times, until told to end; leaves it running. Gives it back, and how
/// often it was hit.
pub(super) async fn torment(
    mut source: Service,
    database: Client,
    seed: u64,
    over: Arc<AtomicBool>,
) -> Result<(Service, usize)> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut hits = 0;
    while !over.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(rng.random_range(20..900))).await;
        match rng.random_range(0..10) {
            // The stream's connection is cut: the session begins again, the process stays.
            0..2 => {
                let cut = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active_pid IS NOT NULL AND database = current_database()";
                database.batch_execute(cut).await?;
            }
            2 => {
                // Other connections must go on: the source may wait for a lock that one of them holds.
                tokio::task::block_in_place(|| source.stop(STOP))?;
                source.start()?;
            }
            _ => {
                tokio::task::block_in_place(|| source.kill())?;
                source.start()?;
            }
        }
        hits += 1;
    }
    Ok((source, hits))
}
