//! Where a source stands.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use tributary_runtime::Error;
use tributary_schemas::Lsn;

/// Where a source stands in the WAL and in the log.
///
/// Inequalities: `confirm <= ` the end of the last whole transaction that is in the log; the slot's confirmed
/// flush `<= confirm`; `seq` is the highest `tributary.seq` in the log, and only rises; (commit LSN, ordinal) only rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    commit_lsn: Lsn,
    ordinal: u64,
    complete: bool,
    confirm: Lsn,
    seq: u64,
    #[serde(default, skip_serializing_if = "Lsn::is_zero")]
    looked_up: Lsn,
}

impl Position {
    /// Nothing streamed yet: the slot's consistent point.
    pub(crate) const fn at_consistent_point(consistent: Lsn, seq: u64) -> Self {
        Self {
            commit_lsn: Lsn::ZERO,
            ordinal: 0,
            complete: true,
            confirm: consistent,
            seq,
            looked_up: Lsn::ZERO,
        }
    }

    /// Commit LSN of the last transaction of which something is in the log.
    pub(crate) const fn commit_lsn(&self) -> Lsn {
        self.commit_lsn
    }

    /// How many changes of that transaction are in the log, counted on the wire before any filter.
    pub(crate) const fn ordinal(&self) -> u64 {
        self.ordinal
    }

    /// Whether a part of that transaction, and not all of it, is in the log.
    pub(crate) const fn is_amid_transaction(&self) -> bool {
        !self.complete
    }

    /// What may be confirmed to the slot.
    pub(crate) const fn confirm(&self) -> Lsn {
        self.confirm
    }

    /// The highest `tributary.seq` given.
    pub(crate) const fn seq(&self) -> u64 {
        self.seq
    }

    /// Values were looked up that changes up to here have a part in, beyond what is published.
    pub(crate) const fn looked_up(&self) -> Lsn {
        self.looked_up
    }

    /// What the next record's `seq` will be: `max(previous + 1, commit LSN)`.
    pub(crate) fn following_seq(&self, commit_lsn: Lsn) -> u64 {
        (self.seq + 1).max(commit_lsn.0)
    }

    /// Gives the next record's `seq`.
    pub(crate) fn next_seq(&mut self, commit_lsn: Lsn) -> u64 {
        self.seq = self.following_seq(commit_lsn);
        self.seq
    }

    /// The next `seq` is this LSN at least: rows that were read enter the log at the commit of their watermark.
    pub(crate) fn reach_seq(&mut self, lsn: Lsn) {
        self.seq = self.seq.max(lsn.0.saturating_sub(1));
    }

    /// How many changes of the transaction with this commit LSN are in the log already; `None` for all.
    pub(crate) fn published_of(&self, commit_lsn: Lsn) -> Option<u64> {
        match commit_lsn.cmp(&self.commit_lsn) {
            Ordering::Less => None,
            Ordering::Equal if self.complete => None,
            Ordering::Equal => Some(self.ordinal),
            Ordering::Greater => Some(0),
        }
    }

    /// A change of a transaction is on its way: the one with this ordinal, and all before it.
    ///
    /// # Errors
    /// It is in the log already, by this position: the stream went back.
    pub(crate) fn advance(&mut self, commit_lsn: Lsn, ordinal: u64) -> Result<(), Error> {
        if self
            .published_of(commit_lsn)
            .is_none_or(|published| ordinal <= published)
        {
            return Err(Error::stop_msg(format!(
                "change {ordinal} of the transaction at {commit_lsn} comes behind change {} of the one at {}",
                self.ordinal, self.commit_lsn
            ))
            .remedy("report it, with the server's version; the slot keeps the changes"));
        }
        self.commit_lsn = commit_lsn;
        self.ordinal = ordinal;
        self.complete = false;
        Ok(())
    }

    /// A transaction of so many changes has ended, at `end_lsn`. One without a change moves only what may be confirmed.
    pub(crate) fn commit(&mut self, commit_lsn: Lsn, ordinal: u64, end_lsn: Lsn) {
        if ordinal > 0 {
            self.commit_lsn = commit_lsn;
            self.ordinal = ordinal;
        }
        if commit_lsn == self.commit_lsn {
            self.complete = true;
        }
        self.confirm_to(end_lsn);
    }

    /// The WAL up to here holds nothing more for us. Never between two changes of a transaction.
    pub(crate) fn confirm_to(&mut self, lsn: Lsn) {
        self.confirm = self.confirm.max(lsn);
    }

    /// On another timeline that leaves this one here: behind it the same LSNs mean something else.
    pub(crate) fn confirm_at_most(&mut self, lsn: Lsn) {
        self.confirm = self.confirm.min(lsn);
    }

    /// Values were looked up, as new as this.
    pub(crate) fn look_up_to(&mut self, newest: Lsn) {
        self.looked_up = self.looked_up.max(newest);
    }
}

#[cfg(test)]
mod tests {
    use tributary_schemas::Lsn;

    use super::Position;

    fn within() -> Position {
        let mut position = Position::at_consistent_point(Lsn(3), 9);
        position.advance(Lsn(5), 7).unwrap();
        position
    }

    #[test]
    fn what_is_in_the_log_is_skipped() {
        let mut position = within();
        assert_eq!(position.published_of(Lsn(4)), None);
        assert_eq!(position.published_of(Lsn(5)), Some(7));
        assert_eq!(position.published_of(Lsn(6)), Some(0));
        position.commit(Lsn(5), 7, Lsn(6));
        assert_eq!(position.published_of(Lsn(5)), None);
        assert_eq!(position.confirm(), Lsn(6));
    }

    #[test]
    fn a_position_never_goes_back() {
        let mut position = within();
        for (commit_lsn, ordinal) in [(5, 7), (5, 6), (4, 9)] {
            let error = position.advance(Lsn(commit_lsn), ordinal).unwrap_err();
            assert!(
                error.to_string().contains("comes behind change 7"),
                "{error}"
            );
        }
        assert_eq!(position, within());
        position.advance(Lsn(5), 8).unwrap();
        position.commit(Lsn(5), 8, Lsn(6));
        assert!(position.advance(Lsn(5), 9).is_err(), "it is complete");
        position.advance(Lsn(6), 1).unwrap();
        position.confirm_to(Lsn(4));
        assert_eq!(position.confirm(), Lsn(6));
        position.confirm_at_most(Lsn(5));
        assert_eq!(position.confirm(), Lsn(5));
    }

    #[test]
    fn seq_rises() {
        let mut position = Position::at_consistent_point(Lsn(3), 9);
        assert_eq!(position.following_seq(Lsn(5)), 10);
        assert_eq!(position.next_seq(Lsn(5)), 10);
        assert_eq!(position.next_seq(Lsn(50)), 50);
        position.reach_seq(Lsn(80));
        assert_eq!(position.next_seq(Lsn::ZERO), 80);
        position.reach_seq(Lsn(7));
        assert_eq!(position.next_seq(Lsn::ZERO), 81);
    }
}
