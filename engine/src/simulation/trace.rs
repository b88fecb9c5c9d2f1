//! What has happened in a simulation, step by step.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A topic, by its number, and a partition of it.
pub(super) type Spot = (usize, i32);

/// One step. `who` is an instance.
#[derive(Debug, Clone, Copy, Hash)]
pub(super) enum Step {
    Produced {
        at: Spot,
        offset: i64,
    },
    Started {
        who: usize,
    },
    Joined {
        who: usize,
        seat: u32,
    },
    Shutdown {
        who: usize,
    },
    Ended {
        who: usize,
    },
    Failed {
        who: usize,
    },
    Killed {
        who: usize,
    },
    Frozen {
        who: usize,
        ms: u64,
    },
    HeldUp {
        who: usize,
        ms: u64,
    },
    TargetAway {
        ms: u64,
    },
    GroupAway {
        ms: u64,
    },
    RegistryAway {
        ms: u64,
    },
    Moved,
    Overlooked {
        topic: usize,
    },
    Healed,
    Expired {
        seat: u32,
    },
    Assigned {
        seat: u32,
        at: Spot,
    },
    Revoked {
        seat: u32,
        at: Spot,
        lost: bool,
    },
    LetGo {
        seat: u32,
        at: Spot,
    },
    Fetched {
        seat: u32,
        at: Spot,
        offset: i64,
    },
    Read {
        seat: u32,
        at: Spot,
        offset: i64,
    },
    Swept {
        who: usize,
        topic: usize,
        is_done: bool,
    },
    Paused {
        seat: u32,
        at: Spot,
        paused: bool,
    },
    Committed {
        seat: u32,
        at: Spot,
        offset: i64,
    },
    CommitFailed {
        seat: u32,
    },
    Left {
        seat: u32,
    },
    Begun {
        who: usize,
        topic: usize,
    },
    Taken {
        who: usize,
        at: Spot,
    },
    WriteBegun {
        who: usize,
        lane: usize,
        at: Spot,
        first: i64,
        next: i64,
    },
    Applied {
        who: usize,
        lane: usize,
        at: Spot,
        next: i64,
    },
    Gone {
        topic: usize,
    },
    Discarded {
        who: usize,
        topic: usize,
    },
    Fenced {
        who: usize,
        at: Spot,
    },
    WriteEnded {
        who: usize,
        lane: usize,
        at: Spot,
        is_ok: bool,
    },
    Settled {
        who: usize,
        lane: usize,
        topic: usize,
    },
    Mended {
        topic: usize,
    },
    Asked {
        who: usize,
        is_taken: bool,
    },
    Replayed {
        who: usize,
        at: Spot,
    },
    PutAside {
        who: usize,
        at: Spot,
        offset: i64,
    },
}

/// All steps, with the milliseconds at which they were.
#[derive(Debug, Default)]
pub(super) struct Trace(Vec<(u64, Step)>);

impl Trace {
    pub(super) fn push(&mut self, at_ms: u64, step: Step) {
        self.0.push((at_ms, step));
    }

    /// Two traces with the same are the same.
    pub(super) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.0.hash(&mut hasher);
        hasher.finish()
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    /// The last steps, one a line.
    pub(super) fn last(&self, count: usize) -> impl fmt::Display {
        let begin = self.0.len().saturating_sub(count);
        let lines = self.0[begin..].iter();
        let lines: Vec<_> = lines
            .map(|(at_ms, step)| format!("{at_ms:>7} ms  {step:?}"))
            .collect();
        lines.join("\n")
    }
}
