//! Why a statement failed: the errors of Postgres and of the connection, with what was being done.

use std::error::Error as _;

use tokio_postgres::error::DbError;
use tributary_runtime::Error;

use crate::postgres::sqlstate::{Verdict, directive};
use crate::warehouse::failure::Failure;

/// Classifies the error of a statement.
pub(crate) trait Attempt<T> {
    /// `doing` is in the present tense; `grant` is what a missing privilege asks for.
    fn attempt(
        self,
        doing: impl FnOnce() -> String,
        grant: impl FnOnce() -> String,
    ) -> Result<T, Failure>;
}

impl<T> Attempt<T> for Result<T, tokio_postgres::Error> {
    fn attempt(
        self,
        doing: impl FnOnce() -> String,
        grant: impl FnOnce() -> String,
    ) -> Result<T, Failure> {
        self.map_err(|error| match classify(&error) {
            Failure::Target(target) => {
                let denied = error.code().is_some_and(|code| code.code() == "42501");
                let target = if denied {
                    target.remedy(grant())
                } else {
                    target
                };
                Failure::Target(target.context(doing()))
            }
            record => record,
        })
    }
}

/// Sorts an error into what is tried again, what stops, and what is a record's own fault.
pub(crate) fn classify(error: &tokio_postgres::Error) -> Failure {
    let Some(db) = error.as_db_error() else {
        return Failure::Target(client_error(error));
    };
    let row = directive(db.code().code());
    let error = match row.map(|row| row.verdict) {
        Some(Verdict::Record) => {
            return Failure::Record {
                line: None,
                reason: reason(db),
            };
        }
        Some(Verdict::Retry) => Error::retry_msg(describe(db)),
        Some(Verdict::Stop) | None => Error::stop_msg(describe(db)),
    };
    Failure::Target(match row.and_then(|row| row.remedy) {
        Some(remedy) => error.remedy(remedy),
        None => error,
    })
}

/// An error that the server did not send: the connection, or our own configuration.
fn client_error(error: &tokio_postgres::Error) -> Error {
    let mut message = error.to_string();
    let source = error.source();
    // Some kinds name their source in their own text, others do not.
    if let Some(source) = source.map(ToString::to_string)
        && !message.contains(&source)
    {
        message = format!("{message}: {source}");
    }
    match source {
        Some(source) if !source.is::<std::io::Error>() => {
            Error::stop_msg(message).remedy("correct [warehouse] in the configuration")
        }
        _ => Error::retry_msg(message),
    }
}

fn class(code: &str) -> &str {
    code.get(..2).unwrap_or(code)
}

/// The server's message where its class speaks of objects, never of values; the bare code otherwise.
fn describe(db: &DbError) -> String {
    let code = db.code().code();
    match class(code) {
        "08" | "0A" | "25" | "28" | "3D" | "2B" | "40" | "42" | "53" | "55" | "57" | "58" => {
            format!("{} (SQLSTATE {code})", db.message())
        }
        "23" => {
            let name = db.constraint().map(|name| format!("; constraint '{name}'"));
            format!(
                "the warehouse refuses the statement (SQLSTATE {code}{})",
                name.unwrap_or_default()
            )
        }
        _ => format!("the warehouse refuses the statement (SQLSTATE {code})"),
    }
}

/// What is wrong with a record, by code: the server's own message would show the value.
fn reason(db: &DbError) -> String {
    let code = db.code().code();
    let what = match code {
        "22001" => "a text is too long for its column",
        "22003" => "a number is out of its column's range",
        "22007" | "22008" => "a date, time or interval is out of range or malformed",
        "22021" => "a text holds bytes that the encoding does not have (a NUL, for one)",
        "22P02" => "a value is not in the form that its column takes",
        "22P05" => "a text holds a character that the warehouse's encoding does not have",
        "22P06" | "22030" | "22032" => "a JSON text is malformed",
        "23502" => "a column that takes no null would be null",
        "23514" => "a check constraint refuses the row",
        "54001" => "a value is nested too deeply",
        "54000" => "a value is too large (an index entry holds at most a third of a page)",
        _ => "a value does not fit its column",
    };
    match db.column().or_else(|| db.constraint()) {
        Some(name) => format!("{what} ('{name}', SQLSTATE {code})"),
        None => format!("{what} (SQLSTATE {code})"),
    }
}

/// The failure of a COPY into the temporary table `stage`: which line, and which of `columns`.
///
/// The context reads `COPY stage, line 3, column price: "..."`, in the server's language; only the names that
/// we know ourselves are taken from it, the rest may be a value.
pub(crate) fn copy_failure<'a>(
    error: &tokio_postgres::Error,
    stage: &str,
    columns: impl Iterator<Item = &'a str>,
) -> Failure {
    let failure = classify(error);
    let context = error.as_db_error().and_then(DbError::where_);
    let (Failure::Record { reason, .. }, Some(context)) = (&failure, context) else {
        return failure;
    };
    let (line, column) = copy_position(context, stage, columns);
    let reason = match column {
        Some(column) => format!("column '{column}': {reason}"),
        None => reason.clone(),
    };
    Failure::Record { line, reason }
}

fn copy_position<'a>(
    context: &str,
    stage: &str,
    columns: impl Iterator<Item = &'a str>,
) -> (Option<usize>, Option<&'a str>) {
    let Some((_, after)) = context.split_once(stage) else {
        return (None, None);
    };
    let Some(begin) = after.find(|c: char| c.is_ascii_digit()) else {
        return (None, None);
    };
    let number = &after[begin..];
    let end = number
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(number.len());
    let (line, rest) = number.split_at(end);
    let column = rest.strip_prefix(", column ").and_then(|rest| {
        columns
            .filter(|name| {
                rest.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with(':'))
            })
            .max_by_key(|name| name.len())
    });
    (line.parse().ok(), column)
}

#[cfg(test)]
mod tests {
    use super::copy_position;

    #[test]
    fn the_position_is_read_from_the_context() {
        let columns = ["a", "a: b", "price"];
        let position = |context| copy_position(context, "stage_7", columns.into_iter());
        assert_eq!(
            position("COPY stage_7, line 12, column price: \"x, line 3\""),
            (Some(12), Some("price"))
        );
        assert_eq!(
            position("COPY stage_7, line 2, column a: b: \"1\""),
            (Some(2), Some("a: b"))
        );
        assert_eq!(
            position("COPY stage_7, Zeile 5, Spalte price: »x«"),
            (Some(5), None)
        );
        assert_eq!(position("COPY stage_7, line 4"), (Some(4), None));
        assert_eq!(position("SQL statement \"7\""), (None, None));
    }
}
