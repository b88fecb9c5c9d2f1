//! Behind the move of the alias: what is left of the old index and of the reindex goes, in an order in which each step may be the last one.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tributary_engine::Log;
use tributary_runtime::{Error, Policy, Result, failpoint};

use super::building::Succession;
use super::moments::DELETED;
use super::reading::Reading;
use super::site::Site;
use super::standing::Standing;
use super::swap::{Swapped, read_on};
use super::wanted::Wanted;
use crate::config::Config;
use crate::snapshot;
use crate::voice::Once;

/// How long is waited for searches that were begun on the old index.
const SEARCHES_WAIT: Duration = Duration::from_secs(600);
/// How often it is tried to delete an index that is in a snapshot.
const SNAPSHOT_LOOK: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(100);
/// How long a group may take to miss its last member, which has left.
const GROUP_WAIT: Duration = Duration::from_secs(30);

/// Does the rest; whether the old index is there still.
///
/// # Errors
/// What is in the way; the next run goes on. The new index is in use meanwhile.
pub(super) async fn finish(
    site: &Site,
    log: &Log,
    config: &Config,
    wanted: &Wanted,
    task: &Succession,
    swapped: Option<&Swapped>,
    stop: &CancellationToken,
) -> Result<bool> {
    if swapped.is_none() && !task.build.is_over {
        let mut reading = Reading::begin(config, site, task, stop)?;
        let read = read_on(site, log, task, &mut reading).await;
        let ended = reading.end().await;
        read.and(ended)?;
    }
    let old = site.index(&task.build.of).await?;
    if let Some(old) = &old {
        if wanted.keep_old {
            keep(site, old, &task.new).await?;
        } else {
            let searches = match swapped {
                Some(swapped) => swapped.searches.clone(),
                None => site.searches().await?,
            };
            wait_for_searches(site, &old.name, searches, stop).await?;
            delete(site, &old.name, stop).await?;
            failpoint::hit(DELETED);
        }
    }
    forget_group(log, &task.build.group).await?;
    if let Some(new) = site.index(&task.new).await? {
        take_names_off(site, &new).await?;
        let notes = new.notes.clone().with_build(None).with_kept(None);
        site.note(&new.name, &notes).await?;
    }
    Ok(wanted.keep_old && old.is_some())
}

/// Takes the aliases off an index that served reindexes.
///
/// # Errors
/// As [`crate::client::Client::send`].
pub(super) async fn take_names_off(site: &Site, index: &Standing) -> Result<()> {
    let names = index
        .aliases
        .keys()
        .filter(|name| name.contains("~~") && **name != site.alias);
    let actions: Vec<_> = names
        .map(|name| json!({"remove": {"index": index.name, "alias": name}}))
        .collect();
    if actions.is_empty() {
        return Ok(());
    }
    site.change_aliases(&actions).await
}

/// Deletes the group of a reindex that has ended.
///
/// # Errors
/// Kafka does not answer, or refuses.
pub(super) async fn forget_group(log: &Log, group: &str) -> Result<()> {
    let until = Instant::now() + GROUP_WAIT;
    loop {
        match log.forget(group).await {
            Err(error) if error.policy() == Policy::Retry && Instant::now() < until => {}
            done => return done,
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The old index stays, and says that it lacks what is written from now on, and from where that would be read.
async fn keep(site: &Site, old: &Standing, new: &str) -> Result<()> {
    let mut notes = old
        .notes
        .clone()
        .with_handover(None)
        .with_replaced_by(Some(new));
    if let Some(kept) = old.handover().and_then(|handover| handover.kept) {
        notes = notes.with_kept(Some(&kept));
    }
    site.note(&old.name, &notes).await?;
    take_names_off(site, old).await?;
    site.unblock(&old.name).await
}

/// Deletes an index. One that is in a snapshot stays until that is taken.
///
/// # Errors
/// Stop: interrupted. Retry: the snapshot takes too long. Otherwise as [`crate::client::Client::send`].
pub(super) async fn delete(site: &Site, old: &str, stop: &CancellationToken) -> Result<()> {
    let begun = Instant::now();
    let mut wait = Once::default();
    loop {
        match site.delete(old).await {
            Err(error) if snapshot::is_awaited(&error) && begun.elapsed() < snapshot::WAIT => {
                wait.say(|| format!("waits to delete '{old}': {error}"));
            }
            done => return done,
        }
        tokio::select! {
            () = stop.cancelled() => return Err(interrupted(old)),
            () = tokio::time::sleep(SNAPSHOT_LOOK) => {}
        }
    }
}

fn interrupted(old: &str) -> Error {
    Error::stop_msg(format_args!("interrupted: '{old}' is not deleted yet"))
        .remedy("run the command again, which clears up")
}

/// An index that is deleted under a search fails it, or gives an answer without its hits (measured). Scrolls are searches that wait.
async fn wait_for_searches(
    site: &Site,
    old: &str,
    mut searches: BTreeSet<String>,
    stop: &CancellationToken,
) -> Result<()> {
    let begun = Instant::now();
    let mut wait = Once::default();
    loop {
        let running = site.searches().await?;
        searches.retain(|search| running.contains(search));
        let open = site.open_contexts(old).await?;
        if searches.is_empty() && open == 0 {
            return Ok(());
        }
        if begun.elapsed() >= SEARCHES_WAIT {
            return Err(Error::stop_msg(format_args!(
                "searches still use '{old}' after {} s ({} of before, {open} open): it is not deleted yet",
                SEARCHES_WAIT.as_secs(),
                searches.len()
            ))
            .remedy("run the command again later, which deletes it; or with --keep-old"));
        }
        if begun.elapsed() > Duration::from_secs(3) {
            wait.say(|| format!("waits for searches that use '{old}'"));
        }
        tokio::select! {
            () = stop.cancelled() => return Err(interrupted(old)),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::http::StatusCode;
    use serde_json::json;
    use tokio_util::sync::CancellationToken;

    use super::super::site::tests::site;
    use super::{delete, interrupted};
    use crate::snapshot;

    /// An engine at which so many deletions meet a snapshot.
    fn engine(snapshots: usize) -> Router {
        let asked = Arc::new(AtomicUsize::new(0));
        Router::new().fallback(async move || {
            if asked.fetch_add(1, Ordering::SeqCst) < snapshots {
                let error =
                    json!({"type": "snapshot_in_progress_exception", "reason": "Try again"});
                return (
                    StatusCode::BAD_REQUEST,
                    json!({ "error": error }).to_string(),
                );
            }
            (StatusCode::OK, json!({"acknowledged": true}).to_string())
        })
    }

    #[tokio::test]
    async fn an_index_that_is_in_a_snapshot_is_deleted_once_that_is_taken() {
        let stop = CancellationToken::new();
        let soon = site(engine(2)).await;
        delete(&soon, "t-000001", &stop).await.unwrap();

        let site = site(engine(usize::MAX)).await;
        let error = site.delete("t-000001").await.unwrap_err();
        assert!(snapshot::is_awaited(&error), "{error}");
        assert!(error.remedy_text().is_some());
        stop.cancel();
        let error = delete(&site, "t-000001", &stop).await.unwrap_err();
        assert_eq!(error.to_string(), interrupted("t-000001").to_string());
    }
}
