//! Topics: what is in them, and what a target is to hold in the end.

use std::collections::{BTreeMap, BTreeSet};

use rdkafka::message::{Message, OwnedMessage};

use crate::sample::{Deed, message};
use crate::topics::TopicPartition;

use super::dice::Dice;
use super::plan::{TEXT_BYTES, TopicPlan};
use super::trace::Spot;

/// A record.
#[derive(Debug, Clone)]
pub(super) struct Entered {
    pub(super) deed: Deed,
    pub(super) seq: u64,
    message: OwnedMessage,
}

/// The log of one partition. What is not a record is a transaction's marker.
#[derive(Debug)]
pub(super) struct PartitionLog {
    low: i64,
    cells: Vec<Option<Entered>>,
}

/// A topic and who writes to it.
#[derive(Debug)]
pub(super) struct TopicLog {
    pub(super) name: String,
    number: usize,
    plan: TopicPlan,
    partitions: Vec<PartitionLog>,
    seq: u64,
    /// The highest version below which all is gone.
    below: u64,
}

/// The rows that are there, by id.
pub(super) type Rows = BTreeMap<i64, i64>;

impl PartitionLog {
    pub(super) const fn low(&self) -> i64 {
        self.low
    }

    pub(super) fn end(&self) -> i64 {
        self.low + i64::try_from(self.cells.len()).unwrap()
    }

    pub(super) fn get(&self, offset: i64) -> Option<&Entered> {
        let index = usize::try_from(offset - self.low).ok()?;
        self.cells.get(index)?.as_ref()
    }

    /// The next record from an offset on, or the end.
    pub(super) fn next_record(&self, offset: i64) -> i64 {
        (offset..self.end())
            .find(|&offset| self.get(offset).is_some())
            .unwrap_or_else(|| self.end())
    }

    /// Versions below this are gone.
    pub(super) fn below(&self) -> u64 {
        let below = self.records().map(|(_, entered)| match entered.deed {
            Deed::Below(below) => below,
            _ => 0,
        });
        below.max().unwrap_or_default()
    }

    fn records(&self) -> impl Iterator<Item = (i64, &Entered)> {
        (self.low..self.end()).filter_map(|offset| Some((offset, self.get(offset)?)))
    }
}

impl Entered {
    pub(super) fn message(&self) -> OwnedMessage {
        self.message.clone()
    }

    pub(super) fn bytes(&self) -> usize {
        let length = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        length(self.message.key()) + length(self.message.payload())
    }
}

impl TopicLog {
    pub(super) fn new(number: usize, plan: TopicPlan, dice: &mut Dice) -> Self {
        let partitions = (0..plan.partitions).map(|_| PartitionLog {
            low: dice.pick(&[0, 0, 5]),
            cells: Vec::new(),
        });
        Self {
            name: format!("sim.s.t{number}"),
            number,
            partitions: partitions.collect(),
            plan,
            seq: 100,
            below: 0,
        }
    }

    pub(super) fn partition(&self, partition: i32) -> &PartitionLog {
        &self.partitions[usize::try_from(partition).unwrap()]
    }

    pub(super) fn places(&self) -> impl Iterator<Item = Spot> + use<> {
        let number = self.number;
        (0..self.plan.partitions).map(move |partition| (number, partition))
    }

    /// Writes one more record, or one to each partition. Returns where.
    pub(super) fn produce(&mut self, dice: &mut Dice, has_junk: bool) -> Vec<(Spot, i64)> {
        let id = i64::try_from(dice.below(self.plan.ids)).unwrap();
        let partition = i32::try_from(id).unwrap() % self.plan.partitions;
        self.seq += dice.pick(&[1, 1, 3]);
        if dice.chance(100) {
            self.cells(partition).push(None);
        }
        let number = i64::try_from(dice.below(1_000_000)).unwrap();
        let is_partial = self.plan.is_foreign && self.plan.partitions > 1;
        let deed = match dice.below(100) {
            0..83 if self.plan.is_keyless => Deed::Append { id, number },
            0..60 => Deed::Upsert { id, number },
            60..75 => Deed::Delete { id },
            75..83 => Deed::Tombstone { id },
            83..86 if !is_partial => Deed::Below(self.seq),
            86..89 if has_junk => Deed::Junk,
            _ if self.plan.is_keyless => Deed::Append { id, number },
            // Who forgets what it has deleted relies on that nothing comes twice.
            89..93 if !self.plan.is_foreign && !self.plan.forgets_deletes => {
                return self.repeat(dice, partition);
            }
            _ => Deed::Upsert { id, number },
        };
        if let Deed::Below(below) = deed {
            self.below = below;
            return (0..self.plan.partitions)
                .map(|partition| self.enter(dice, partition, deed, self.seq))
                .collect();
        }
        vec![self.enter(dice, partition, deed, self.seq)]
    }

    /// A record comes a second time, though newer ones of its key may have come.
    fn repeat(&mut self, dice: &mut Dice, partition: i32) -> Vec<(Spot, i64)> {
        let records = self.partition(partition).records();
        let again: Vec<_> = records
            .filter(|(_, entered)| entered.seq > self.below && entered.deed != Deed::Junk)
            .map(|(_, entered)| (entered.deed, entered.seq))
            .collect();
        if again.is_empty() {
            return Vec::new();
        }
        let (deed, seq) = dice.pick(&again);
        if matches!(deed, Deed::Below(_)) {
            return Vec::new();
        }
        vec![self.enter(dice, partition, deed, seq)]
    }

    fn enter(
        &mut self,
        dice: &mut Dice,
        partition: i32,
        mut deed: Deed,
        mut seq: u64,
    ) -> (Spot, i64) {
        let at = (self.number, partition);
        let offset = self.partition(partition).end();
        if self.plan.is_foreign {
            seq = u64::try_from(offset).unwrap() + 1;
            if let Deed::Below(below) = &mut deed {
                *below = seq;
            }
        }
        if let Deed::Append { id, .. } = &mut deed {
            *id = row_of(partition, offset);
        }
        let text = usize::try_from(dice.below(TEXT_BYTES)).unwrap();
        let named = TopicPartition {
            topic: self.name.clone(),
            partition,
        };
        let version = (!self.plan.is_foreign).then_some(seq);
        let message = message(&named, offset, version, deed, &"x".repeat(text));
        let entered = Entered { deed, seq, message };
        self.cells(partition).push(Some(entered));
        (at, offset)
    }

    fn cells(&mut self, partition: i32) -> &mut Vec<Option<Entered>> {
        &mut self.partitions[usize::try_from(partition).unwrap()].cells
    }

    /// What the target is to hold, without the records put aside; and the ids whose newest record is one of those: nobody can say
    /// what the target is to hold of them.
    pub(super) fn fold(&self, aside: &BTreeSet<(Spot, i64)>) -> (Rows, BTreeSet<i64>) {
        let (mut newest, mut open) = (BTreeMap::new(), BTreeSet::new());
        for (partition, log) in (0..).zip(&self.partitions) {
            let mut below = 0;
            let mut of_partition: BTreeMap<i64, (u64, Option<i64>, bool)> = BTreeMap::new();
            for (offset, entered) in log.records() {
                let (id, number) = match entered.deed {
                    Deed::Upsert { id, number } | Deed::Append { id, number } => (id, Some(number)),
                    Deed::Delete { id } | Deed::Tombstone { id } => (id, None),
                    Deed::Below(gone) => {
                        below = below.max(gone);
                        continue;
                    }
                    Deed::Junk => continue,
                };
                let is_aside = aside.contains(&((self.number, partition), offset));
                let entry = (entered.seq, number, is_aside);
                let known = of_partition.entry(id).or_insert(entry);
                if known.0 <= entered.seq {
                    *known = entry;
                }
            }
            for (id, (seq, number, is_aside)) in of_partition {
                if seq < below {
                    continue;
                }
                if is_aside {
                    open.insert(id);
                } else if let Some(number) = number {
                    newest.insert(id, number);
                }
            }
        }
        (newest, open)
    }
}

/// The id of a row without a key.
pub(super) fn row_of(partition: i32, offset: i64) -> i64 {
    i64::from(partition) * 1_000_000 + offset
}

/// The place's topic, as the engine names it.
pub(super) fn named(topics: &[TopicLog], (topic, partition): Spot) -> TopicPartition {
    TopicPartition {
        topic: topics[topic].name.clone(),
        partition,
    }
}

/// The place of what the engine names.
pub(super) fn place(partition: &TopicPartition) -> Spot {
    (topic_number(&partition.topic), partition.partition)
}

pub(super) fn topic_number(topic: &str) -> usize {
    topic.trim_start_matches("sim.s.t").parse().unwrap()
}
