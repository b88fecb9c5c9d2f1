//! What to think of a row that differs from its copy: a state machine without IO.

use super::report::Difference;
use super::sides::{Held, Image};

/// A copy that was written anew before each of so many looks follows its row, though it was equal in none.
const MOST_LOOKS: u32 = 6;

/// A row or a copy that has differed, and what was seen of both when they were looked at last.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// The key, where the name tells it; a name that no row can have has none.
    pub(super) key: Option<Vec<String>>,
    last: Option<Seen>,
    /// How often both were looked at.
    looks: u32,
    /// There was a copy in one of them.
    was_held: bool,
}

/// Of one look.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    stamp: Option<String>,
    held: Option<Held>,
}

/// What a look has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// They are equal.
    Equal,
    /// They differ, whatever changes.
    Differs(Difference),
    /// One of them may be on its way.
    Again,
    /// It is written to all the time, and the copy follows.
    Moves,
}

impl Doubt {
    pub(super) const fn of(key: Option<Vec<String>>) -> Self {
        Self {
            key,
            last: None,
            looks: 0,
            was_held: false,
        }
    }

    /// A look: first the row was read in a snapshot; then the copy came to have everything up to it; then the copy was read.
    ///
    /// A copy that is the same in two looks was written before the second one's snapshot. It has everything that this one shows, so it
    /// must be that row. A row that has no copy in two looks, and was the same all the while, had none when it should have had.
    pub(super) fn look(&mut self, row: Option<(&str, &Image)>, held: Option<Held>) -> Look {
        let differs = match (row, &held) {
            (None, None) => return Look::Equal,
            (Some((_, image)), _) if image.digest.is_none() => {
                return Look::Differs(Difference::Unfit);
            }
            (Some((_, image)), Some(held)) if image.digest == Some(held.digest) => {
                return Look::Equal;
            }
            (Some(_), Some(_)) => Difference::Changed,
            (Some(_), None) => Difference::Missing,
            (None, Some(_)) => Difference::Extra,
        };
        let seen = Seen {
            stamp: row.map(|(stamp, _)| stamp.to_owned()),
            held,
        };
        self.was_held |= seen.held.is_some();
        let is_certain = self.last.as_ref().is_some_and(|last| {
            last.held == seen.held && (seen.held.is_some() || last.stamp == seen.stamp)
        });
        if is_certain {
            return Look::Differs(differs);
        }
        self.last = Some(seen);
        self.looks += 1;
        if self.looks >= MOST_LOOKS {
            // A row that is written all the time and never has a copy is not followed by one.
            return match self.was_held {
                true => Look::Moves,
                false => Look::Differs(differs),
            };
        }
        Look::Again
    }

    /// Whether the copy was seen to be written to.
    pub(super) const fn moves(&self) -> bool {
        self.looks > 1 && self.was_held
    }
}

#[cfg(test)]
mod tests {
    use super::{Difference, Doubt, Held, Image, Look, MOST_LOOKS};

    fn image(digest: u8) -> Image {
        Image {
            id: "1".to_owned(),
            digest: Some([digest; 32]),
        }
    }

    fn held(version: i64, digest: u8) -> Option<Held> {
        let digest = [digest; 32];
        Some(Held { version, digest })
    }

    #[test]
    fn what_stays_different_differs() {
        for (row, copy, kind) in [
            (Some(1), held(7, 2), Difference::Changed),
            (Some(1), None, Difference::Missing),
            (None, held(7, 2), Difference::Extra),
        ] {
            let image = row.map(image);
            let row = image.as_ref().map(|image| ("a", image));
            let mut doubt = Doubt::default();
            assert_eq!(doubt.look(row, copy.clone()), Look::Again);
            assert_eq!(doubt.look(row, copy), Look::Differs(kind));
        }
    }

    #[test]
    fn a_copy_that_moves_is_on_its_way_and_one_that_stands_still_is_not() {
        let (old, new) = (image(1), image(2));
        let mut doubt = Doubt::default();
        assert_eq!(doubt.look(Some(("a", &old)), held(7, 9)), Look::Again);
        // The row is the same, the copy is written just now.
        assert_eq!(doubt.look(Some(("a", &old)), held(8, 9)), Look::Again);
        // The row changes all the time and the copy does not follow.
        let stale = Look::Differs(Difference::Changed);
        assert_eq!(doubt.look(Some(("b", &new)), held(8, 9)), stale);
    }

    #[test]
    fn a_copy_that_always_moves_follows() {
        let row = image(1);
        let mut doubt = Doubt::default();
        for version in 1..i64::from(MOST_LOOKS) {
            assert_eq!(doubt.look(Some(("a", &row)), held(version, 9)), Look::Again);
            assert_eq!(doubt.moves(), version > 1);
        }
        assert_eq!(doubt.look(Some(("a", &row)), held(99, 9)), Look::Moves);
    }

    /// A row that the copy refuses is missing there, however often it is written.
    #[test]
    fn a_hot_row_without_a_copy_is_missing() {
        let row = image(1);
        let mut doubt = Doubt::default();
        for look in 1..MOST_LOOKS {
            let stamp = look.to_string();
            assert_eq!(doubt.look(Some((&stamp, &row)), None), Look::Again);
            assert!(!doubt.moves());
        }
        let missing = Look::Differs(Difference::Missing);
        assert_eq!(doubt.look(Some(("last", &row)), None), missing);
    }

    #[test]
    fn a_row_that_comes_and_goes_is_not_missing() {
        let row = image(1);
        let mut doubt = Doubt::default();
        assert_eq!(doubt.look(Some(("a", &row)), None), Look::Again);
        assert_eq!(doubt.look(Some(("b", &row)), None), Look::Again);
        assert_eq!(doubt.look(None, held(3, 1)), Look::Again);
        assert_eq!(doubt.look(None, None), Look::Equal);
    }
}
