//! Why a statement or a whole transaction failed, as far as what follows depends on it.

use tributary_runtime::Error;

/// Why a statement or a whole transaction failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The warehouse as a whole.
    Target(Error),
    /// Another instance has a partition.
    TakenOver(Error),
    /// A record that the warehouse can never take.
    Record {
        /// The line of what was copied, counted from 1, where the warehouse said it.
        line: Option<usize>,
        /// What is wrong, without the value.
        reason: String,
    },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Target(error)
    }
}

impl Failure {
    /// As an error, where no record can be at fault (control statements).
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Target(error) | Self::TakenOver(error) => error,
            Self::Record { reason, .. } => Error::stop_msg(reason),
        }
    }
}
