//! The error policy of the registry, on one page: what can go wrong, whether it passes, and what to do about it.

use std::error::Error as _;
use std::fmt;

use http::StatusCode;
use schema_registry_converter::error::SRCError;

use crate::{Error, Policy};

/// What can go wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// No answer in time.
    Silent,
    /// No connection, or one that broke before the whole answer was there.
    Unreachable,
    /// 408, 429 or 5xx.
    Busy,
    /// 401 or 403.
    NotAllowed,
    /// The API's own 404: no such subject, version, schema or setting.
    Missing,
    /// 409: incompatible with what the subject has.
    Conflict,
    /// Any other status that is no success; 422 for an invalid schema.
    Refused,
    /// Not a Confluent API: a 404 of another kind, or a success that does not say what was asked.
    Foreign,
    /// An answer beyond the bound.
    TooLarge,
}

impl Kind {
    /// The kind of a refusal, by its status and the `error_code` of its body. Any web server answers 404 to a path
    /// that it does not know; the API's own has a code.
    pub(super) const fn of(status: StatusCode, code: Option<u32>) -> Self {
        match status.as_u16() {
            404 if matches!(code, Some(40_400..=40_499)) => Self::Missing,
            404 => Self::Foreign,
            401 | 403 => Self::NotAllowed,
            409 => Self::Conflict,
            408 | 429 | 500..=599 => Self::Busy,
            _ => Self::Refused,
        }
    }

    /// The table. docs/operations.md has the same rows for whoever reads a message.
    const fn directive(self) -> (Policy, Option<&'static str>) {
        match self {
            Self::Silent | Self::Unreachable | Self::Busy => (Policy::Retry, None),
            Self::NotAllowed => (
                Policy::Stop,
                Some("give kafka.registry a user and password that may do this"),
            ),
            Self::Foreign | Self::TooLarge => (
                Policy::Stop,
                Some(
                    "set kafka.registry to the API's base URL: http://host:8081, with Apicurio \
                     http://host:8080/apis/ccompat/v7",
                ),
            ),
            // Who asked knows the remedy: `incompatible` below, and a schema or a subject that is missing
            // is no error to most callers. A refusal's own message says why.
            Self::Conflict | Self::Missing | Self::Refused => (Policy::Stop, None),
        }
    }
}

/// What went wrong with a request, and what was said about it.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    /// The status and message of a refusal, or the cause.
    detail: String,
}

impl Fault {
    pub(super) const fn new(kind: Kind, detail: String) -> Self {
        Self { kind, detail }
    }

    /// What answers does not speak the API.
    pub(super) const fn foreign() -> Self {
        Self::new(Kind::Foreign, String::new())
    }

    /// The classified error; `server` is the registry's URL as it may be printed.
    pub(super) fn into_error(self, server: &str) -> Error {
        let detail = self.detail;
        let what = match self.kind {
            Kind::Silent => format!("the registry {server} does not answer in time: {detail}"),
            Kind::Unreachable => format!("the registry {server} cannot be reached: {detail}"),
            Kind::Foreign => {
                format!("what answers at {server} is not a schema registry's Confluent API")
            }
            Kind::Busy
            | Kind::NotAllowed
            | Kind::Missing
            | Kind::Conflict
            | Kind::Refused
            | Kind::TooLarge => format!("the registry {server} answers {detail}"),
        };
        let (policy, remedy) = self.kind.directive();
        let error = match policy {
            Policy::Retry => Error::retry_msg(what),
            Policy::Stop => Error::stop_msg(what),
        };
        match remedy {
            Some(remedy) => error.remedy(remedy),
            None => error,
        }
    }

    /// The error of a [`Kind::Conflict`] when a schema is registered.
    pub(super) fn incompatible(self, subject: &str) -> Error {
        let what = format!("the registry says that it is incompatible: {}", self.detail);
        Error::stop_msg(what).remedy(format!(
            "undo the change of the table; or set the compatibility of subject '{subject}' to NONE and start the \
             source, which sets it back"
        ))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.detail)
    }
}

impl std::error::Error for Fault {}

impl From<reqwest_middleware::Error> for Fault {
    fn from(error: reqwest_middleware::Error) -> Self {
        found(&error)
    }
}

/// The crate's own classification is left aside: see [`answer`](super::answer).
impl From<SRCError> for Fault {
    fn from(error: SRCError) -> Self {
        error
            .source()
            .and_then(|source| source.downcast_ref())
            .map_or_else(Self::foreign, found)
    }
}

/// What the middleware found out. Without it the answer was a success, but not the one that was asked for.
fn found(error: &reqwest_middleware::Error) -> Fault {
    match error {
        reqwest_middleware::Error::Middleware(cause) => cause
            .downcast_ref::<Fault>()
            .cloned()
            .unwrap_or_else(Fault::foreign),
        reqwest_middleware::Error::Reqwest(_) => Fault::foreign(),
    }
}
