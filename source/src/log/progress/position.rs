//! Where a source stands.

use serde::{Deserialize, Serialize};
use tributary_schemas::Lsn;

/// Where a source stands in the WAL and in the log.
///
/// Inequalities: `confirm <= ` the end of the last whole transaction that is in the log; the slot's confirmed
/// flush `<= confirm`; `seq` is the highest `tributary.seq` in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Commit LSN of the last transaction of which something is in the log.
    pub(crate) commit_lsn: Lsn,
    /// How many changes of that transaction are in the log, counted on the wire before any filter.
    pub(crate) ordinal: u64,
    /// Whether that transaction is in the log as a whole.
    pub(crate) complete: bool,
    /// What may be confirmed to the slot.
    pub(crate) confirm: Lsn,
    /// The highest `tributary.seq` given.
    pub(crate) seq: u64,
    /// Values were looked up that changes up to here have a part in, beyond what is published.
    #[serde(default, skip_serializing_if = "Lsn::is_zero")]
    pub(crate) looked_up: Lsn,
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

    /// Gives the next record's `seq`: `max(previous + 1, commit LSN)`.
    pub(crate) fn next_seq(&mut self, commit_lsn: Lsn) -> u64 {
        self.seq = (self.seq + 1).max(commit_lsn.0);
        self.seq
    }

    /// How many changes of the transaction with this commit LSN are in the log already; `None` for all.
    pub(crate) fn published_of(&self, commit_lsn: Lsn) -> Option<u64> {
        match commit_lsn.cmp(&self.commit_lsn) {
            std::cmp::Ordering::Less => None,
            std::cmp::Ordering::Equal if self.complete => None,
            std::cmp::Ordering::Equal => Some(self.ordinal),
            std::cmp::Ordering::Greater => Some(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use tributary_schemas::Lsn;

    use super::Position;

    #[test]
    fn what_is_in_the_log_is_skipped() {
        let mut position = Position {
            commit_lsn: Lsn(5),
            ordinal: 7,
            complete: false,
            ..Position::at_consistent_point(Lsn(3), 9)
        };
        assert_eq!(position.published_of(Lsn(4)), None);
        assert_eq!(position.published_of(Lsn(5)), Some(7));
        assert_eq!(position.published_of(Lsn(6)), Some(0));
        position.complete = true;
        assert_eq!(position.published_of(Lsn(5)), None);
    }
}
