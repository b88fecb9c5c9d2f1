//! The error policy of Postgres, on one page: what an SQLSTATE means to the source, whether it passes, and what to do.

use tokio_postgres::error::SqlState;
use tributary_runtime::{Error, Policy};

use crate::replication::ReplicationError;

/// A row of the table.
struct Directive {
    /// SQLSTATEs, or what they begin with.
    states: &'static [&'static str],
    policy: Policy,
    /// What to do; `{user}` stands for the connection's. None where the server's message says it, or it passes by itself.
    remedy: Option<&'static str>,
}

/// The table: the first row that has a state decides, and without one it stops. docs/operations.md has the same rows for
/// whoever reads a message.
const DIRECTIVES: [Directive; 6] = [
    Directive {
        states: &["28P01", "28000"],
        policy: Policy::Stop,
        remedy: Some(
            "correct postgres.password (or password_file) of user '{user}', or its line in pg_hba.conf",
        ),
    },
    Directive {
        states: &["42501"],
        policy: Policy::Stop,
        remedy: Some(
            "give user '{user}' what is missing: REPLICATION, and USAGE on the schemas and SELECT on the tables (run \
             `tributary-source check` for the statements)",
        ),
    },
    Directive {
        states: &["3D000"],
        policy: Policy::Stop,
        remedy: Some("correct the database in postgres.url"),
    },
    // Another instance holds the slot.
    Directive {
        states: &["55006"],
        policy: Policy::Retry,
        remedy: None,
    },
    // Two instances at the same moment: one publication created twice, a table gone between two looks, a conflict, a
    // deadlock, a lock.
    Directive {
        states: &["42710", "23505", "42704", "40001", "40P01", "55P03"],
        policy: Policy::Retry,
        remedy: None,
    },
    // The connection, the server's resources, a shutdown, its files, a time-out or somebody who cancels.
    Directive {
        states: &["08", "53", "57P", "57014", "58"],
        policy: Policy::Retry,
        remedy: None,
    },
];

/// The stream needs something that did not exist where it stands in the WAL: with pgoutput a publication.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct UndefinedObject(pub(crate) ReplicationError);

/// Somebody else holds the slot: another instance of this source, or what the server has left of one.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ObjectInUse(String);

impl UndefinedObject {
    /// The server's message, in its language.
    pub fn message(&self) -> &str {
        self.0.server().map_or("", |error| error.message.as_str())
    }
}

/// What a server's error means to the source: the one place where an SQLSTATE decides.
pub(crate) fn classify(code: &SqlState, message: &str, user: &str) -> Error {
    let state = code.code();
    let text = format!("{message} (SQLSTATE {state})");
    let directive = DIRECTIVES.iter().find(|row| row.has(state));
    let error = match directive.map(|row| row.policy) {
        Some(Policy::Retry) if *code == SqlState::OBJECT_IN_USE => Error::retry(ObjectInUse(text)),
        Some(Policy::Retry) => Error::retry_msg(text),
        Some(Policy::Stop) | None => Error::stop_msg(text),
    };
    match directive.and_then(|row| row.remedy) {
        Some(remedy) => error.remedy(remedy.replace("{user}", user)),
        None => error,
    }
}

impl Directive {
    fn has(&self, state: &str) -> bool {
        self.states.iter().any(|begin| state.starts_with(begin))
    }
}

/// Classifies an error of an ordinary connection.
pub(crate) fn explain(error: tokio_postgres::Error, user: &str) -> Error {
    match error.as_db_error() {
        Some(db) => {
            let message = match db.detail() {
                Some(detail) if !shows_values(db.code()) => {
                    format!("{} ({detail})", db.message())
                }
                _ => db.message().to_owned(),
            };
            classify(db.code(), &message, user)
        }
        None if error.is_closed() || is_io(&error) => Error::retry(error),
        None => Error::stop(error),
    }
}

/// Whether a table, its schema or a column is not there any more, or has another name.
pub fn is_undefined(error: &tokio_postgres::Error) -> bool {
    let undefined = [
        SqlState::UNDEFINED_TABLE,
        SqlState::INVALID_SCHEMA_NAME,
        SqlState::UNDEFINED_COLUMN,
    ];
    error.code().is_some_and(|code| undefined.contains(code))
}

/// The classes of error whose detail quotes the row.
fn shows_values(code: &SqlState) -> bool {
    code.code().starts_with("22") || code.code().starts_with("23")
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if current.is::<std::io::Error>() {
            return true;
        }
        cause = current.source();
    }
    error.to_string().contains("timeout") || error.to_string().contains("timed out")
}

#[cfg(test)]
mod tests {
    use tokio_postgres::error::SqlState;
    use tributary_runtime::Policy;

    use super::{DIRECTIVES, ObjectInUse, classify};

    #[test]
    fn each_state_has_its_row() {
        for (state, policy, remedy) in [
            (
                "28P01",
                Policy::Stop,
                Some("of user 'u', or its line in pg_hba.conf"),
            ),
            (
                "42501",
                Policy::Stop,
                Some("give user 'u' what is missing: REPLICATION"),
            ),
            ("3D000", Policy::Stop, Some("correct the database")),
            ("55006", Policy::Retry, None),
            ("40P01", Policy::Retry, None),
            ("42704", Policy::Retry, None),
            ("08006", Policy::Retry, None),
            ("53300", Policy::Retry, None),
            ("57P03", Policy::Retry, None),
            ("57014", Policy::Retry, None),
            ("58030", Policy::Retry, None),
            ("57000", Policy::Stop, None),
            ("42601", Policy::Stop, None),
        ] {
            let error = classify(&SqlState::from_code(state), "what", "u");
            assert_eq!(error.policy(), policy, "{state}");
            let found = error.remedy_text().unwrap_or_default();
            assert!(
                found.contains(remedy.unwrap_or_default()),
                "{state}: {found}"
            );
            assert_eq!(error.remedy_text().is_some(), remedy.is_some(), "{state}");
            assert!(
                error
                    .to_string()
                    .contains(&format!("what (SQLSTATE {state})"))
            );
            let is_in_use = error.cause().downcast_ref::<ObjectInUse>().is_some();
            assert_eq!(is_in_use, state == "55006");
        }
    }

    #[test]
    fn every_row_of_the_policy_is_documented() {
        let docs = include_str!("../../docs/operations.md");
        for row in &DIRECTIVES {
            let states = row.states.join(", ");
            let documented = docs
                .lines()
                .find(|line| line.starts_with(&format!("| SQLSTATE {states} ")))
                .unwrap_or_else(|| panic!("{states} has no row"));
            let retried = row.policy == Policy::Retry;
            assert_eq!(
                documented.contains("(tried again)"),
                retried,
                "{documented}"
            );
            if let Some(remedy) = row.remedy {
                let remedy = remedy
                    .split(" (")
                    .next()
                    .unwrap()
                    .replace("{user}", "…")
                    .replace('\'', "")
                    .to_lowercase();
                assert!(
                    documented.to_lowercase().contains(&remedy),
                    "{documented}: {remedy}"
                );
            }
        }
    }
}
