//! What can be wrong with a record.

/// What is wrong at the offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("it ends early")]
    Truncated,
    #[error("'{0}' is expected")]
    Expected(char),
    #[error("bytes follow its end")]
    Trailing,
    #[error("an escape sequence is not JSON's")]
    Escape,
    #[error("a value is not of the expected kind")]
    Value,
    #[error("{0} is missing or malformed")]
    Part(&'static str),
}
