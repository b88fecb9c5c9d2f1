//! Values without a text form.

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
