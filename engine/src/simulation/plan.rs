//! What a simulation is made of, drawn from its seed.

use crate::config::BatchConfig;

use super::dice::Dice;

/// Bytes of the longest text of a row.
pub(super) const TEXT_BYTES: u64 = 400;

/// What a record costs at most: text, key, value, header, bookkeeping.
pub(super) const RECORD_BYTES: usize = 1_024;

/// How records are made durable, and who keeps the offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeps {
    /// The target keeps rows by version, the group the offsets.
    Versions,
    /// The target keeps offsets, and fences earlier holders.
    Offsets,
}

/// A topic and its target.
#[derive(Debug, Clone)]
pub(super) struct TopicPlan {
    pub(super) partitions: i32,
    pub(super) keeps: Keeps,
    /// What is written is durable at once, not with the next `settle`.
    pub(super) is_durable: bool,
    /// What is below a boundary is deleted beside later writes; only where versions are kept, and what is written is durable at once.
    pub(super) sweeps_apart: bool,
    /// It forgets what it has deleted, as a warehouse does.
    pub(super) forgets_deletes: bool,
    /// Rows without a key.
    pub(super) is_keyless: bool,
    /// Records without a version of their own.
    pub(super) is_foreign: bool,
    pub(super) ids: u64,
    /// The target refuses rows whose number this divides; 0 for none.
    pub(super) refuses: u64,
    pub(super) width: usize,
}

/// A whole simulation.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) topics: Vec<TopicPlan>,
    pub(super) batch: BatchConfig,
    /// Records that cannot be applied are put aside, and there are some.
    pub(super) has_letters: bool,
    /// Targets are mended, and letters replayed.
    pub(super) has_replays: bool,
    /// How long tombstones live, in milliseconds: who was away for longer builds its target anew.
    pub(super) tombstones_ms: u64,
    /// Targets vanish.
    pub(super) loses_targets: bool,
    /// How long the target takes at most for an answer, in milliseconds.
    pub(super) latency_ms: u64,
    /// Requests that fail, in a thousand.
    pub(super) fails: u64,
    /// Requests that take longer than a revocation may, in a thousand.
    pub(super) hangs: u64,
    /// Errors that stop an instance, in a thousand.
    pub(super) stops: u64,
    /// How long faults go on, in milliseconds.
    pub(super) faults_ms: u64,
    /// How many records are produced meanwhile, and at most together.
    pub(super) records: u64,
    pub(super) burst: u64,
}

impl TopicPlan {
    fn draw(dice: &mut Dice, has_letters: bool) -> Self {
        let keeps = dice.pick(&[Keeps::Versions, Keeps::Offsets]);
        // Offsets are kept in the transaction of the rows.
        let is_durable = keeps == Keeps::Offsets || dice.chance(600);
        let is_keyless = dice.chance(150);
        Self {
            partitions: dice.pick(&[1, 1, 2, 3, 4]),
            keeps,
            is_durable,
            sweeps_apart: keeps == Keeps::Versions && is_durable && dice.chance(700),
            forgets_deletes: keeps == Keeps::Offsets && dice.chance(600),
            is_keyless,
            is_foreign: !is_keyless && dice.chance(300),
            ids: dice.pick(&[2, 8, 30]),
            refuses: dice.pick(if has_letters { &[0, 7, 3] } else { &[0] }),
            width: dice.pick(&[1, 2, usize::MAX]),
        }
    }
}

impl Plan {
    pub(super) fn draw(dice: &mut Dice) -> Self {
        let has_letters = dice.chance(400);
        let topics = (0..dice.pick(&[1, 1, 1, 2, 2, 3]))
            .map(|_| TopicPlan::draw(dice, has_letters))
            .collect();
        let bytes = dice.pick(&[300, 1_000, 5_000, 1 << 20]);
        let batch = BatchConfig {
            bytes,
            rows: dice.pick(&[1, 3, 10, 20_000]),
            linger_ms: dice.pick(&[0, 20, 200]),
            flush_ms: dice.pick(&[0, 100, 1_000, 5_000]),
            in_flight: dice.pick(&[1, 2, 4]),
            buffer_bytes: dice.pick(&[400, 1_500, 4_000, 20_000]),
        };
        Self {
            topics,
            batch,
            has_letters,
            has_replays: has_letters && dice.chance(800),
            tombstones_ms: dice.pick(&[86_400_000, 86_400_000, 12_000]),
            loses_targets: dice.chance(300),
            latency_ms: dice.pick(&[1, 20, 200, 2_000]),
            fails: dice.pick(&[0, 30, 200]),
            hangs: dice.pick(&[0, 0, 20]),
            stops: dice.pick(&[0, 0, 3]),
            faults_ms: dice.pick(&[5_000, 20_000, 40_000]),
            records: dice.pick(&[20, 60, 150]),
            burst: dice.pick(&[3, 30]),
        }
    }
}
