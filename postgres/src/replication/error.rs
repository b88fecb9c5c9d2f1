//! What can go wrong on a replication connection, with all that a classifier needs.

use std::fmt;
use std::io;
use std::time::Duration;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorFields;

/// An error of a replication connection: what was being done, and what happened.
///
/// `Display` is the whole message. It never holds the password, nor the server's DETAIL, which may quote
/// row values.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {failure}")]
pub struct ReplicationError {
    doing: String,
    failure: Failure,
}

/// What happened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The configuration cannot be used; says what to change.
    #[error("{0}")]
    Settings(String),
    /// The server cannot be reached.
    #[error("cannot reach the server: {0}")]
    Unreachable(io::Error),
    /// The server did not answer in time.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The server refused the log-in, or we refused the server; not a wrong password, which is a
    /// [`Failure::Server`] with SQLSTATE 28P01.
    #[error("{0}")]
    Authentication(String),
    /// The server reported an error.
    #[error("{0}")]
    Server(Box<ServerError>),
    /// Reading or writing failed.
    #[error("connection lost: {0}")]
    Lost(io::Error),
    /// The server closed the connection without a word: it crashed, was killed, or `wal_sender_timeout`
    /// passed without a status from us.
    #[error("connection lost: the server closed it")]
    Closed,
    /// The server ended the stream in good order, as it does when it shuts down.
    #[error("the server ended the stream (it shuts down)")]
    Ended,
    /// The server sent what the protocol does not allow.
    #[error("protocol violation: {0}")]
    Protocol(String),
}

/// An error as the server reported it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerError {
    /// `ERROR`, `FATAL` or `PANIC`, never translated.
    pub severity: String,
    /// The five characters of the SQLSTATE.
    pub sqlstate: String,
    /// The message, in the server's language.
    pub message: String,
    /// What the server advises.
    pub hint: Option<String>,
}

impl ReplicationError {
    /// What happened.
    pub const fn failure(&self) -> &Failure {
        &self.failure
    }

    /// The server's error, if it reported one.
    pub fn server(&self) -> Option<&ServerError> {
        match &self.failure {
            Failure::Server(error) => Some(error),
            _ => None,
        }
    }

    /// The SQLSTATE of the server's error, if it reported one.
    pub fn sqlstate(&self) -> Option<&str> {
        self.server().map(|error| error.sqlstate.as_str())
    }

    /// The server is away, goes away or comes up: a new connection, later, may well succeed.
    ///
    /// True for everything below SQL (unreachable, timed out, lost, ended) and for the SQLSTATEs of
    /// shutdown, crash and start-up (57P01, 57P02, 57P03) and of class 08 (connection exception).
    pub fn is_connection_lost(&self) -> bool {
        match &self.failure {
            Failure::Unreachable(_)
            | Failure::TimedOut(_)
            | Failure::Lost(_)
            | Failure::Closed
            | Failure::Ended => true,
            Failure::Server(error) => {
                matches!(error.sqlstate.as_str(), "57P01" | "57P02" | "57P03")
                    || error.sqlstate.starts_with("08")
            }
            Failure::Settings(_) | Failure::Authentication(_) | Failure::Protocol(_) => false,
        }
    }
}

impl Failure {
    /// Adds what was being done, in the present tense.
    pub(super) fn during(self, doing: impl Into<String>) -> ReplicationError {
        ReplicationError {
            doing: doing.into(),
            failure: self,
        }
    }
}

impl ServerError {
    /// Reads the fields of an `ErrorResponse`.
    pub(super) fn read(mut fields: ErrorFields<'_>) -> io::Result<Self> {
        let mut error = Self::default();
        let mut translated_severity = String::new();
        while let Some(field) = fields.next()? {
            let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'V' => error.severity = value,
                b'S' => translated_severity = value,
                b'C' => error.sqlstate = value,
                b'M' => error.message = value,
                b'H' => error.hint = Some(value),
                _ => {}
            }
        }
        if error.severity.is_empty() {
            error.severity = translated_severity;
        }
        Ok(error)
    }

    /// The connection goes on after this error.
    pub(super) fn leaves_connection(&self) -> bool {
        self.severity == "ERROR"
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            severity,
            sqlstate,
            message,
            hint,
        } = self;
        write!(f, "{message} ({severity}, SQLSTATE {sqlstate})")?;
        match hint {
            Some(hint) => write!(f, "; hint: {hint}"),
            None => Ok(()),
        }
    }
}
