//! Which records of a batch are refused: pieces of it are tried until each one that is refused is found.

use tributary_engine::{Change, Rejection};

use crate::warehouse::failure::Failure;

/// Records that are tried together at first, and at the most.
const FIRST: usize = 256;

/// The search, step by step: each piece is tried alone, and what came of it said.
pub(crate) struct Search<'c, 'a> {
    /// The last of these is tried next.
    rest: Vec<&'c [Change<'a>]>,
    /// Sizes follow success: where all are refused, each is tried alone.
    size: usize,
    refused: Vec<Rejection>,
}

impl<'c, 'a> Search<'c, 'a> {
    /// A search among these.
    pub(crate) fn new(changes: &'c [Change<'a>]) -> Self {
        Self {
            rest: vec![changes],
            size: FIRST,
            refused: Vec::new(),
        }
    }

    /// The records that are to be tried next, and taken back again.
    pub(crate) fn next_piece(&mut self) -> Option<&'c [Change<'a>]> {
        let records = self.rest.pop()?;
        let (piece, later) = records.split_at(self.size.min(records.len()));
        if !later.is_empty() {
            self.rest.push(later);
        }
        Some(piece)
    }

    /// What came of a piece.
    ///
    /// # Errors
    /// A failure that is no record's.
    pub(crate) fn tried(
        &mut self,
        piece: &'c [Change<'a>],
        result: Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (line, reason) = match result {
            Ok(()) => {
                self.size = (self.size * 2).min(FIRST);
                return Ok(());
            }
            Err(Failure::Record { line, reason }) => (line, reason),
            Err(failure) => return Err(failure),
        };
        self.size = (self.size / 2).max(1);
        let named = line
            .and_then(|line| line.checked_sub(1))
            .filter(|at| *at < piece.len());
        match (named, piece) {
            (None, [record]) => self.refused.push(rejection(record, reason)),
            // What comes before it was copied; whether the merge takes it is not known.
            (Some(at), _) => {
                self.refused.push(rejection(&piece[at], reason));
                self.rest.extend(
                    [&piece[at + 1..], &piece[..at]]
                        .iter()
                        .filter(|left| !left.is_empty()),
                );
            }
            (None, _) => {
                let (first, second) = piece.split_at(piece.len() / 2);
                self.rest.extend([second, first]);
            }
        }
        Ok(())
    }

    /// All that were found, in the order of their partitions and offsets.
    pub(crate) fn refused(mut self) -> Vec<Rejection> {
        self.refused
            .sort_unstable_by_key(|rejection| (rejection.partition, rejection.offset));
        self.refused
    }
}

const fn rejection(record: &Change<'_>, reason: String) -> Rejection {
    Rejection {
        partition: record.partition,
        offset: record.offset,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use tributary_engine::{Action, Change};

    use super::{FIRST, Failure, Search};

    const RECORDS: i64 = 1000;

    /// The offsets that are found where these are refused, and how often something was tried. A line is named, or is not.
    fn search(of: impl Fn(i64) -> bool, names_line: bool) -> (Vec<i64>, usize) {
        let changes: Vec<_> = (0..RECORDS)
            .map(|offset| Change {
                partition: 0,
                offset,
                seq: 1,
                key: None,
                action: Action::Delete,
            })
            .collect();
        let mut tries = 0;
        let mut search = Search::new(&changes);
        while let Some(piece) = search.next_piece() {
            tries += 1;
            assert!((1..=FIRST).contains(&piece.len()));
            let result = match piece.iter().position(|change| of(change.offset)) {
                None => Ok(()),
                Some(at) => Err(Failure::Record {
                    line: names_line.then_some(at + 1),
                    reason: String::new(),
                }),
            };
            search.tried(piece, result).unwrap();
        }
        let found = search.refused();
        (
            found.iter().map(|rejection| rejection.offset).collect(),
            tries,
        )
    }

    #[test]
    fn all_refused_records_are_found_and_no_others() {
        for names_line in [true, false] {
            let (none, tries) = search(|_| false, names_line);
            assert_eq!((none.len(), tries), (0, 4));
            let (some, _) = search(|offset| offset % 97 == 5, names_line);
            assert_eq!(
                some,
                (0..RECORDS)
                    .filter(|offset| offset % 97 == 5)
                    .collect::<Vec<_>>()
            );
            let (all, tries) = search(|_| true, names_line);
            assert_eq!(all, (0..RECORDS).collect::<Vec<_>>());
            assert!(tries < 1100, "{tries}");
        }
    }
}
