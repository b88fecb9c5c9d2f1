//! What Postgres makes of `[warehouse]`.

use std::str::FromStr as _;

use tokio_postgres::config::SslMode;
use tributary_runtime::Problem;

use crate::config::Warehouse;
use crate::postgres::rules::Postgres;
use crate::warehouse::rules::identifier;

/// What is wrong with the values, without a connection.
pub(crate) fn validate(warehouse: &Warehouse) -> Vec<Problem> {
    let mut problems: Vec<_> = connection(warehouse).err().into_iter().collect();
    if warehouse.max_connections == 0 {
        problems
            .push(Problem::new("`warehouse.max_connections` is 0").remedy("set it to 1 or more"));
    }
    if warehouse.statement_timeout_ms < 1_000 {
        problems.push(
            Problem::new("`warehouse.statement_timeout_ms` is below 1000")
                .remedy("set it to what the largest batch may take, 1000 or more"),
        );
    }
    if warehouse.rewrite_timeout_ms < warehouse.statement_timeout_ms {
        problems.push(
            Problem::new(
                "`warehouse.rewrite_timeout_ms` is below `warehouse.statement_timeout_ms`",
            )
            .remedy("set it to what the rewrite of the largest table may take"),
        );
    }
    if let Some(schema) = &warehouse.schema
        && let Err(error) = identifier::<Postgres>(schema)
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
pub(crate) fn connection(warehouse: &Warehouse) -> Result<tokio_postgres::Config, Problem> {
    let url = warehouse.url.expose();
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
    if let Some(password) = &warehouse.password {
        config.password(password.expose());
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::{connection, validate};
    use crate::config::{Dialect, Warehouse};

    fn warehouse(toml: &str) -> Warehouse {
        toml::from_str(toml).unwrap()
    }

    fn problem(toml: &str) -> String {
        let problems = validate(&warehouse(toml));
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems[0].to_string()
    }

    #[test]
    fn the_smallest_configuration_has_defaults() {
        let warehouse = warehouse("url = 'postgres://tributary@db/shop'\ndialect = 'postgres'");
        assert_eq!(validate(&warehouse), []);
        assert_eq!(warehouse.dialect, Dialect::Postgres);
        assert_eq!(
            (warehouse.max_connections, warehouse.statement_timeout_ms),
            (8, 300_000)
        );
        assert_eq!(warehouse.rewrite_timeout_ms, 86_400_000);
        let connection = connection(&warehouse).unwrap();
        assert_eq!(connection.get_dbname(), Some("shop"));
        assert_eq!(connection.get_password(), None);
    }

    #[test]
    fn the_password_is_used_and_never_shown() {
        let warehouse = warehouse(
            "url = 'postgres://u:urlsecret@db/shop'\npassword = 'keysecret'\ndialect = 'postgres'",
        );
        assert_eq!(
            connection(&warehouse).unwrap().get_password(),
            Some(&b"keysecret"[..])
        );
        let shown = format!("{warehouse:?}");
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn what_cannot_work_is_said_before_a_connection_is_made() {
        for (toml, part) in [
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
}
