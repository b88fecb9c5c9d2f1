//! What a comparison finds.

use std::fmt;

use serde_json::Value as Json;

/// One thing in which we differ from Debezium.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The schema or record that it is in.
    pub place: String,
    /// The field, from the outermost on, joined by dots.
    pub path: String,
    /// What of it: an attribute of a schema, or `value`.
    pub what: &'static str,
    /// What Debezium has; null if it has nothing.
    pub debezium: Json,
    /// What we have; null if we have nothing.
    pub ours: Json,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place,
            path,
            what,
            debezium,
            ours,
        } = self;
        write!(
            f,
            "{place}: {what} of '{path}' is {ours}, Debezium's is {debezium}"
        )
    }
}
