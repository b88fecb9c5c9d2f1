//! What a comparison has found.

use std::collections::BTreeMap;

use tributary_schemas::Lsn;

/// In which way a row and its copy differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// The row has no copy.
    Missing,
    /// The copy has no row.
    Extra,
    /// The copy has other values than the row.
    Changed,
    /// The row has a value for which there is no form, so it cannot have a copy.
    Unfit,
}

impl Difference {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Missing, Self::Extra, Self::Changed, Self::Unfit];

    /// Its name in an answer.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Changed => "changed",
            Self::Unfit => "unfit",
        }
    }
}

/// Names, as many as are to be told, and how many there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub ids: Vec<String>,
}

impl Names {
    pub(super) fn add(&mut self, id: String, most: usize) {
        self.count += 1;
        if self.ids.len() < most {
            self.ids.push(id);
        }
    }
}

/// What a comparison has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// How many rows were read.
    pub rows: u64,
    /// How many names of the copy were looked up.
    pub copies: u64,
    /// A position behind the last look at the table.
    pub position: Lsn,
    /// What differs.
    pub differing: BTreeMap<Difference, Names>,
    /// Rows whose copies were written anew from look to look.
    pub moving: Names,
    /// What differed when it was looked at first, and could not be looked at again: the copy had not come so far in time.
    pub behind: Names,
    /// Why it had not.
    pub waits_for: Option<String>,
    /// How many names do not tell whose they are.
    pub unknown: u64,
}

impl Report {
    /// Whether nothing differs, as far as can be said, and everything could be compared.
    pub fn is_clean(&self) -> bool {
        self.differing.is_empty() && self.behind.count == 0 && self.unknown == 0
    }

    pub(super) fn differs(&mut self, kind: Difference, id: String, most: usize) {
        self.differing.entry(kind).or_default().add(id, most);
    }
}
