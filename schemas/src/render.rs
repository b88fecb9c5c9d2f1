//! The text forms of a value: what Postgres reads, and what a search engine reads.
//!
//! Both sinks need them, so they have one home. Each form is exact: a number keeps all its digits,
//! a value that a form cannot hold is an error and never another value.

mod bits;
mod calendar;
mod decimal;
mod error;
mod float;
mod geometry;
mod json;
mod postgres;

use crate::record::{Datum, FieldType};
pub use error::RenderError;

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
