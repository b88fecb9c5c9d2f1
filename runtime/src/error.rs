//! Errors, classified once where they arise: what the service does about one is not decided again.

use std::fmt;

/// What a service does about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// It passes by itself (a server is away, restarts or is busy): wait with back-off and try again.
    Retry,
    /// Somebody must do something first: stop with the message.
    Stop,
}

/// An error that says what happened and where, what to do about it, and what the service does.
///
/// `Display` gives the whole message on one line: context, cause chain and remedy.
#[derive(Debug)]
pub struct Error {
    policy: Policy,
    cause: anyhow::Error,
    remedy: Option<String>,
    interrupted: bool,
}

/// A result with the classified [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error that passes by itself.
    pub fn retry(cause: impl Into<anyhow::Error>) -> Self {
        Self {
            policy: Policy::Retry,
            cause: cause.into(),
            remedy: None,
            interrupted: false,
        }
    }

    /// An error that needs somebody.
    pub fn stop(cause: impl Into<anyhow::Error>) -> Self {
        Self {
            policy: Policy::Stop,
            cause: cause.into(),
            remedy: None,
            interrupted: false,
        }
    }

    /// [`Error::stop`] from a message alone.
    pub fn stop_msg(message: impl fmt::Display) -> Self {
        Self::stop(anyhow::anyhow!("{message}"))
    }

    /// [`Error::retry`] from a message alone.
    pub fn retry_msg(message: impl fmt::Display) -> Self {
        Self::retry(anyhow::anyhow!("{message}"))
    }

    /// A shutdown ended the wait for `what`: nothing is wrong. It travels up like an error that stops, and
    /// the service ends with success.
    pub fn interrupted(what: impl fmt::Display) -> Self {
        Self {
            interrupted: true,
            ..Self::stop(anyhow::anyhow!("{what}: ended by the shutdown"))
        }
    }

    /// Whether it is only the shutdown: see [`Error::interrupted`].
    pub const fn is_interrupted(&self) -> bool {
        self.interrupted
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Adds what was being done, in the present tense ("create the slot 'shop'").
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display + Send + Sync + 'static) -> Self {
        self.cause = self.cause.context(doing);
        self
    }

    /// What the service does about it.
    pub const fn policy(&self) -> Policy {
        self.policy
    }

    /// The remedy on its own, where there is one.
    pub fn remedy_text(&self) -> Option<&str> {
        self.remedy.as_deref()
    }

    /// The error that lies under it.
    pub const fn cause(&self) -> &anyhow::Error {
        &self.cause
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.cause)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; to do: {remedy}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.cause.as_ref())
    }
}

/// Adds context to the error of a result.
pub trait ResultExt<T> {
    /// Adds what was being done, in the present tense; evaluated only for an error.
    ///
    /// # Errors
    /// The error of `self`, with the context.
    fn doing<C: fmt::Display + Send + Sync + 'static>(self, doing: impl FnOnce() -> C)
    -> Result<T>;
}

impl<T> ResultExt<T> for Result<T> {
    fn doing<C: fmt::Display + Send + Sync + 'static>(self, doing: impl FnOnce() -> C) -> Self {
        self.map_err(|error| error.context(doing()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, Policy, ResultExt};

    #[test]
    fn the_message_has_context_cause_and_remedy() {
        let error = Error::stop_msg("permission denied for table order")
            .remedy("GRANT SELECT ON sales.order TO tributary");
        let error = Err::<(), _>(error)
            .doing(|| "read table sales.order")
            .unwrap_err();
        assert_eq!(error.policy(), Policy::Stop);
        assert_eq!(
            error.to_string(),
            "read table sales.order: permission denied for table order; to do: GRANT SELECT ON sales.order TO tributary"
        );
    }
}
