//! The consumer group's coordinator: who is a member, who has which partition, what is committed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::Committed;

use super::dice::Dice;
use super::trace::{Spot, Step};

/// As the engine asks for.
const SESSION: Duration =
    Duration::from_millis(tributary_runtime::kafka::SESSION_TIMEOUT_MS as u64);

/// A rebalance, as it is told to a member.
#[derive(Debug, Clone)]
pub(super) enum Told {
    Assigned(Vec<Spot>),
    Revoked { places: Vec<Spot>, lost: bool },
}

/// A partition that a member fetches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fetched {
    pub(super) next: i64,
}

/// A member's place in the group. The member may be gone without a word.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) who: usize,
    /// The group counts it among its members.
    pub(super) is_member: bool,
    /// The group has given its partitions away, and it knows.
    pub(super) has_lost: bool,
    pub(super) told: VecDeque<Told>,
    pub(super) unanswered: Option<Told>,
    /// What it was told that it has, and has not given back.
    has: BTreeSet<Spot>,
    pub(super) fetched: BTreeMap<Spot, Fetched>,
    /// As with librdkafka, a pause outlives that the partition is let go and assigned again.
    pub(super) paused: BTreeSet<Spot>,
    pub(super) commit_failed: bool,
    pub(super) is_closing: bool,
    seen_at: Instant,
}

/// The coordinator.
#[derive(Debug, Default)]
pub(super) struct Coordinator {
    pub(super) seats: BTreeMap<u32, Seat>,
    pub(super) owners: BTreeMap<Spot, u32>,
    pub(super) committed: BTreeMap<Spot, Committed>,
    turned: usize,
    /// A topic that the leader did not see when it divided the partitions last.
    overlooked: Option<usize>,
}

impl Coordinator {
    pub(super) fn join(&mut self, who: usize) -> u32 {
        let number = u32::try_from(self.seats.len()).unwrap() + 1;
        let seat = Seat {
            who,
            is_member: true,
            has_lost: false,
            told: VecDeque::new(),
            unanswered: None,
            has: BTreeSet::new(),
            fetched: BTreeMap::new(),
            paused: BTreeSet::new(),
            commit_failed: false,
            is_closing: false,
            seen_at: Instant::now(),
        };
        self.seats.insert(number, seat);
        self.overlooked = None;
        number
    }

    /// The member says that it leaves.
    pub(super) fn leave(&mut self, number: u32) {
        if let Some(seat) = self.seats.get_mut(&number) {
            seat.is_member = false;
            seat.is_closing = true;
        }
        self.owners.retain(|_, owner| *owner != number);
        self.overlooked = None;
    }

    /// Whether the group takes a commit of this member's.
    pub(super) fn takes_commits_of(&self, number: u32) -> bool {
        self.seats.get(&number).is_some_and(|seat| seat.is_member)
    }

    /// Partitions are to be divided in another way.
    pub(super) const fn turn(&mut self) {
        self.turned += 1;
        self.overlooked = None;
    }

    /// Nobody has this topic's partitions until the group divides them anew, which it does of its own accord no more.
    pub(super) const fn overlook(&mut self, topic: usize) {
        self.overlooked = Some(topic);
    }

    /// The next rebalance that the member is told, once it has answered the one before.
    pub(super) fn tell(&mut self, number: u32) -> Option<Told> {
        let seat = self.seats.get_mut(&number)?;
        if seat.unanswered.is_some() {
            return None;
        }
        let told = seat.told.pop_front()?;
        seat.unanswered = Some(told.clone());
        if let Told::Assigned(places) = &told {
            seat.has.extend(places);
        }
        Some(told)
    }

    /// The answer to a revocation.
    pub(super) fn gives_back(&mut self, number: u32) -> Vec<Spot> {
        let Some(seat) = self.seats.get_mut(&number) else {
            return Vec::new();
        };
        let Some(Told::Revoked { places, lost }) = seat.unanswered.take() else {
            return Vec::new();
        };
        for place in &places {
            seat.has.remove(place);
            seat.fetched.remove(place);
            if self.owners.get(place) == Some(&number) {
                self.owners.remove(place);
            }
        }
        if lost {
            // It joins again, with nothing.
            seat.has_lost = false;
            seat.is_member = true;
            seat.seen_at = Instant::now();
            self.overlooked = None;
        }
        places
    }

    /// What the coordinator does from time to time; `answers` says whose members send heartbeats.
    pub(super) fn work(
        &mut self,
        places: &[Spot],
        answers: &BTreeSet<usize>,
        dice: &mut Dice,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        let now = Instant::now();
        for (&number, seat) in &mut self.seats {
            if answers.contains(&seat.who) {
                if seat.is_member {
                    seat.seen_at = now;
                } else if !seat.is_closing && !seat.has_lost && dice.chance(700) {
                    seat.learns_of_the_loss();
                }
            } else if seat.is_member && now - seat.seen_at >= SESSION {
                seat.is_member = false;
                self.overlooked = None;
                steps.push(Step::Expired { seat: number });
            }
        }
        let seats = &self.seats;
        self.owners.retain(|_, owner| seats[owner].is_member);
        self.divide(places, &mut steps);
        steps
    }

    /// Tells members what they are to give back, and what they get.
    fn divide(&mut self, places: &[Spot], steps: &mut Vec<Step>) {
        let wanted = self.wanted(places);
        let mut tells: BTreeMap<u32, (Vec<Spot>, Vec<Spot>)> = BTreeMap::new();
        for &place in places {
            let Some(&to) = wanted.get(&place) else {
                return;
            };
            let to = Some(to).filter(|_| self.overlooked != Some(place.0));
            match (self.owners.get(&place), to) {
                (Some(&owner), to) if to == Some(owner) => {}
                (Some(&owner), _) => tells.entry(owner).or_default().0.push(place),
                (None, Some(to)) => tells.entry(to).or_default().1.push(place),
                (None, None) => {}
            }
        }
        for (number, (revoked, assigned)) in tells {
            let Some(seat) = self.seats.get_mut(&number) else {
                continue;
            };
            if seat.unanswered.is_some() || !seat.told.is_empty() {
                continue;
            }
            if !revoked.is_empty() {
                let lost = false;
                steps.extend(revoked.iter().map(|&at| Step::Revoked {
                    seat: number,
                    at,
                    lost,
                }));
                let places = revoked;
                seat.told.push_back(Told::Revoked { places, lost });
            } else if !assigned.is_empty() {
                for &at in &assigned {
                    self.owners.insert(at, number);
                    steps.push(Step::Assigned { seat: number, at });
                }
                seat.told.push_back(Told::Assigned(assigned));
            }
        }
    }

    fn wanted(&self, places: &[Spot]) -> BTreeMap<Spot, u32> {
        let members: Vec<u32> = self
            .seats
            .iter()
            .filter(|(_, seat)| seat.is_member)
            .map(|(&number, _)| number)
            .collect();
        if members.is_empty() {
            return BTreeMap::new();
        }
        let places = places.iter().enumerate();
        places
            .map(|(index, &place)| (place, members[(index + self.turned) % members.len()]))
            .collect()
    }
}

impl Seat {
    /// What it is about to give back.
    pub(super) fn gives(&self) -> Vec<Spot> {
        match &self.unanswered {
            Some(Told::Revoked { places, .. }) => places.clone(),
            _ => Vec::new(),
        }
    }

    /// All that it had is gone.
    fn learns_of_the_loss(&mut self) {
        self.has_lost = true;
        self.told.clear();
        let gives = self.gives();
        let places = self.has.iter().copied();
        self.told.push_back(Told::Revoked {
            places: places.filter(|place| !gives.contains(place)).collect(),
            lost: true,
        });
    }
}
