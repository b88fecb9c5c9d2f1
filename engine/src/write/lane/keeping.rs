//! A lane's target is kept in step with what becomes known: when it was caught up, and whether it still is the same one.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tributary_runtime::{Policy, Result};

use super::{Held, LaneTask};
use crate::cluster::Cluster;
use crate::mark::Note;
use crate::target::Target;
use crate::write::ground::{Ground, is_another};

/// How often the target is asked whether it still is the same one.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// The times at which partitions were caught up are noted when they are this much older than tombstones live: an absence is taken for
/// longer than it was by no more than that.
const NOTE_SHARE: u32 = 100;
const NOTE_INTERVAL_MIN: Duration = Duration::from_secs(1);
const NOTE_INTERVAL_MAX: Duration = Duration::from_secs(3_600);

/// What a lane keeps of its target's mark.
#[derive(Debug)]
pub(super) struct Keeping {
    looks_at: Instant,
    notes_at: Instant,
    /// Of each partition, what was noted last.
    noted: BTreeMap<i32, i64>,
    versions_are_offsets: bool,
    /// The one request under way: whether the target is the same one still.
    asking: JoinSet<Result<bool>>,
}

impl Keeping {
    pub(super) fn new() -> Self {
        Self {
            looks_at: Instant::now() + LOOK_INTERVAL,
            notes_at: Instant::now() + NOTE_INTERVAL_MIN,
            noted: BTreeMap::new(),
            versions_are_offsets: false,
            asking: JoinSet::new(),
        }
    }

    /// When something is to be done next.
    pub(super) fn due(&self) -> Instant {
        self.looks_at.min(self.notes_at)
    }

    /// A write has failed: it may be that the target is another one, or gone.
    pub(super) fn look_soon(&mut self) {
        self.looks_at = Instant::now();
    }

    /// Whether the target is being asked.
    pub(super) fn is_asking(&self) -> bool {
        !self.asking.is_empty()
    }

    /// Waits for the answer of the request under way.
    pub(super) async fn answer(&mut self) -> Option<Result<bool>> {
        match self.asking.join_next().await? {
            Ok(answer) => Some(answer),
            Err(_) => Some(Ok(true)),
        }
    }
}

impl<T: Target, C: Cluster> LaneTask<T, C> {
    /// Begins what is due.
    pub(super) fn keep(&mut self) {
        let now = Instant::now();
        let Some(ground) = self.ground.get() else {
            self.keeping.looks_at = now + LOOK_INTERVAL;
            self.keeping.notes_at = now + NOTE_INTERVAL_MIN;
            return;
        };
        if now < self.keeping.due() || self.keeping.is_asking() {
            return;
        }
        let mut notes = Vec::new();
        if now >= self.keeping.notes_at {
            self.keeping.notes_at = now + note_interval(ground);
            if ground.tombstones_live.is_some() {
                notes.extend(caught_up(&self.held, &mut self.keeping.noted));
            }
        }
        if notes.is_empty() && now < self.keeping.looks_at {
            return;
        }
        self.keeping.looks_at = now + LOOK_INTERVAL;
        self.ask(notes);
    }

    /// Records without a version of their own were written.
    pub(super) fn note_versions_are_offsets(&mut self) {
        if !std::mem::replace(&mut self.keeping.versions_are_offsets, true) {
            self.ask(vec![Note::VersionsAreOffsets]);
        }
    }

    fn ask(&mut self, notes: Vec<Note>) {
        if let Some(ground) = self.ground.get().cloned() {
            self.keeping.asking.spawn(async move {
                if notes.is_empty() {
                    ground.is_the_same().await
                } else {
                    ground.note(&notes).await
                }
            });
        }
    }

    /// What the target said of itself.
    pub(super) fn kept(&self, answer: Result<bool>) {
        match answer {
            Ok(true) => {}
            Ok(false) => {
                let reason = is_another(&self.topic).to_string();
                self.instance.failure.start_over(&reason);
            }
            Err(error) if error.policy() == Policy::Stop => self.instance.failure.stop_with(error),
            // What must be written fails as well, and says so.
            Err(error) => tracing::debug!(%error, "could not look at the target's mark"),
        }
    }
}

fn note_interval<L>(ground: &Ground<L>) -> Duration {
    let share = ground.tombstones_live.map(|live| live / NOTE_SHARE);
    share
        .unwrap_or(NOTE_INTERVAL_MAX)
        .clamp(NOTE_INTERVAL_MIN, NOTE_INTERVAL_MAX)
}

fn caught_up(held: &BTreeMap<i32, Held>, noted: &mut BTreeMap<i32, i64>) -> Vec<Note> {
    let mut notes = Vec::new();
    for (&partition, held) in held {
        let Some(at_ms) = held.hold.caught_up_ms() else {
            continue;
        };
        if noted.insert(partition, at_ms).is_none_or(|had| had < at_ms) {
            notes.push(Note::CaughtUp { partition, at_ms });
        }
    }
    notes
}
