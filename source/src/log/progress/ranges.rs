//! What of a table is still to be read: ranges of pages, kept in the progress record.
//!
//! A row that is not read yet and does not change stays where it is as long as the relation's file does. A row
//! that changes comes through the stream, wherever it moves to. So ranges of ctids are enough to go on where a
//! killed snapshot ended; only a relation that was rewritten is read from its beginning again.

use serde::{Deserialize, Serialize};
use tributary_postgres::ctid::TidRange;

/// One relation with rows of its own: a table, or a leaf of a partitioned one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RelationRanges {
    pub(crate) oid: u32,
    /// The file that the ranges speak of (`pg_relation_filenode`).
    pub(crate) filenode: u32,
    /// Its size when it was planned, in pages: for the progress only.
    pub(crate) pages: u32,
    /// What is to be read, in order and apart; empty when all is read.
    pub(crate) pending: Vec<TidRange>,
}

impl RelationRanges {
    /// A relation of which nothing is read.
    pub(crate) fn unread(oid: u32, filenode: u32, pages: u32) -> Self {
        Self {
            oid,
            filenode,
            pages,
            pending: vec![TidRange::ALL],
        }
    }

    /// The rows of a range are in the log.
    pub(crate) fn finish(&mut self, done: TidRange) {
        let left = self.pending.iter().flat_map(|range| range.without(done));
        self.pending = left.collect();
    }

    fn pages_left(&self) -> u64 {
        self.pending
            .iter()
            .map(|range| range.pages(self.pages))
            .sum()
    }
}

/// What is asked for when a table is to be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SnapshotRequest {
    /// Rows that are not there any more vanish from the topic's consumers too, once all is read.
    pub(crate) sweep: bool,
    /// A condition in SQL: other rows are left out. Not together with `sweep`.
    pub(crate) filter: Option<String>,
}

/// A table's rows on their way into the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableSnapshot {
    /// Rows with a lower `seq` are gone when this snapshot is complete; `None` without a sweep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) below: Option<u64>,
    /// A condition in SQL: other rows are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) filter: Option<String>,
    /// Somebody asked for it: the topic is whole without it, so it may be cancelled.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) on_request: bool,
    /// By relation; `None` before the table was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) relations: Option<Vec<RelationRanges>>,
    /// Rows that are in the log.
    #[serde(default)]
    pub(crate) rows: u64,
}

impl TableSnapshot {
    /// A snapshot that nothing was read of. `next_seq` is what the next record's `seq` is at least.
    pub(crate) fn requested(request: SnapshotRequest, next_seq: u64) -> Self {
        Self {
            below: request.sweep.then_some(next_seq),
            filter: request.filter,
            on_request: false,
            relations: None,
            rows: 0,
        }
    }

    /// Whether somebody asked for it with a condition, which may be one that cannot be met. One of our own chooses rows that
    /// the topic lacks.
    pub(crate) const fn has_a_condition_of_others(&self) -> bool {
        self.on_request && self.filter.is_some()
    }

    /// Whether all rows are in the log.
    pub(crate) fn is_complete(&self) -> bool {
        self.relations
            .as_ref()
            .is_some_and(|relations| relations.iter().all(|one| one.pending.is_empty()))
    }

    /// Takes over which relations there are now, each with nothing read. What was planned before stays as it
    /// is where the file is still the same; relations that are gone are forgotten.
    pub(crate) fn reconcile(&mut self, now: Vec<RelationRanges>) {
        let mut before = self.relations.take().unwrap_or_default();
        let kept = now.into_iter().map(|relation| {
            let known = before
                .iter()
                .position(|old| old.oid == relation.oid && old.filenode == relation.filenode);
            known.map_or(relation, |index| before.swap_remove(index))
        });
        self.relations = Some(kept.collect());
    }

    /// A planned relation.
    pub(crate) fn relation_mut(&mut self, oid: u32) -> Option<&mut RelationRanges> {
        self.relations
            .as_mut()?
            .iter_mut()
            .find(|relation| relation.oid == oid)
    }

    /// Pages in all, and how many of them are still to be read.
    pub(crate) fn pages(&self) -> (u64, u64) {
        let relations = self.relations.as_deref().unwrap_or_default();
        (
            relations.iter().map(|one| u64::from(one.pages)).sum(),
            relations.iter().map(RelationRanges::pages_left).sum(),
        )
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use tributary_postgres::ctid::{Tid, TidRange};

    use super::{RelationRanges, SnapshotRequest, TableSnapshot};

    fn range(page: u32, place: u16, to: Option<Tid>) -> TidRange {
        TidRange {
            after: Tid(page, place),
            to,
        }
    }

    #[test]
    fn rows_of_new_partitions_are_chosen_by_no_condition_of_others() {
        let asked = |filter: Option<&str>, on_request| {
            let request = SnapshotRequest {
                sweep: false,
                filter: filter.map(str::to_owned),
            };
            let mut snapshot = TableSnapshot::requested(request, 9);
            snapshot.on_request |= on_request;
            snapshot.has_a_condition_of_others()
        };
        assert!(asked(Some("a > 1"), true));
        assert!(!asked(Some("tableoid IN (1)"), false));
        assert!(!asked(None, true));
    }

    #[test]
    fn chunks_are_cut_and_finished_in_any_order() {
        let mut relation = RelationRanges::unread(1, 2, 250);
        let (first, rest) = TidRange::ALL.cut(100, 250);
        let (second, rest) = rest.unwrap().cut(100, 250);
        let (third, rest) = rest.unwrap().cut(100, 250);
        assert_eq!(first, range(0, 0, Some(Tid(100, 0))));
        assert_eq!(second, range(100, 0, Some(Tid(200, 0))));
        assert_eq!((third, rest), (range(200, 0, None), None));
        relation.finish(range(100, 0, Some(Tid(150, 7))));
        assert_eq!(
            relation.pending,
            [first, range(150, 7, None)],
            "a worker ahead of another"
        );
        relation.finish(third);
        assert_eq!(relation.pending, [first, range(150, 7, Some(Tid(200, 0)))]);
        assert_eq!(relation.pages_left(), 150);
        relation.finish(first);
        relation.finish(range(150, 7, Some(Tid(200, 0))));
        assert!(relation.pending.is_empty());
    }

    #[test]
    fn a_range_goes_on_behind_the_last_row_that_is_in_the_log() {
        let mut relation = RelationRanges::unread(1, 2, 250);
        relation.finish(range(0, 0, Some(Tid(99, 3))));
        assert_eq!(relation.pending, [range(99, 3, None)]);
        relation.finish(range(0, 0, Some(Tid(99, 3))));
        assert_eq!(relation.pending, [range(99, 3, None)]);
        let (chunk, _) = relation.pending[0].cut(100, 250);
        assert_eq!(chunk, range(99, 3, Some(Tid(199, 0))));
    }

    #[test]
    fn a_rewritten_relation_is_read_again_and_others_go_on() {
        let mut snapshot = TableSnapshot::requested(SnapshotRequest::default(), 9);
        assert!(!snapshot.is_complete(), "nothing is planned");
        let of = |oid, filenode| RelationRanges::unread(oid, filenode, 10);
        snapshot.reconcile(vec![of(1, 11), of(2, 12), of(3, 13)]);
        for oid in [1, 2, 3] {
            let relation = snapshot.relation_mut(oid).unwrap();
            relation.finish(TidRange::ALL);
        }
        assert!(snapshot.is_complete());
        snapshot.reconcile(vec![of(1, 11), of(2, 99), of(4, 14)]);
        let pending: Vec<_> = snapshot
            .relations
            .iter()
            .flatten()
            .map(|one| (one.oid, one.pending.len()))
            .collect();
        assert_eq!(pending, [(1, 0), (2, 1), (4, 1)]);
    }
}
