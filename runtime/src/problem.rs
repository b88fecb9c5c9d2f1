//! Something that is wrong before a service starts: reported together with all the others.

use std::fmt;

/// One finding of a validation or of `check`: what is wrong and where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// What is wrong, and where. Never a secret.
    pub what: String,
    /// What to do: a setting, an SQL statement, an ACL.
    pub remedy: Option<String>,
    /// Nothing that keeps the service from running: somebody should know it all the same.
    #[serde(skip)]
    pub is_note: bool,
}

impl Problem {
    /// A problem without a remedy of its own.
    pub fn new(what: impl fmt::Display) -> Self {
        Self {
            what: what.to_string(),
            remedy: None,
            is_note: false,
        }
    }

    /// A finding that keeps nothing from running.
    pub fn note(what: impl fmt::Display) -> Self {
        Self {
            is_note: true,
            ..Self::new(what)
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// A problem that stops the service.
impl From<Problem> for crate::Error {
    fn from(problem: Problem) -> Self {
        let error = Self::stop_msg(problem.what);
        match problem.remedy {
            Some(remedy) => error.remedy(remedy),
            None => error,
        }
    }
}

impl From<&crate::Error> for Problem {
    fn from(error: &crate::Error) -> Self {
        Self {
            what: format!("{:#}", error.cause()),
            remedy: error.remedy_text().map(str::to_owned),
            is_note: false,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; to do: {remedy}"),
            None => Ok(()),
        }
    }
}
