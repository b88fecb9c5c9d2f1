//! The new index takes the place of the one in use. For that writes to the old one are blocked for a moment, by the engine itself: what
//! the service has written by then is in the log, so the new index has all of it once it is read to where the log ends then, and
//! no search sees a row as it was before.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tributary_engine::Log;
use tributary_runtime::{Error, Policy, Result, failpoint};

use super::building::{Succession, goes_on_elsewhere, take_back};
use super::compare::{Compared, compare};
use super::level::Both;
use super::moments::{BLOCKED, SWAPPED};
use super::reading::{Reading, begun_anew, interrupted};
use super::site::Site;
use super::standing::Standing;
use super::wanted::Wanted;
use crate::config::Config;
use crate::naming;
use crate::requests::written_by;
use crate::snapshot;
use crate::succession::{Build, Handover, Kept};
use crate::voice::{Once, Teller, say};

/// How long writes may wait until the new index is where the old one stands, and then for the alias to be moved: both together far less
/// than a running service takes for the sign of a reindex that has died.
const WINDOW: Duration = Duration::from_secs(8);
const MOVE_WAIT: Duration = Duration::from_secs(5);
/// How often handing over is tried, and how long is waited in between.
const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_secs(3);
/// How long shards may take to get copies where none is being set up.
const HEALTH_WAIT: Duration = Duration::from_secs(10);
/// How long a service that stops, for the alias is none, may be in its group.
const GROUP_WAIT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(200);

/// The new index is in use.
#[derive(Debug)]
pub(super) struct Swapped {
    /// How long writes waited.
    pub(super) window: Duration,
    pub(super) counts: Option<Counts>,
    pub(super) compared: Option<Compared>,
    /// The searches that ran when it had happened.
    pub(super) searches: BTreeSet<String>,
}

/// Documents of the old index and of the new one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub(super) old: u64,
    pub(super) new: u64,
}

/// What of a reindex stays the same.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stage<'a> {
    site: &'a Site,
    log: &'a Log,
    wanted: &'a Wanted,
    task: &'a Succession,
    stop: &'a CancellationToken,
}

/// Reads the topic into the new index, puts it in the place of the old one, and reads on to where the log ends then.
///
/// # Errors
/// What is in the way. The old index is in use then, and written to, unless the error says otherwise.
pub(super) async fn build_and_swap(
    site: &Site,
    log: &Log,
    config: &Config,
    wanted: &Wanted,
    task: &Succession,
    stop: &CancellationToken,
) -> Result<Swapped> {
    let mut reading = Reading::begin(config, site, task, stop)?;
    let stage = Stage {
        site,
        log,
        wanted,
        task,
        stop,
    };
    let swapped = stage.carry_out(&mut reading).await;
    let ended = reading.end().await;
    let swapped = swapped?;
    ended.map(|()| swapped)
}

/// Reads to where the log ends now: what the service has written to the old index up to the last moment is below.
///
/// # Errors
/// What stops the reading; that the command is interrupted.
pub(super) async fn read_on(
    site: &Site,
    log: &Log,
    task: &Succession,
    reading: &mut Reading<'_>,
) -> Result<()> {
    let ends = log.ends().await?;
    reading.until(&ends, None).await?;
    let new = in_use(site, &task.new).await?;
    let build = new.build().unwrap_or_else(|| task.build.clone());
    let over = Build {
        is_over: true,
        ..build
    };
    site.note(&task.new, &new.notes.with_build(Some(&over)))
        .await
}

async fn in_use(site: &Site, name: &str) -> Result<Standing> {
    let found = site.index(name).await?;
    found.ok_or_else(|| {
        Error::stop_msg(format_args!("the index '{name}' is gone"))
            .remedy("run `reindex` again: it begins anew")
    })
}

impl Stage<'_> {
    async fn carry_out(&self, reading: &mut Reading<'_>) -> Result<Swapped> {
        let (site, new) = (self.site, self.task.new.as_str());
        let ends = self.log.ends().await?;
        let mut teller = Teller::new(&site.alias);
        reading.until(&ends, Some(&mut teller)).await?;
        drop(teller);
        // Of a deletion whose tombstone is gone before it is read nothing is known.
        if let Some(mark) = in_use(site, new).await?.mark {
            self.log.check(&mark).await.map_err(begun_anew)?;
        }
        let old = self.old().await?;
        site.set(new, old.settings_to_serve()).await?;
        site.refresh_patiently(new).await?;
        self.wait_for_copies(old.has_replicas()).await?;
        if old.is_plain {
            self.hand_to_service(reading).await?;
        }
        let compared = self.compare(reading, &old).await?;
        let mut swapped = self.swap(reading).await?;
        swapped.compared = compared;
        failpoint::hit(SWAPPED);
        read_on(site, self.log, self.task, reading).await?;
        Ok(swapped)
    }

    /// Compares all documents, where that is asked for.
    async fn compare(&self, reading: &mut Reading<'_>, old: &Standing) -> Result<Option<Compared>> {
        let Some(mark) = old.mark.as_ref().filter(|_| self.wanted.compare_documents) else {
            return Ok(None);
        };
        let new = in_use(self.site, &self.task.new).await?;
        let both = Both {
            reading,
            log: self.log,
            generation: &mark.generation,
            old: &old.name,
            new: &new.name,
            stop: self.stop,
        };
        let compared = compare(self.site, (old, &new), self.stop, both).await?;
        Ok(Some(compared))
    }

    /// Tries to hand over until that is done.
    async fn swap(&self, reading: &mut Reading<'_>) -> Result<Swapped> {
        let (new, mut late, mut attempt) = (&self.task.new, 0, 0);
        let mut wait = Once::default();
        let begun = Instant::now();
        while late < TRIES {
            attempt += 1;
            match self.hand_over(reading, attempt).await {
                Ok(Some(swapped)) => return Ok(swapped),
                Ok(None) => {
                    late += 1;
                    say(
                        "the new index was not up to date in time: that is undone, and tried again",
                    );
                }
                // The move is to delete the old index. That takes long, and its writes are blocked in any case.
                Err(error) if snapshot::is_awaited(&error) && begun.elapsed() < snapshot::WAIT => {
                    wait.say(|| format!("waits: {error}"));
                }
                Err(error) => return Err(error),
            }
            tokio::select! {
                () = self.stop.cancelled() => return Err(interrupted(new)),
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
        Err(Error::stop_msg(format_args!(
            "'{new}' was {TRIES} times not up to date within {} s while writes waited",
            WINDOW.as_secs()
        ))
        .remedy("run the command again while less is written; it goes on with what is there"))
    }

    /// The index in use, which must be the one that is to be replaced.
    async fn old(&self) -> Result<Standing> {
        let current = self.site.look().await?.current;
        let of = &self.task.build.of;
        if current.name == *of {
            return Ok(current);
        }
        let alias = &self.site.alias;
        Err(Error::stop_msg(format_args!(
            "'{alias}' led to '{of}' when the reindex began, and leads to '{}' now",
            current.name
        ))
        .remedy(format!(
            "run `reindex --index {alias} --abandon --yes`, and `reindex` again"
        )))
    }

    /// Waits until all shards can be searched, and have their copies where that is to be had.
    async fn wait_for_copies(&self, has_replicas: bool) -> Result<()> {
        let new = self.task.new.as_str();
        let (begun, mut since, mut wait) = (Instant::now(), Instant::now(), Once::default());
        loop {
            let (status, initializing) = self.site.health(new).await?;
            if status == "green" || (status == "yellow" && !has_replicas) {
                return Ok(());
            }
            if initializing > 0 {
                since = Instant::now();
            }
            if since.elapsed() >= HEALTH_WAIT && status == "yellow" {
                say(&format!(
                    "'{new}' is yellow, and no copy of its shards is being set up: goes on"
                ));
                return Ok(());
            }
            if begun.elapsed() >= HEALTH_WAIT {
                let why = match status.as_str() {
                    "red" => ", a shard of it is not there: see GET /_cluster/allocation/explain",
                    _ => ", copies of its shards are being set up",
                };
                wait.say(|| format!("waits: '{new}' is {status}{why}"));
            }
            tokio::select! {
                () = self.stop.cancelled() => return Err(interrupted(new)),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// The service has read nothing for the new index. It is to go on where that ends, and not to read the whole topic again.
    async fn hand_to_service(&self, reading: &mut Reading<'_>) -> Result<()> {
        let (log, new) = (self.log, &self.task.new);
        let ends = log.ends().await?;
        reading.until(&ends, None).await?;
        let Some(mark) = in_use(self.site, new).await?.mark else {
            return Ok(());
        };
        let until = Instant::now() + GROUP_WAIT;
        while let Err(error) = log.hand_to_service(&mark.generation, &ends).await {
            if Instant::now() >= until {
                say(&format!(
                    "the service cannot be told where '{new}' ends ({error}): it reads the topic from the beginning once it goes on, which changes \
                     no row, but takes its time; stop it until the command has ended to spare it that"
                ));
                break;
            }
            tokio::select! {
                () = self.stop.cancelled() => return Err(interrupted(new)),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        Ok(())
    }

    /// One attempt; `None` where the rest was not read in time.
    async fn hand_over(
        &self,
        reading: &mut Reading<'_>,
        attempt: usize,
    ) -> Result<Option<Swapped>> {
        let (site, task) = (self.site, self.task);
        let ends = self.log.ends().await?;
        reading.until(&ends, None).await?;
        // Also of a partition that has never had a record: it is not to be begun again.
        let partitions = i32::try_from(ends.partitions()).unwrap_or(i32::MAX);
        site.note_caught_up(&task.new, partitions, ends.at_ms())
            .await?;
        let purpose = format!("{} {attempt}", task.build.runner);
        let claim = naming::beside(&site.alias, &purpose);
        let (old, new) = (self.old().await?, in_use(site, &task.new).await?);
        if old.is_plain && !old.is_blocked() {
            return Err(unblocked(&old.name));
        }
        let build = new
            .build()
            .filter(|build| build.runner == task.build.runner);
        let Some(build) = build else {
            return Err(goes_on_elsewhere(&task.new));
        };
        let build = Build {
            claim: Some(claim.clone()),
            ..build
        };
        site.note(&task.new, &new.notes.clone().with_build(Some(&build)))
            .await?;
        let handover = Handover {
            to: task.new.clone(),
            claim,
            kept: self.left_at(&old, ends.at_ms()).await?,
        };
        site.note(&old.name, &old.notes.clone().with_handover(Some(&handover)))
            .await?;
        // As little as possible is left to be made visible behind the block.
        let (first, second) = tokio::join!(
            site.refresh_patiently(&old.name),
            site.refresh_patiently(&task.new)
        );
        first.and(second)?;
        let begun = Instant::now();
        let moved = self.within_window(reading, (&old, &new), &handover).await;
        let window = begun.elapsed();
        let counts = match moved {
            Ok(Some(counts)) => counts,
            undone => return self.undo(&old, undone, window).await,
        };
        Ok(Some(Swapped {
            window,
            counts: Some(counts),
            compared: None,
            searches: site.searches().await?,
        }))
    }

    /// From where the old index would have to be read on if it were kept. It has all that the service has committed for it: the alias
    /// leads to it, so far.
    async fn left_at(&self, old: &Standing, at_ms: i64) -> Result<Option<Kept>> {
        let Some(mark) = &old.mark else {
            return Ok(None);
        };
        let offsets = self.log.read_to(&mark.generation).await?;
        Ok(Some(Kept { offsets, at_ms }))
    }

    /// What happens while writes wait; `None` where it was not done in time.
    async fn within_window(
        &self,
        reading: &mut Reading<'_>,
        (old, new): (&Standing, &Standing),
        handover: &Handover,
    ) -> Result<Option<Counts>> {
        let site = self.site;
        let settling = timeout(WINDOW, self.settle(reading, old, new));
        let Some(counts) = settling.await.unwrap_or(Ok(None))? else {
            return Ok(None);
        };
        let mut actions = old.hand_over_aliases(&new.name, &site.alias);
        actions.push(written_by(&new.name, &handover.claim));
        let moving = timeout(MOVE_WAIT, site.move_aliases(&actions));
        let moved = moving.await.map(|moved| moved.map(|()| Some(counts)));
        moved.unwrap_or(Ok(None))
    }

    /// Blocks writes to the old index, and brings the new one to where it stands; `None` where somebody lifts the block.
    async fn settle(
        &self,
        reading: &mut Reading<'_>,
        old: &Standing,
        new: &Standing,
    ) -> Result<Option<Counts>> {
        let site = self.site;
        // One that is blocked already confirms nothing.
        if !old.is_plain {
            site.block(&old.name).await?;
        }
        failpoint::hit(BLOCKED);
        let ends = self.log.ends().await?;
        let reached = reading.until(&ends, None);
        let (reached, count) = tokio::join!(reached, site.count(old));
        reached?;
        let counts = Counts {
            old: count?,
            new: site.count(new).await?,
        };
        if self.wanted.verify_counts {
            // Reading goes on: the new index may be ahead by now, but not of what is asked for behind its count.
            let ends = self.log.ends().await?;
            let unread = match &old.mark {
                Some(mark) => Some(self.log.unread(&mark.generation, &ends).await?),
                None => None,
            };
            verify(&old.name, &new.name, counts, unread)?;
        }
        // One that has been away since before it looked may have written its name over that of who goes on with the index.
        let build = site.index(&new.name).await?.and_then(|now| now.build());
        if build.is_none_or(|build| build.runner != self.task.build.runner) {
            return Err(goes_on_elsewhere(&new.name));
        }
        // Somebody may have lifted the block; the claim says so too, and for good.
        let now = site.index(&old.name).await?;
        Ok(now.is_some_and(|now| now.is_blocked()).then_some(counts))
    }

    /// The alias was not moved, as far as is known: the old index is written to again.
    async fn undo(
        &self,
        old: &Standing,
        undone: Result<Option<Counts>>,
        window: Duration,
    ) -> Result<Option<Swapped>> {
        let site = self.site;
        let taken_back = match site.index(&old.name).await? {
            Some(now) => take_back(site, &now).await,
            None => Ok(()),
        };
        if site.look().await?.current.name == self.task.new {
            // It was done, and the answer was late: so nothing could be taken back.
            return Ok(Some(Swapped {
                window,
                counts: None,
                compared: None,
                searches: site.searches().await?,
            }));
        }
        taken_back?;
        match undone {
            Err(error) if snapshot::is_awaited(&error) => Err(error),
            Err(error) if error.policy() == Policy::Retry => {
                say(&format!("{error}"));
                Ok(None)
            }
            undone => undone.map(|_| None),
        }
    }
}

/// Somebody wants to write to the index that is about to be deleted.
fn unblocked(old: &str) -> Error {
    Error::stop_msg(format_args!(
        "the block of writes to '{old}' was lifted: it is not replaced"
    ))
    .remedy("find who has lifted it, and who writes there, and run the command again, which blocks writes anew and goes on")
}

/// Rows that only one index has because the service had not read as far as the new one are no more than the records in between. Where the
/// old one is another product's (`unread` is `None`), nothing explains that the new one has fewer.
fn verify(old: &str, new: &str, counts: Counts, unread: Option<u64>) -> Result<()> {
    let explained = unread.unwrap_or(0);
    if counts.old.saturating_sub(counts.new) <= explained {
        let more = counts.new.saturating_sub(counts.old);
        if more > explained {
            say(&format!("'{old}' lacks {more} documents that '{new}' has"));
        }
        return Ok(());
    }
    let (why, remedy) = match unread {
        Some(unread) => (
            format!(
                ", and no more than {unread} records lie between what the service has read and the end of the log: the alias is not moved"
            ),
            "compare them with the table; where it is the old index that has rows which the table has no more, run the command again with --verify-counts false",
        ),
        None => (
            ": it is not replaced".to_owned(),
            "compare them with the table: who wrote the old index may have left deleted rows in it, or have written rows twice; where the new one is right, run the command again with --verify-counts false",
        ),
    };
    Err(Error::stop_msg(format_args!(
        "'{new}' has {} documents and '{old}' has {}{why}",
        counts.new, counts.old
    ))
    .remedy(remedy))
}

#[cfg(test)]
mod tests {
    use super::{Counts, verify};

    #[test]
    fn fewer_documents_than_the_records_in_between_explain_stop_the_move() {
        let counts = |old, new| Counts { old, new };
        assert!(verify("a", "b", counts(10, 10), Some(0)).is_ok());
        assert!(verify("a", "b", counts(10, 8), Some(2)).is_ok());
        assert!(verify("a", "b", counts(10, 99), Some(2)).is_ok());
        assert!(verify("a", "b", counts(10, 11), None).is_ok());
        for unread in [Some(2), None] {
            let error = verify("a", "b", counts(10, 7), unread).unwrap_err();
            let remedy = error.remedy_text().unwrap();
            assert!(remedy.contains("--verify-counts false"), "{remedy}");
        }
    }
}
