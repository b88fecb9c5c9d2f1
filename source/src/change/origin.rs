//! Where a change stands, and when it was handled.

use std::time::{SystemTime, UNIX_EPOCH};

use tributary_schemas::Lsn;
use tributary_schemas::encode::{Change, Snapshot, TransactionBlock};
use tributary_schemas::record::Op;
use tributary_schemas::table::Cell;

/// Nanoseconds since 1970 now.
pub(crate) fn now_ns() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Where a change stands: what all records that it becomes share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) commit_lsn: Lsn,
    pub(crate) commit_time_us: i64,
    pub(crate) previous_commit: Option<Lsn>,
    pub(crate) lsn: Lsn,
    pub(crate) xid: u32,
    pub(crate) handled_at_ns: i64,
    /// Its place in the transaction, where that is wanted.
    pub(crate) place: Option<TransactionBlock>,
}

impl Origin {
    pub(crate) fn change<'a>(
        &self,
        op: Op,
        before: Option<&'a [Cell<'a>]>,
        after: Option<&'a [Cell<'a>]>,
    ) -> Change<'a> {
        Change {
            op,
            before,
            after,
            commit_time_us: self.commit_time_us,
            snapshot: Snapshot::False,
            sequence: (self.previous_commit, self.lsn),
            tx_id: Some(i64::from(self.xid)),
            lsn: Some(self.lsn),
            transaction: self.place,
            handled_at_ns: self.handled_at_ns,
        }
    }
}
