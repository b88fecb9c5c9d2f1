//! Where the tables are that a sink's topics come from.

use serde::Deserialize;
use tributary_runtime::Problem;
use tributary_runtime::config::Secret;

use crate::database::{Database, UrlError};

/// `[postgres]` of a sink: the database that its topics come from, for `verify` alone.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OriginConfig {
    /// `postgres://user@host:port/database`, as in the source's configuration; a secret, since it may hold a password.
    pub url: Secret,
    /// The user's password, where the URL has none. Also `password_file`.
    pub password: Option<Secret>,
    /// The source's name: its slot tells how far the log is. Where the database has the slot of one source only, that one.
    pub source: Option<String>,
}

impl OriginConfig {
    /// The database; `application` is what the server shows of us.
    ///
    /// # Errors
    /// The URL lacks something, or asks for what is not built.
    pub fn database(&self, application: &str) -> Result<Database, UrlError> {
        Database::new(&self.url, self.password.as_ref(), application.to_owned())
    }

    /// What is wrong with the values, without a connection.
    pub fn validate(&self) -> Vec<Problem> {
        let wrong = self.database("").err();
        let problem = |error| {
            Problem::new(format!("`postgres.url`: {error}"))
                .remedy("write it like postgres.url = \"postgres://user@host:5432/database\"")
        };
        wrong.map(problem).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::OriginConfig;

    #[test]
    fn a_url_that_cannot_be_used_is_told_without_it() {
        let config = |url: &str| OriginConfig {
            url: tributary_runtime::config::Secret::new(url),
            password: None,
            source: None,
        };
        assert_eq!(config("postgres://me@db/shop").validate(), []);
        for wrong in ["hush", "postgres://db/hush", "postgres://hush@db"] {
            let problems = config(wrong).validate();
            let [problem] = problems.as_slice() else {
                panic!("{problems:?}");
            };
            assert!(!format!("{problem:?}").contains("hush"), "{problem:?}");
        }
    }
}
