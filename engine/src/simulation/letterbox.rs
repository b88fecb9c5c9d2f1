//! The dead-letter topic.

use std::collections::{BTreeMap, BTreeSet};

use crate::flow::fault::says_versioned;
use crate::write::dead_letter::Search;
use crate::write::lettered::LetteredKeys;
use crate::write::replay::Order;

use super::log::place;
use super::trace::Spot;

/// A record as it was put aside.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) at: Spot,
    pub(super) offset: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) error: String,
}

/// The topic; it has one partition.
#[derive(Debug, Default)]
pub(super) struct Letterbox {
    letters: Vec<Letter>,
    /// Where those of a place begin that are open.
    done: BTreeMap<Spot, usize>,
    /// What the log was read from and up to for the pass that an instance makes.
    passes: BTreeMap<(usize, Spot), (i64, i64)>,
    /// The places whose letters do not fit a schedule's buffers.
    pub(super) too_many: BTreeSet<Spot>,
}

impl Letterbox {
    pub(super) fn put(&mut self, letter: Letter) {
        self.letters.push(letter);
    }

    fn open_letters(&self) -> impl Iterator<Item = (usize, &Letter)> {
        let letters = self.letters.iter().enumerate();
        letters.filter(|(at, letter)| self.done.get(&letter.at).is_none_or(|done| at >= done))
    }

    /// Where the records were whose letters are open.
    pub(super) fn open(&self) -> BTreeSet<(Spot, i64)> {
        let open = self.open_letters();
        open.map(|(_, letter)| (letter.at, letter.offset)).collect()
    }

    /// Where those that are open begin, by place, and where all end.
    pub(super) fn ranges(&self) -> BTreeMap<Spot, (i64, i64)> {
        let end = i64::try_from(self.letters.len()).unwrap();
        let mut ranges = BTreeMap::new();
        for (number, letter) in self.open_letters() {
            let begin = i64::try_from(number).unwrap();
            ranges.entry(letter.at).or_insert((begin, end));
        }
        ranges
    }

    /// What the log was read from and up to for the pass that an instance makes of a place.
    pub(super) fn pass(&self, who: usize, at: Spot) -> Option<(i64, i64)> {
        self.passes.get(&(who, at)).copied()
    }

    /// Those before the end of an order are replayed.
    pub(super) fn note_replayed(&mut self, order: &Order) {
        let end = order.letters.get(&0).map_or(0, |&(_, end)| end);
        let done = self.done.entry(place(&order.at())).or_default();
        *done = usize::try_from(end).unwrap().max(*done);
    }

    /// The letters of an order, as many as have room.
    pub(super) fn keys(&mut self, who: usize, search: &Search) -> LetteredKeys {
        let at = place(&search.order.at());
        let mut keys = LetteredKeys::new(search.bytes_max, search.keys_max, search.takes_keyless);
        let (begin, end) = search.order.letters.get(&0).copied().unwrap_or_default();
        for number in begin..end {
            let letter = &self.letters[usize::try_from(number).unwrap()];
            if letter.at != at {
                continue;
            }
            let put_aside = (letter.key.as_deref(), letter.value.as_deref());
            if !keys.add_letter(put_aside, (0, number), letter.offset) {
                keys.leave((0, number));
                break;
            }
            if says_versioned(&letter.error) {
                keys.note_versioned();
            }
        }
        let from = keys.from().unwrap_or(search.until);
        self.passes.insert((who, at), (from, search.until));
        keys
    }
}
