//! Which transactions are let in while a table without a key is to be read: its rows come before those that its snapshot
//! does not show. Nothing is waited for or read here: what the stream is to do it is told.

use std::time::{Duration, Instant};

use tributary_postgres::pgoutput::Begin;
use tributary_schemas::Lsn;

/// How long the stream waits for a slot, and for the rest of a preparation. A slot waits for all transactions that are
/// open, which may be long; where commits wait for our confirmation, they and the slot would wait for each other.
const MAX_HOLD: Duration = Duration::from_secs(5);

/// How far the preparation of a table is. It is told before the server can send anything that comes behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing has begun that concerns the stream.
    Describing,
    /// A slot is being created: its consistent point is behind this place.
    Creating(Lsn),
    /// It is created, with this consistent point.
    Created(Lsn),
}

/// What is to be done about the table.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The stream stands where its rows are to be read.
    Read,
    /// The stream has passed that place: the snapshot lacks what is in the log already.
    Passed,
}

/// What is to be done about the transaction that is held.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// It goes on, and is not held any more.
    LetIn(Begin),
    /// A slot that is not there yet may still be in time: the stream does not wait for it any more.
    Release,
    /// The snapshot is not ready in time. The stream cannot go on with it behind its place.
    Late,
}

/// Keeps transactions out.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// In this session nothing comes in but the rest of the transaction that is committed here.
    rest_of: Option<Lsn>,
    held: Option<Held>,
    /// The stream has waited for long enough, and does not any more while the slot is being created.
    released: bool,
}

/// A transaction that has come in, and is not let in yet.
#[derive(Debug, Clone, Copy)]
struct Held {
    begin: Begin,
    since: Instant,
}

impl Gate {
    /// The gate of a session in which nothing else than the rest of a transaction may have to come in.
    pub(super) fn new(rest_of: Option<Lsn>) -> Self {
        Self {
            rest_of,
            ..Self::default()
        }
    }

    /// Whether nothing comes in but the rest of a transaction.
    pub(super) const fn is_for_a_rest(&self) -> bool {
        self.rest_of.is_some()
    }

    /// Another table is to be read.
    pub(super) const fn begin(&mut self) {
        self.released = false;
    }

    /// Whether a transaction is not to come in: not in this session, or not yet.
    pub(super) fn keeps_out(&self, stage: Option<Stage>, begin: &Begin) -> bool {
        let is_beyond = self.rest_of.is_some_and(|rest| begin.final_lsn > rest);
        is_beyond || self.is_behind_rows(stage, begin)
    }

    /// Whether the rows of a table in this stage come before a transaction, or may have to.
    fn is_behind_rows(&self, stage: Option<Stage>, begin: &Begin) -> bool {
        let from = match stage {
            None | Some(Stage::Describing) => None,
            Some(Stage::Creating(since)) => (!self.released).then_some(since),
            Some(Stage::Created(point)) => Some(point),
        };
        from.is_some_and(|from| begin.final_lsn >= from)
    }

    /// The next transaction is kept out.
    pub(super) const fn hold(&mut self, begin: Begin, now: Instant) {
        self.held = Some(Held { begin, since: now });
    }

    pub(super) const fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// What is to be done about a table in this stage, between two transactions. `begun`: where the newest one is committed
    /// that was let in; `passed`: all before that has come in.
    pub(super) fn due(
        &self,
        (stage, is_prepared): (Stage, bool),
        (begun, passed): (Lsn, Lsn),
    ) -> Option<Due> {
        let Stage::Created(point) = stage else {
            return None;
        };
        if begun >= point {
            return Some(Due::Passed);
        }
        let next = self.held.map(|held| held.begin.final_lsn);
        let is_there = passed >= point || next.is_some_and(|next| next >= point);
        (is_prepared && is_there).then_some(Due::Read)
    }

    /// What is to be done about the transaction that is held, between two transactions; `None` while it waits. To be asked
    /// again until it is let in.
    pub(super) fn open(&mut self, stage: Option<Stage>, now: Instant) -> Option<Opening> {
        let Held { begin, since } = self.held?;
        if !self.is_behind_rows(stage, &begin) {
            self.held = None;
            return Some(Opening::LetIn(begin));
        }
        if now.duration_since(since) < MAX_HOLD {
            return None;
        }
        if matches!(stage, Some(Stage::Created(_))) {
            return Some(Opening::Late);
        }
        self.released = true;
        Some(Opening::Release)
    }
}

#[cfg(test)]
mod tests {
    use super::{Begin, Due, Gate, Instant, Lsn, MAX_HOLD, Opening, Stage};

    const fn begin(final_lsn: u64) -> Begin {
        Begin {
            final_lsn: Lsn(final_lsn),
            commit_time_us: 0,
            xid: 1,
        }
    }

    fn holding(final_lsn: u64, since: Instant) -> Gate {
        let mut gate = Gate::default();
        gate.hold(begin(final_lsn), since);
        gate
    }

    #[test]
    fn transactions_are_kept_out_from_where_the_slot_may_begin() {
        let gate = Gate::default();
        for (stage, from) in [
            (None, None),
            (Some(Stage::Describing), None),
            (Some(Stage::Creating(Lsn(10))), Some(10)),
            (Some(Stage::Created(Lsn(15))), Some(15)),
        ] {
            for final_lsn in 5..20 {
                let is_out = gate.keeps_out(stage, &begin(final_lsn));
                assert_eq!(
                    is_out,
                    from.is_some_and(|from| final_lsn >= from),
                    "{stage:?}"
                );
            }
        }
    }

    #[test]
    fn behind_the_rest_of_a_transaction_nothing_comes_in() {
        let gate = Gate::new(Some(Lsn(10)));
        let out: Vec<bool> = (9..12).map(|at| gate.keeps_out(None, &begin(at))).collect();
        assert_eq!(out, [false, false, true]);
        assert!(gate.is_for_a_rest() && !Gate::new(None).is_for_a_rest());
    }

    #[test]
    fn rows_are_read_where_the_stream_stands_at_the_snapshot() {
        let now = Instant::now();
        let due = |next: Option<u64>, state, begun, passed| {
            let gate = next.map_or_else(Gate::default, |next| holding(next, now));
            gate.due(state, (Lsn(begun), Lsn(passed)))
        };
        let read = Some(Due::Read);
        let passed = Some(Due::Passed);
        let ready = (Stage::Created(Lsn(15)), true);
        assert_eq!(due(Some(16), ready, 9, 9), read, "the next is behind it");
        assert_eq!(due(Some(15), ready, 9, 9), read, "the next is at it");
        assert_eq!(due(Some(14), ready, 9, 9), None, "the next is before it");
        assert_eq!(due(None, ready, 9, 14), None, "it is not there yet");
        assert_eq!(due(None, ready, 9, 15), read, "nothing comes before it");
        assert_eq!(due(None, ready, 15, 15), passed, "it was let in");
        let created = (Stage::Created(Lsn(15)), false);
        assert_eq!(due(Some(16), created, 9, 9), None, "not prepared");
        assert_eq!(due(None, created, 16, 16), passed, "not prepared either");
        let creating = (Stage::Creating(Lsn(8)), true);
        assert_eq!(due(Some(16), creating, 9, 9), None, "no point yet");
        let describing = (Stage::Describing, true);
        assert_eq!(due(Some(16), describing, 9, 9), None, "no slot yet");
    }

    #[test]
    fn a_slot_is_waited_for_only_so_long() {
        let since = Instant::now();
        let creating = Some(Stage::Creating(Lsn(10)));
        let mut gate = holding(12, since);
        assert_eq!(gate.open(creating, since), None);
        assert_eq!(gate.open(creating, since + MAX_HOLD / 2), None);
        let late = since + MAX_HOLD;
        assert_eq!(gate.open(creating, late), Some(Opening::Release));
        assert_eq!(gate.open(creating, late), Some(Opening::LetIn(begin(12))));
        assert!(!gate.holds());
        assert_eq!(gate.open(creating, late), None, "there is none to let in");
        assert!(
            !gate.keeps_out(creating, &begin(13)),
            "nor are later ones held"
        );
        let created = Some(Stage::Created(Lsn(20)));
        assert!(
            gate.keeps_out(created, &begin(20)),
            "it may still be in time"
        );
        gate.begin();
        assert!(gate.keeps_out(creating, &begin(13)), "for another table");
    }

    #[test]
    fn a_snapshot_that_is_not_ready_in_time_is_given_up() {
        let since = Instant::now();
        let created = Some(Stage::Created(Lsn(10)));
        let mut gate = holding(12, since);
        assert_eq!(gate.open(created, since), None);
        assert_eq!(gate.open(created, since + MAX_HOLD), Some(Opening::Late));
        assert!(gate.holds(), "until the table is left for later");
        assert_eq!(gate.open(None, since), Some(Opening::LetIn(begin(12))));
    }

    #[test]
    fn a_transaction_before_the_point_waits_only_until_that_is_known() {
        let now = Instant::now();
        let mut gate = holding(12, now);
        assert_eq!(gate.open(Some(Stage::Creating(Lsn(10))), now), None);
        let created = Some(Stage::Created(Lsn(15)));
        assert_eq!(gate.open(created, now), Some(Opening::LetIn(begin(12))));
    }
}
