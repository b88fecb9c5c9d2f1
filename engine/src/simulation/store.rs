//! A target as it is on its server: rows, offsets, mark; and what of the log is in it for good.

use std::collections::{BTreeMap, BTreeSet};

use crate::mark::Mark;

use super::log::{PartitionLog, Rows};
use super::plan::{Keeps, TopicPlan};

/// A partition's records, as they are sent.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) partition: i32,
    /// Of whom the sender took the partition for, where the target keeps offsets.
    pub(super) epoch: u64,
    /// The offsets of all records, those that are not to be applied included.
    pub(super) offsets: Vec<i64>,
    pub(super) next: i64,
    /// They stand below where the target stands, which does not change.
    pub(super) is_replay: bool,
    pub(super) below: Option<u64>,
    /// What is below is deleted by a sweep, and not before the changes.
    pub(super) sweeps_apart: bool,
    pub(super) changes: Vec<Sent>,
}

/// A change of a row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) offset: i64,
    pub(super) id: i64,
    pub(super) seq: u64,
    pub(super) number: Option<i64>,
}

/// Somebody else has the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FencedOff;

/// A target.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) keeps: Keeps,
    pub(super) mark: Option<Mark>,
    forgets_deletes: bool,
    /// It refuses nothing any more.
    pub(super) is_mended: bool,
    /// The newest version of each row, those that are gone included.
    rows: BTreeMap<i64, (u64, Option<i64>)>,
    shares: BTreeMap<i32, PartitionShare>,
}

/// What it has of a partition.
#[derive(Debug, Default)]
struct PartitionShare {
    epoch: u64,
    /// Where it stands, where it keeps offsets.
    stands_at: Option<i64>,
    /// Versions below this are gone.
    below: u64,
    /// All records below are in it for good.
    durable: i64,
    /// Those above that are, too.
    beyond: BTreeSet<i64>,
    /// Records that are kept elsewhere.
    aside: BTreeSet<i64>,
    /// Those that are once a sweep has ended that begins from now on.
    unswept: BTreeSet<i64>,
}

/// A sweep under way.
#[derive(Debug)]
pub(super) struct Sweep {
    generation: Option<String>,
    below: u64,
    /// The rows that were below when it began.
    ids: Vec<i64>,
    /// The records that are in the target for good when it ends.
    records: Vec<(i32, BTreeSet<i64>)>,
}

impl Store {
    pub(super) fn new(plan: &TopicPlan) -> Self {
        Self {
            keeps: plan.keeps,
            mark: None,
            forgets_deletes: plan.forgets_deletes,
            is_mended: false,
            rows: BTreeMap::new(),
            shares: BTreeMap::new(),
        }
    }

    /// Raises the partition's epoch: earlier holders are fenced off. Returns it, and where the target stands.
    pub(super) fn take(&mut self, partition: i32) -> (u64, Option<i64>) {
        let share = self.shares.entry(partition).or_default();
        share.epoch += 1;
        (share.epoch, share.stands_at)
    }

    /// Whether the sender still has the partition, as far as the target knows.
    pub(super) fn fences(&self, request: &Request) -> bool {
        let epoch = self.shares.get(&request.partition).map(|share| share.epoch);
        self.keeps == Keeps::Offsets && epoch != Some(request.epoch)
    }

    /// Takes records over for good.
    pub(super) fn apply(&mut self, request: &Request) -> Result<(), FencedOff> {
        if self.fences(request) {
            return Err(FencedOff);
        }
        let share = self.shares.entry(request.partition).or_default();
        let mut from = 0;
        if self.keeps == Keeps::Offsets {
            from = share.stands_at.filter(|_| !request.is_replay).unwrap_or(0);
            let is_there = share.stands_at.is_some_and(|at| request.next <= at);
            if is_there && !request.is_replay {
                return Ok(());
            }
            share.stands_at = share.stands_at.max(Some(request.next));
        }
        if let Some(below) = request.below.filter(|_| !request.sweeps_apart) {
            share.below = share.below.max(below);
            self.rows.retain(|_, (seq, _)| *seq >= below);
        }
        for sent in request
            .changes
            .iter()
            .filter(|sent| sent.seq >= share.below && sent.offset >= from)
        {
            let row = self.rows.entry(sent.id).or_default();
            // What is gone at a version does not come back at the same one: a sweep's boundary may be one above a row's.
            let is_back = row.0 == sent.seq && row.1.is_none() && sent.number.is_some();
            if sent.seq >= row.0 && !is_back {
                *row = (sent.seq, sent.number);
            }
            if self.forgets_deletes && row.1.is_none() {
                self.rows.remove(&sent.id);
            }
        }
        if request.below.is_some() && request.sweeps_apart {
            share.unswept.extend(&request.offsets);
        } else {
            share.beyond.extend(&request.offsets);
        }
        Ok(())
    }

    /// Begins a sweep: finds what is below.
    pub(super) fn find_below(&self, below: u64) -> Sweep {
        let rows = self.rows.iter();
        let ids = rows.filter(|(_, (seq, number))| *seq < below && number.is_some());
        let shares = self.shares.iter();
        Sweep {
            generation: self.generation().cloned(),
            below,
            ids: ids.map(|(&id, _)| id).collect(),
            records: shares
                .map(|(&partition, share)| (partition, share.unswept.clone()))
                .collect(),
        }
    }

    /// Deletes some of what was found, at the last version below; whether that was all. `None` where it is another target by now.
    pub(super) fn go_on(&mut self, sweep: &mut Sweep, some: usize) -> Option<bool> {
        if self.generation() != sweep.generation.as_ref() {
            return None;
        }
        let left = sweep.ids.len().saturating_sub(some);
        for id in sweep.ids.split_off(left) {
            let row = self.rows.entry(id).or_default();
            if row.0 < sweep.below {
                *row = (sweep.below - 1, None);
            }
        }
        if !sweep.ids.is_empty() {
            return Some(false);
        }
        for (partition, records) in &sweep.records {
            let share = self.shares.entry(*partition).or_default();
            share.unswept.retain(|offset| !records.contains(offset));
            share.beyond.extend(records);
        }
        Some(true)
    }

    /// All that it holds is gone, if it is there; what was put aside is kept elsewhere. Who had a partition is fenced off.
    pub(super) fn vanish(&mut self) {
        if self.mark.take().is_none() {
            return;
        }
        self.rows.clear();
        for share in self.shares.values_mut() {
            *share = PartitionShare {
                epoch: share.epoch + 1,
                aside: std::mem::take(&mut share.aside),
                ..PartitionShare::default()
            };
        }
    }

    /// Which one it is.
    pub(super) fn generation(&self) -> Option<&String> {
        self.mark.as_ref().map(|mark| &mark.generation)
    }

    /// A record is kept for good elsewhere.
    pub(super) fn do_without(&mut self, partition: i32, offset: i64) {
        let share = self.shares.entry(partition).or_default();
        share.aside.insert(offset);
    }

    /// All records of the partition below this offset are in it for good.
    pub(super) fn durable(&mut self, partition: i32, log: &PartitionLog) -> i64 {
        let share = self.shares.entry(partition).or_default();
        loop {
            share.durable = log.next_record(share.durable.max(log.low()));
            let is_in = |share: &mut PartitionShare| {
                share.beyond.remove(&share.durable) | share.aside.contains(&share.durable)
            };
            if share.durable == log.end() || !is_in(share) {
                return share.durable;
            }
            share.durable += 1;
        }
    }

    pub(super) fn live_rows(&self) -> Rows {
        let rows = self.rows.iter();
        rows.filter_map(|(&id, &(_, number))| Some((id, number?)))
            .collect()
    }
}
