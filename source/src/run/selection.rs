//! By which entries of `postgres.tables` the stream was asked for, where the server chooses by them: with wal2json.
//!
//! A position counts what has come of a transaction. Where a part of it is in the log, its rest is to be asked for as its
//! beginning was, or another change would have the number. So the entries stand in the record of progress, and a start with
//! others reads that rest first, in a session of its own.

use crate::log::progress::Progress;

/// The session has to be begun again, with the stream asked for by other entries.
#[derive(Debug, thiserror::Error)]
#[error("{}", match .0 {
    Some(_) => "the log ends amid a transaction that was read under another postgres.tables: its rest is read under that one",
    None => "the stream goes on under postgres.tables as it is now",
})]
pub(crate) struct OtherSelection(
    /// Those that are to be asked for instead of the configuration's.
    pub(crate) Option<Vec<String>>,
);

/// What is to be asked for instead of the configuration's entries, from this progress on.
pub(super) fn needed<'a>(
    goes_on: Option<&'a Progress>,
    configured: &[String],
) -> Option<&'a [String]> {
    let amid = goes_on.filter(|progress| progress.position.is_amid_transaction());
    let counted = amid.and_then(|progress| progress.selection.as_deref());
    counted.filter(|counted| *counted != configured)
}

#[cfg(test)]
mod tests {
    use tributary_schemas::Lsn;

    use super::needed;
    use crate::log::progress::{Position, Progress};

    #[test]
    fn only_the_rest_of_a_transaction_is_asked_for_as_it_was() {
        let [before, now] = ["s.t", "s.*"].map(|entry| vec![entry.to_owned()]);
        let mut position = Position::at_consistent_point(Lsn(3), 9);
        let mut progress = Progress::new("1".to_owned(), 1, position);
        progress.selection = Some(before.clone());
        assert_eq!(needed(Some(&progress), &now), None, "between transactions");
        position.advance(Lsn(5), 7).unwrap();
        progress.position = position;
        assert_eq!(needed(Some(&progress), &now), Some(&before[..]));
        assert_eq!(needed(Some(&progress), &before), None, "as it was");
        assert_eq!(needed(None, &now), None, "anew");
        progress.selection = None;
        assert_eq!(needed(Some(&progress), &now), None, "of an earlier version");
    }
}
