//! `[warehouse]`: which database to write to, and how.

use std::str::FromStr as _;

use serde::Deserialize;
use tokio_postgres::config::SslMode;
use tributary_runtime::Problem;
use tributary_runtime::config::Secret;

/// `[warehouse]`: which database to keep equal to the topics.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Warehouse {
    /// `postgres://user@host:5432/database`; a secret, since it may hold a password.
    pub url: Secret,
    /// The password, if the URL has none.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Which SQL the database speaks.
    pub dialect: Dialect,
    /// One schema for all tables and the ledger. By default a table goes to the schema that it has in the
    /// source, and the ledger to `_tributary`.
    #[serde(default)]
    pub schema: Option<String>,
    /// Connections at most, over all partitions.
    #[serde(default = "default_max_connections")]
    pub max_connections: usize,
    /// The longest that one statement of a batch may take, in milliseconds; its transaction may take twice as long.
    #[serde(default = "default_statement_timeout_ms")]
    pub statement_timeout_ms: u64,
    /// The longest that a statement may take which works on a whole table (a column is widened, rows below a truncate
    /// are deleted), in milliseconds.
    #[serde(default = "default_rewrite_timeout_ms")]
    pub rewrite_timeout_ms: u64,
}

/// Which SQL a warehouse speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// PostgreSQL 14 or newer.
    Postgres,
    /// Amazon Redshift.
    Redshift,
}

const fn default_max_connections() -> usize {
    8
}

const fn default_statement_timeout_ms() -> u64 {
    300_000
}

/// A day: what takes longer has somebody looking after it.
const fn default_rewrite_timeout_ms() -> u64 {
    86_400_000
}

impl Warehouse {
    /// What is wrong with the values, without a connection.
    pub fn validate(&self) -> Vec<Problem> {
        if self.dialect == Dialect::Redshift {
            return vec![
                Problem::new("`warehouse.dialect` is \"redshift\", which this version cannot write to yet")
                    .remedy("set `warehouse.dialect` to \"postgres\" and `warehouse.url` to a PostgreSQL database"),
            ];
        }
        let mut problems: Vec<_> = self.connection().err().into_iter().collect();
        if self.max_connections == 0 {
            problems.push(
                Problem::new("`warehouse.max_connections` is 0").remedy("set it to 1 or more"),
            );
        }
        if self.statement_timeout_ms < 1_000 {
            problems.push(
                Problem::new("`warehouse.statement_timeout_ms` is below 1000")
                    .remedy("set it to what the largest batch may take, 1000 or more"),
            );
        }
        if self.rewrite_timeout_ms < self.statement_timeout_ms {
            problems.push(
                Problem::new(
                    "`warehouse.rewrite_timeout_ms` is below `warehouse.statement_timeout_ms`",
                )
                .remedy("set it to what the rewrite of the largest table may take"),
            );
        }
        if let Some(schema) = &self.schema
            && let Err(error) = crate::name::identifier(schema)
        {
            problems.push(
                Problem::new(format!("`warehouse.schema`: {:#}", error.cause()))
                    .remedy("choose another name"),
            );
        }
        problems
    }

    /// The parsed URL with the password.
    ///
    /// # Errors
    /// What is wrong with the URL; it is not quoted, and nothing that the parser says of it, since any part of
    /// a malformed URL may be the password.
    pub fn connection(&self) -> Result<tokio_postgres::Config, Problem> {
        let url = self.url.expose();
        let scheme = url.starts_with("postgres://") || url.starts_with("postgresql://");
        let parsed = tokio_postgres::Config::from_str(url).ok();
        let usable = parsed.filter(|config| scheme && !config.get_hosts().is_empty());
        let Some(mut config) = usable else {
            return Err(Problem::new("`warehouse.url` is no URL of a PostgreSQL database").remedy(
                "write it as postgres://user@host:5432/database, special characters in percent encoding; \
                 sslmode can be disable or prefer",
            ));
        };
        if config.get_ssl_mode() == SslMode::Require {
            return Err(Problem::new(
                "`warehouse.url` asks for TLS (sslmode=require), which is not there yet",
            )
            .remedy("use sslmode=disable on a private network, or a local tunnel"));
        }
        // Nothing of ours could answer a server that took the offer.
        config.ssl_mode(SslMode::Disable);
        if let Some(password) = &self.password {
            config.password(password.expose());
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::{Dialect, Warehouse};

    fn warehouse(toml: &str) -> Warehouse {
        toml::from_str(toml).unwrap()
    }

    fn problem(toml: &str) -> String {
        let problems = warehouse(toml).validate();
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems[0].to_string()
    }

    #[test]
    fn the_smallest_configuration_has_defaults() {
        let warehouse = warehouse("url = 'postgres://tributary@db/shop'\ndialect = 'postgres'");
        assert_eq!(warehouse.validate(), []);
        assert_eq!(warehouse.dialect, Dialect::Postgres);
        assert_eq!(
            (warehouse.max_connections, warehouse.statement_timeout_ms),
            (8, 300_000)
        );
        assert_eq!(warehouse.rewrite_timeout_ms, 86_400_000);
        let connection = warehouse.connection().unwrap();
        assert_eq!(connection.get_dbname(), Some("shop"));
        assert_eq!(connection.get_password(), None);
    }

    #[test]
    fn the_password_is_used_and_never_shown() {
        let warehouse = warehouse(
            "url = 'postgres://u:urlsecret@db/shop'\npassword = 'keysecret'\ndialect = 'postgres'",
        );
        assert_eq!(
            warehouse.connection().unwrap().get_password(),
            Some(&b"keysecret"[..])
        );
        let shown = format!("{warehouse:?}");
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn what_cannot_work_is_said_before_a_connection_is_made() {
        for (toml, part) in [
            (
                "url = 'postgres://db/shop'\ndialect = 'redshift'",
                "cannot write to yet",
            ),
            (
                "url = 'postgres://u:geheim@db:x/shop'\ndialect = 'postgres'",
                "no URL",
            ),
            ("url = 'http://db/shop'\ndialect = 'postgres'", "no URL"),
            (
                "url = 'postgres://db/shop?sslmode=require'\ndialect = 'postgres'",
                "asks for TLS",
            ),
            (
                "url = 'postgres://db/shop'\ndialect = 'postgres'\nmax_connections = 0",
                "max_connections",
            ),
            (
                "url = 'postgres://db/shop'\ndialect = 'postgres'\nstatement_timeout_ms = 5",
                "below 1000",
            ),
            (
                "url = 'postgres://db/shop'\ndialect = 'postgres'\nrewrite_timeout_ms = 299999",
                "rewrite_timeout_ms",
            ),
            (
                "url = 'postgres://db/shop'\ndialect = 'postgres'\nschema = ''",
                "warehouse.schema",
            ),
        ] {
            let problem = problem(toml);
            assert!(problem.contains(part), "{problem}");
            assert!(!problem.contains("geheim"), "{problem}");
        }
    }

    #[test]
    fn unknown_keys_and_dialects_are_errors() {
        for toml in [
            "url = 'postgres://db/shop'\ndialect = 'oracle'",
            "url = 'postgres://db/shop'\ndialect = 'postgres'\ntable_prefix = 'x'",
            "url = 'postgres://db/shop'",
        ] {
            assert!(toml::from_str::<Warehouse>(toml).is_err());
        }
    }
}
