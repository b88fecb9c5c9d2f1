//! The text forms of a value: what Postgres reads, and what a search engine reads.
//!
//! Both sinks need them, so they have one home. Each form is exact: a number keeps all its digits,
//! a value that a form cannot hold is an error and never another value.

mod bits;
mod calendar;
mod decimal;
mod geometry;
mod json;
mod postgres;

use crate::record::{Datum, FieldType};

/// A value that has no text form. It names the kind of value, never the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// The datum is not of the field's type: it was decoded by another schema.
    #[error("the value is not of the field's type (it was decoded with another schema)")]
    Mismatch,
    /// Null has no text; the target has a sign of its own for it.
    #[error("null has no text form")]
    Null,
    /// A number outside what its type means.
    #[error("a {kind} is outside the range that the target's type has")]
    OutOfRange {
        /// The kind of value: "date", "decimal".
        kind: &'static str,
    },
    /// Postgres cannot hold the character U+0000.
    #[error("a text contains the character U+0000, which Postgres cannot hold")]
    NulCharacter,
}

/// Appends the text that Postgres accepts as input for the column type that fits the field:
/// `interval` for durations, `bit varying` for bits, an array for arrays, `point` for a point, `text` for PostGIS'
/// geometries (as PostGIS prints them), `jsonb` for maps and other records.
///
/// The text is not escaped for `COPY`; it is the same with every `DateStyle` and `IntervalStyle`.
///
/// # Errors
///
/// [`RenderError::Null`] for null itself (inside an array it is `NULL`), and what Postgres cannot
/// hold. `out` may then end in a part of the text.
pub fn postgres_text(
    field_type: &FieldType,
    datum: &Datum<'_>,
    out: &mut Vec<u8>,
) -> Result<(), RenderError> {
    postgres::text(field_type, datum, out)
}

/// Appends a JSON value for a search document.
///
/// Integers and decimals are number literals with all their digits; NaN and the infinities are the
/// strings `NaN`, `Infinity` and `-Infinity`. Dates, times and timestamps are ISO 8601 strings
/// (years before 1 as `0000`, `-0001`, past 9999 with a plus sign; `infinity` and `-infinity` where
/// Postgres has those), with as many digits behind the second as their type has. Durations are
/// microseconds, bytes are base64, bits are a string of 0 and 1, `json` columns a string that holds
/// their text. Null is `null`.
///
/// # Errors
///
/// What is not of the field's type, or outside what the type means. `out` may then end in a part of
/// the value.
pub fn json(
    field_type: &FieldType,
    datum: &Datum<'_>,
    out: &mut Vec<u8>,
) -> Result<(), RenderError> {
    json::value(field_type, datum, out)
}

/// Appends a JSON string: quoted and escaped, also U+2028 and U+2029, which JavaScript takes for ends of lines.
pub fn json_string(text: &str, out: &mut Vec<u8>) {
    json::string(text, out);
}

#[cfg(test)]
mod tests;
