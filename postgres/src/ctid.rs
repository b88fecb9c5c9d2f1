//! Places of rows, and ranges of them.

use serde::{Deserialize, Serialize};

/// Where a row is: page and place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Tid(pub u32, pub u16);

impl Tid {
    /// Before the first row of a relation: places are counted from 1.
    pub const ZERO: Self = Self(0, 0);

    /// Parses `(page,place)`, the text form of `ctid`.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (page, place) = text.strip_prefix('(')?.strip_suffix(')')?.split_once(',')?;
        Some(Self(page.parse().ok()?, place.parse().ok()?))
    }
}

/// Rows behind `after`, up to and with `to`; without `to`, to the relation's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TidRange {
    /// The place before the first row.
    pub after: Tid,
    /// The last row's place at the most.
    pub to: Option<Tid>,
}

impl TidRange {
    /// A whole relation.
    pub const ALL: Self = Self {
        after: Tid::ZERO,
        to: None,
    };

    /// Cuts a chunk of at most this many pages off; what is left of it, if anything. The last chunk of a
    /// relation has no end, since the relation may have grown since its pages were counted.
    pub fn cut(self, chunk_pages: u32, relation_pages: u32) -> (Self, Option<Self>) {
        let last_page = self.to.map_or(relation_pages, |to| to.0);
        let end = self.after.0.checked_add(chunk_pages);
        match end.filter(|end| *end < last_page).map(|end| Tid(end, 0)) {
            None => (self, None),
            Some(end) => (
                Self {
                    after: self.after,
                    to: Some(end),
                },
                Some(Self {
                    after: end,
                    to: self.to,
                }),
            ),
        }
    }

    /// What is left of it without another range.
    pub fn without(self, done: Self) -> impl Iterator<Item = Self> {
        let apart = done.to.is_some_and(|to| to <= self.after)
            || self.to.is_some_and(|to| to <= done.after);
        let before = (!apart && self.after < done.after).then_some(Self {
            after: self.after,
            to: Some(done.after),
        });
        let behind = done
            .to
            .filter(|end| !apart && self.to.is_none_or(|to| *end < to))
            .map(|end| Self {
                after: end,
                to: self.to,
            });
        apart
            .then_some(self)
            .into_iter()
            .chain(before)
            .chain(behind)
    }

    /// How many of the relation's pages lie in it.
    pub fn pages(&self, relation: u32) -> u64 {
        let end = self.to.map_or(relation, |to| to.0).max(self.after.0);
        u64::from(end - self.after.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Tid;

    #[test]
    fn a_ctid_is_read_from_its_text() {
        assert_eq!(Tid::parse(b"(4294967294,17)"), Some(Tid(u32::MAX - 1, 17)));
        for wrong in ["", "(1)", "(1,2", "(1,70000)", "(-1,2)", "\u{e4}"] {
            assert_eq!(Tid::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
