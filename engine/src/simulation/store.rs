//! A target as it is on its server: rows, offsets, mark; and what of the log is in it for good.

use std::collections::{BTreeMap, BTreeSet};

use crate::mark::Mark;

use super::log::{PartitionLog, Rows};
use super::plan::Keeps;

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
}

impl Store {
    pub(super) fn new(keeps: Keeps) -> Self {
        Self {
            keeps,
            mark: None,
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
        if self.keeps == Keeps::Offsets {
            let is_there = share.stands_at.is_some_and(|at| request.next <= at);
            if is_there && !request.is_replay {
                return Ok(());
            }
            share.stands_at = share.stands_at.max(Some(request.next));
        }
        if let Some(below) = request.below {
            share.below = share.below.max(below);
            self.rows.retain(|_, (seq, _)| *seq >= below);
        }
        for sent in request
            .changes
            .iter()
            .filter(|sent| sent.seq >= share.below)
        {
            let row = self.rows.entry(sent.id).or_default();
            if sent.seq >= row.0 {
                *row = (sent.seq, sent.number);
            }
        }
        share.beyond.extend(&request.offsets);
        Ok(())
    }

    /// All that it holds is gone, if it is there: what was put aside before it began is kept elsewhere. Who had a partition is fenced off.
    pub(super) fn vanish(&mut self) {
        if self.mark.take().is_none() {
            return;
        }
        self.rows.clear();
        for share in self.shares.values_mut() {
            *share = PartitionShare {
                epoch: share.epoch + 1,
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
        share.beyond.insert(offset);
    }

    /// All records of the partition below this offset are in it for good.
    pub(super) fn durable(&mut self, partition: i32, log: &PartitionLog) -> i64 {
        let share = self.shares.entry(partition).or_default();
        loop {
            share.durable = log.next_record(share.durable.max(log.low()));
            if share.durable == log.end() || !share.beyond.remove(&share.durable) {
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
