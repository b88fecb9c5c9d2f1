//! A lane's target is kept in step with what becomes known: when it was caught up, and whether it still is the same one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tributary_runtime::Result;

use crate::mark::Note;
use crate::target::Lane;
use crate::write::ground::Ground;

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

    /// Begins what is due; `caught_up` are the times at which partitions were.
    pub(super) fn keep<L: Lane>(
        &mut self,
        ground: Option<&Arc<Ground<L>>>,
        caught_up: impl Iterator<Item = (i32, i64)>,
    ) {
        let now = Instant::now();
        let Some(ground) = ground else {
            self.looks_at = now + LOOK_INTERVAL;
            self.notes_at = now + NOTE_INTERVAL_MIN;
            return;
        };
        if now < self.due() || self.is_asking() {
            return;
        }
        let mut notes = Vec::new();
        if now >= self.notes_at {
            self.notes_at = now + note_interval(ground.tombstones_live);
            if ground.tombstones_live.is_some() {
                // Of a partition that was not begun nothing was read: it may stay away for as long as it likes.
                notes = self.newer(caught_up.filter(|&(at, _)| ground.has_begun(at)));
            }
        }
        if notes.is_empty() && now < self.looks_at {
            return;
        }
        self.looks_at = now + LOOK_INTERVAL;
        self.ask(ground, notes);
    }

    /// Records without a version of their own were written.
    pub(super) fn note_versions_are_offsets<L: Lane>(&mut self, ground: &Arc<Ground<L>>) {
        if !std::mem::replace(&mut self.versions_are_offsets, true) {
            self.ask(ground, vec![Note::VersionsAreOffsets]);
        }
    }

    fn ask<L: Lane>(&mut self, ground: &Arc<Ground<L>>, notes: Vec<Note>) {
        let ground = Arc::clone(ground);
        self.asking.spawn(async move {
            if notes.is_empty() {
                ground.is_the_same().await
            } else {
                ground.note(&notes).await
            }
        });
    }

    fn newer(&mut self, caught_up: impl Iterator<Item = (i32, i64)>) -> Vec<Note> {
        let noted = &mut self.noted;
        let newer = caught_up.filter(|&(partition, at_ms)| {
            noted.insert(partition, at_ms).is_none_or(|had| had < at_ms)
        });
        newer
            .map(|(partition, at_ms)| Note::CaughtUp { partition, at_ms })
            .collect()
    }
}

fn note_interval(tombstones_live: Option<Duration>) -> Duration {
    let share = tombstones_live.map(|live| live / NOTE_SHARE);
    share
        .unwrap_or(NOTE_INTERVAL_MAX)
        .clamp(NOTE_INTERVAL_MIN, NOTE_INTERVAL_MAX)
}
