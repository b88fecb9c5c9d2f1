//! Columns, and values on their way into SQL and COPY.

use rand::RngExt;
use rand::rngs::SmallRng;

use super::value::ValueKind;

/// A column of a generated table.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: ValueKind,
    pub(super) nullable: bool,
    /// Part of the key, where the table has one.
    pub(super) key: bool,
}

impl Column {
    /// The type in SQL.
    pub(super) fn sql_type(&self, schema: &str) -> String {
        self.kind.sql.replace("{}", &identifier(schema))
    }

    /// A value's text; `None` is null. Of a key's column it is the `n`-th of its values.
    pub(super) fn value(&self, rng: &mut SmallRng, n: u32) -> Option<String> {
        match self.kind.key {
            Some(key) if self.key => Some(key(n)),
            _ if self.nullable && rng.random_bool(0.2) => None,
            _ => Some((self.kind.value)(rng)),
        }
    }
}

/// Names that are legal in Postgres, and hard elsewhere.
const NAMES: [&str; 12] = [
    "plain",
    "a b",
    "Weird Näme-$",
    "1st",
    "x_u00e4",
    "dot.ted",
    "qu\"ote",
    "𝄞",
    "SELECT",
    "_",
    "tab\tx",
    "ends_u",
];

/// A name that no other object of the table has.
pub(super) fn name(rng: &mut SmallRng, number: usize) -> String {
    if rng.random_bool(0.5) {
        return format!("c{number}");
    }
    format!("{}{number}", NAMES[rng.random_range(0..NAMES.len())])
}

/// A quoted identifier.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A literal, of unknown type until it meets a column.
pub(super) fn literal(value: Option<&str>) -> String {
    match value {
        None => "NULL".to_owned(),
        Some(text) if text.contains('\\') => {
            format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
        }
        Some(text) => format!("'{}'", text.replace('\'', "''")),
    }
}

/// A field of COPY's text format.
pub(super) fn copy_field(value: Option<&str>) -> String {
    let Some(text) = value else {
        return "\\N".to_owned();
    };
    text.replace('\\', "\\\\")
        .replace('\t', "\\t")
        .replace('\n', "\\n")
        .replace('\r', "\\r")
}
