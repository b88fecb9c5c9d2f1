//! A change, as the oracle compares it.

use std::collections::BTreeMap;

/// A change of one row in canonical text: what both sides are brought to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `schema.table`
    pub table: String,
    /// The key's values, by column name.
    pub key: BTreeMap<String, String>,
    /// `c`, `u`, `d`, or `t` for a truncate, which has neither key nor row.
    pub op: char,
    /// The new row's values, without columns that the log does not carry (TOASTed and untouched); empty for `d`.
    pub row: BTreeMap<String, Option<String>>,
}
